"""Codecs that carry a few coordinates: their indices as gaps or as a seed, their values short. Pure.

A gap is how many coordinates lie between an index and the one before it. Gaps are bytes or uint16; the largest unit
adds itself and reads on. Indices cannot but increase, whatever the bytes are (WIRE.md, section 4).
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from protocol.buffers import Buffer, size_of
from protocol.codecs.dense import F16_MAX
from protocol.codecs.quantise import blocks, dequantise, quantise, read_levels
from protocol.codecs.vectors import Array, Codec, Encoded, Factors, Floats, Indices, Sparse, malformed, sparse_of

_ESCAPES = {1: 255, 2: 65_535}  # gap width in bytes -> the unit that means "add me and read on"
SEED_BYTES = 8
_STRATA = 16_384  # drawn at a time, so that scratch does not grow with what a payload claims
SEEDS = 1 << 64


class Topk(Codec):
    """Gap width, values, then the gaps between indices."""

    selection = "largest"

    def encode(self, value: Array | Factors) -> Encoded:
        chosen = sparse_of(value)
        payload, read = self._write_values(chosen.values)
        width, gaps = write_gaps(chosen.indices)
        buffer = b"".join((bytes((width,)), payload, gaps))
        return Encoded(buffer, len(read), Sparse(chosen.length, chosen.indices, read))

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(size_of(buffer), length, count)
        width = buffer[0]
        if width not in _ESCAPES:
            raise malformed(f"gap width {width}, expected 1 or 2")
        values = self._read_values(buffer, 1, count)
        indices = read_gaps(buffer, 1 + self._values_bytes(count), width, length, count)
        return Sparse(length, indices, values)

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        lead_bytes = 1 + self._values_bytes(count)
        gaps_bytes = max(width * (count + length // escape) for width, escape in _ESCAPES.items())
        if count > length or not lead_bytes + count <= size_bytes <= lead_bytes + gaps_bytes:
            raise malformed(f"{self.name} with {count} coordinates of {length} in {size_bytes} bytes")

    @abstractmethod
    def _values_bytes(self, count: int) -> int:
        """Of so many values."""

    @abstractmethod
    def _write_values(self, values: Floats) -> tuple[bytes, Floats]:
        """Their bytes, and what is read from these."""

    @abstractmethod
    def _read_values(self, buffer: Buffer, offset: int, count: int) -> Floats:
        """float32 [count]. Raises PayloadFault."""


class TopkI8(Topk):
    """Values as ``I8`` has them, in blocks of 256 of those that are sent. Errors as for ``I8``."""

    name = "topk_i8"

    def _values_bytes(self, count: int) -> int:
        return 4 * blocks(count) + count

    def _write_values(self, values: Floats) -> tuple[bytes, Floats]:
        scales, levels = quantise(values)
        return scales.tobytes() + levels.tobytes(), dequantise(scales, levels)

    def _read_values(self, buffer: Buffer, offset: int, count: int) -> Floats:
        return dequantise(*read_levels(buffer, offset, count))


class TopkF16(Topk):
    """Values as float16. Errors as for ``F16``."""

    name = "topk_f16"

    def _values_bytes(self, count: int) -> int:
        return 2 * count

    def _write_values(self, values: Floats) -> tuple[bytes, Floats]:
        halves = np.clip(values, -F16_MAX, F16_MAX).astype("<f2")
        return halves.tobytes(), halves.astype(np.float32)

    def _read_values(self, buffer: Buffer, offset: int, count: int) -> Floats:
        halves = np.frombuffer(buffer, "<f2", count, offset)
        if not np.isfinite(halves).all():
            raise malformed("a value that is not finite")
        return halves.astype(np.float32)


class RandkI8(Codec):
    """Coordinates drawn from a seed, which alone is sent; values as ``TopkI8`` has them."""

    name = "randk_i8"
    selection = "random"

    def encode(self, value: Array | Factors) -> Encoded:
        chosen = sparse_of(value)
        assert chosen.seed is not None, "a random choice has a seed"
        scales, levels = quantise(chosen.values)
        buffer = b"".join((chosen.seed.to_bytes(SEED_BYTES, "little"), scales.tobytes(), levels.tobytes()))
        read = Sparse(chosen.length, chosen.indices, dequantise(scales, levels), chosen.seed)
        return Encoded(buffer, len(levels), read)

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(size_of(buffer), length, count)
        seed = int.from_bytes(buffer[:SEED_BYTES], "little")
        values = dequantise(*read_levels(buffer, SEED_BYTES, count))
        return Sparse(length, random_indices(seed, length, count), values, seed)

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        if count > length or size_bytes != SEED_BYTES + 4 * blocks(count) + count:
            raise malformed(f"{self.name} with {count} coordinates of {length} in {size_bytes} bytes")


def random_indices(seed: int, length: int, count: int) -> Indices:
    """int32 [count], strictly increasing below ``length``: one from each of ``count`` equal strata.

    Stratum i is [⌊i·P/k⌋, ⌊(i+1)·P/k⌋); the coordinate in it is its start plus SplitMix64's i-th output modulo its
    width (Steele, Lea and Flood 2014), so every language draws the same and every coordinate is as likely as any.
    """
    if not count:
        return np.empty(0, np.int32)
    indices = np.empty(count, np.int32)
    for first in range(0, count, _STRATA):
        numbers = np.arange(first, min(first + _STRATA, count) + 1, dtype=np.int64)
        edges = numbers * length // count
        inside = _mixed(seed, numbers[1:].astype(np.uint64)) % np.diff(edges).astype(np.uint64)
        indices[first : first + _STRATA] = edges[:-1] + inside.astype(np.int64)
    return indices


def _mixed(seed: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's outputs of these numbers, counted from 1. Arithmetic modulo 2^64 is what is meant."""
    with np.errstate(over="ignore"):
        mixed = np.uint64(seed) + numbers * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def write_gaps(indices: Indices) -> tuple[int, bytes]:
    """The narrower of the two widths, and the gaps in it. indices: int32 [k], strictly increasing."""
    if not len(indices):
        return 1, b""
    gaps = np.empty_like(indices)
    gaps[0] = indices[0]
    np.subtract(indices[1:], indices[:-1], out=gaps[1:])
    gaps[1:] -= 1
    if int(gaps.max()) < 255:
        return 1, gaps.astype(np.uint8).tobytes()
    narrow, wide = gaps // 255, gaps // 65_535
    if len(gaps) + int(narrow.sum(dtype=np.int64)) <= 2 * (len(gaps) + int(wide.sum(dtype=np.int64))):
        return 1, _escape(gaps, narrow, 1, "<u1")
    return 2, _escape(gaps, wide, 2, "<u2")


