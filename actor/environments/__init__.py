"""Gymnasium's environments as plain arrays, in this process or in children. Knows simulators; no policy, no wire.

In reading order: modules, signals, spaces, contract, registry, vector, inprocess, child_protocol, child, child_main,
isolated.
"""
