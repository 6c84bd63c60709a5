"""Gymnasium's environments as plain arrays, in this process or in children. Knows simulators; no policy, no wire.

In reading order: signals, conversion, child_protocol, metrics, contract, masks, vector, inprocess, pool, wrappers,
child, child_main, isolated, registry.
"""
