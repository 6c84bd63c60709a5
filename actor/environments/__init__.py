"""Gymnasium's environments as plain arrays, in this process or in children. Knows simulators; no policy, no wire.

In reading order: signals, conversion, child_protocol, metrics, contract, vector, inprocess, pool, child, child_main,
isolated, registry.
"""
