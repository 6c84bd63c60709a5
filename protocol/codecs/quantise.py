"""Numbers as small integers in blocks, each block times a scale of its own. Pure. Knows float32 [n]; no payload.

WIRE.md, section 4, "Quantised values". Used for all coordinates of a vector and for a chosen few alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocol.buffers import Buffer
from protocol.codecs.vectors import Floats, malformed

BLOCK = 256  # coordinates under one scale: 1.6 % of overhead, and small enough that one outlier spoils little
I8_TOP, I4_TOP = 127, 7  # largest levels
_LARGEST = float(np.finfo(np.float32).max)
_STRIDE = 64  # blocks quantised at a time, so that scratch stays in the core's own cache


def scale_max(top: int) -> float:
    """The largest float32 of which ``top`` are finite."""
    scale = np.float32(_LARGEST / top)
    while float(scale) * top > _LARGEST:
        scale = np.nextafter(scale, np.float32(0))
    return float(scale)


def _quiet(top: int) -> float:
    """A block whose largest magnitude is below this has no normal scale."""
    return top * float(np.finfo(np.float32).tiny)


def blocks(count: int) -> int:
    """How many blocks so many numbers fill."""
    return -(-count // BLOCK)


def quantise(values: Floats, top: int = I8_TOP) -> tuple[Floats, NDArray[np.int8]]:
    """values: float32 [n], finite. Gives scales float32 [ceil(n/256)] and levels int8 [n] in -top..top.

    Raises ValueError for NaN or infinity.
    """
    count = blocks(len(values))
    scales = np.empty(count, "<f4")
    levels = np.empty((count, BLOCK), np.int8)
    for first in range(0, count, _STRIDE):
        last = min(first + _STRIDE, count)
        _quantise_rows(rows(values[first * BLOCK : last * BLOCK]), scales[first:last], levels[first:last], top)
    return scales, levels.reshape(-1)[: len(values)]


def rows(values: Floats) -> Floats:
    """float32 [b, 256], the last row filled up with zeros, which change neither its maximum nor its levels."""
    if len(values) % BLOCK == 0:
        return values.reshape(-1, BLOCK)
    padded = np.zeros((blocks(len(values)), BLOCK), np.float32)
    padded.reshape(-1)[: len(values)] = values
    return padded


def _quantise_rows(block_rows: Floats, scales: Floats, levels: NDArray[np.int8], top: int) -> None:
    """block_rows: float32 [b, n]. Writes scales float32 [b] and levels int8 [b, n].

    Multiplying by top / max keeps |level| within top whatever the rounding, since 127.00002 still rounds to 127.
    """
    scratch = np.abs(block_rows)
    tops = scratch.max(axis=1)
    if not math.isfinite(float(tops.max())):
        raise ValueError("a quantised codec was given NaN or infinity")
    np.minimum(tops / np.float32(top), np.float32(scale_max(top)), out=scales)
    quiet = tops < _quiet(top)
    scales[quiet], tops[quiet] = 0.0, np.inf
    np.multiply(block_rows, (np.float32(top) / tops)[:, None], out=scratch)
    np.rint(scratch, out=scratch)
    np.copyto(levels, scratch, casting="unsafe")


def dequantise(scales: Floats, levels: NDArray[np.int8], out: Floats | None = None) -> Floats:
    """level * scale of its block, float32 [n]: one float32 multiplication, so every reader gets the same bits."""
    values = np.empty(len(levels), np.float32) if out is None else out
    whole = len(levels) - len(levels) % BLOCK
    full = (levels[:whole].reshape(-1, BLOCK), scales[: whole // BLOCK, None])
    np.multiply(*full, out=values[:whole].reshape(-1, BLOCK), dtype=np.float32)
    if whole < len(levels):
        np.multiply(levels[whole:], scales[-1], out=values[whole:], dtype=np.float32)
    return values


def read_scales(buffer: Buffer, offset: int, count: int, top: int) -> Floats:
    """Scales of ``count`` values, not yet copied. Raises PayloadFault for what no encoder writes."""
    scales: Floats = np.frombuffer(buffer, "<f4", blocks(count), offset)
    if count and (np.signbit(scales).any() or not float(scales.max()) <= scale_max(top)):  # not: NaN is refused too
        raise malformed(f"a scale that is negative, not finite, or too large for {top} of it")
    return scales


def read_levels(buffer: Buffer, offset: int, count: int) -> tuple[Floats, NDArray[np.int8]]:
    """Scales and int8 levels, not yet copied. Raises PayloadFault for what no encoder writes."""
    scales = read_scales(buffer, offset, count, I8_TOP)
    levels = np.frombuffer(buffer, np.int8, count, offset + 4 * len(scales))
    if count and levels.min() == -128:
        raise malformed("the value -128")
    return scales, levels