def _escape(gaps: Indices, escapes: Indices, width: int, unit: str) -> bytes:
    """gaps: int32 [k]. escapes: int32 [k], how many escape units come before each gap's last unit."""
    ends = np.cumsum(escapes, dtype=np.int64)
    ends += np.arange(len(gaps))
    units = np.full(int(ends[-1]) + 1, _ESCAPES[width], unit)
    units[ends] = gaps - escapes * _ESCAPES[width]
    return units.tobytes()


def read_gaps(buffer: Buffer, offset: int, width: int, length: int, count: int) -> Indices:
    """int32 [count], strictly increasing below ``length``; the rest of the buffer is gaps of ``width`` bytes."""
    units_count, odd = divmod(size_of(buffer) - offset, width)
    if odd or units_count < count:
        raise malformed(f"a gap section of {size_of(buffer) - offset} bytes for {count} gaps of width {width}")
    if not count:
        return _no_gaps(units_count)
    units = np.frombuffer(buffer, f"<u{width}", units_count, offset)
    sums = np.cumsum(units, dtype=np.int64)
    if units_count > count or int(units.max()) == _ESCAPES[width]:
        last = units != _ESCAPES[width]
        if not last[-1] or np.count_nonzero(last) != count:
            raise malformed(f"a gap section that does not end with gap {count}")
        sums = sums[last]
    sums += np.arange(count)
    if int(sums[-1]) >= length:
        raise malformed(f"index {int(sums[-1])} in a vector of {length}")
    return sums.astype(np.int32)


def _no_gaps(units_count: int) -> Indices:
    if units_count:
        raise malformed("gaps for no coordinates")
    return np.empty(0, np.int32)
