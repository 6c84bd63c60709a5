"""How one flat vector is cut into named arrays. Pure. Knows names and shapes, not networks.

θ is one ``float32[P]``; its layout says which run of it is which parameter, in order and without gaps, so offsets
follow from shapes. Two sides hold the same layout exactly when they hold the same digest (WIRE.md, section 5).
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Annotated

import msgspec

MAX_PARAMETERS = 1 << 28  # a float32 vector of 1 GiB; the wire's frame limit binds earlier
MAX_ENTRIES = 4096  # arrays in one network; the largest convolutional policies have dozens

Dimension = Annotated[int, msgspec.Meta(ge=1, le=MAX_PARAMETERS)]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One parameter array. name: dotted path in the network. shape: () is one scalar."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    shape: Annotated[tuple[Dimension, ...], msgspec.Meta(max_length=8)]

    @property
    def size(self) -> int:
        """Elements of the array."""
        return math.prod(self.shape)


class Layout(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The arrays of θ in order."""

    entries: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1, max_length=MAX_ENTRIES)]

    @cached_property
    def length(self) -> int:
        """P, the number of parameters."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def digest(self) -> bytes:
        """Eight bytes that name this layout: BLAKE2b-64 of its msgpack form."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=8).digest()

    def slices(self) -> dict[str, slice]:
        """name -> its run in the flat vector."""
        start, runs = 0, {}
        for entry in self.entries:
            runs[entry.name] = slice(start, start + entry.size)
            start += entry.size
        return runs
