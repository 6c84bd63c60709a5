"""Policies as flat parameter vectors. Knows numpy, and torch in three files; no simulator, no loss.

In reading order: policy, flat, layers, mlp, encoders, contract, own, torch_policy, build.
"""
