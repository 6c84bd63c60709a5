"""Policies as flat parameter vectors. Knows numpy, and torch in one file; no simulator, no loss.

In reading order: policy, flat, layers, mlp, torch_policy, build.
"""
