"""Policies as flat parameter vectors. Knows torch and numpy; no simulator, no loss.

In reading order: policy, flat, layers, mlp, torch_policy, build.
"""
