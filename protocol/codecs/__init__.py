"""Vectors as bytes: every codec of the wire. Pure.

In reading order: vectors, quantise, dense, sparse, lowrank, lossless, registry, budget.
"""
