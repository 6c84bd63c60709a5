"""Policies as flat parameter vectors. Knows torch and numpy; no simulator, no loss.

In reading order: flat, layers, policy, torch_policy.
"""
