"""Vectors to bytes and back. Pure. Knows float32 [P] and bytes; no message, no optimizer.

A payload is one buffer whose parts have no lengths of their own: all follow from ``length`` (P), ``count``
(coordinates carried) and the buffer's size (WIRE.md, section 4). Decoding checks sizes before it allocates, never
allocates more than 32 times what arrived, and returns arrays that own their memory. Little-endian throughout.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.errors import PayloadFault, Reason
from protocol.messages import Buffer

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]

BLOCK = 256  # coordinates under one scale: 1.6 % of overhead, and small enough that one outlier spoils little
F16_MAX = 65_504.0  # largest finite float16
SCALE_MAX = float(np.nextafter(np.float32(np.finfo(np.float32).max / 127), np.float32(0)))  # 127 of them are finite
_QUIET = 127 * float(np.finfo(np.float32).tiny)  # a block whose largest is below this has no normal scale
_STRIDE = 64  # blocks quantised at a time, so that scratch stays in the core's own cache
_ESCAPES = {1: 255, 2: 65_535}  # gap width in bytes -> the unit that means "add me and read on"


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """A vector that is zero but at some coordinates.

    length: P
    indices: int32 [k], strictly increasing, 0 <= index < P
    values: float32 [k]
    """

    length: int
    indices: Indices
    values: Floats

    def dense(self) -> Floats:
        """float32 [P]."""
        vector = np.zeros(self.length, np.float32)
        vector[self.indices] = self.values
        return vector


Array = Floats | Sparse


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A payload, and what the other side will read from it.

    buffer: the payload. count: for the header. decoded: bit for bit what ``decode`` returns; may be read-only
    """

    buffer: bytes
    count: int
    decoded: Array


class Codec(ABC):
    """One way to write a vector. name: on the wire. sparse: takes and gives ``Sparse``. exact: loses nothing."""

    name: str
    sparse = False
    exact = False

    @abstractmethod
    def encode(self, value: Array) -> Encoded:
        """value: float32 [P], finite; or Sparse for a sparse codec. It is not kept and not changed."""

    @abstractmethod
    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        """The vector of ``length`` that ``buffer`` holds. Raises PayloadFault(malformed_payload).

        out: float32 [length], where a dense codec may put it; large arrays are cheaper to reuse than to allocate.
        """

    @abstractmethod
    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        """Raises PayloadFault unless a payload of this size can hold this many coordinates. Allocates nothing."""


class _Dense(Codec):
    """Carries every coordinate, so its size follows from P."""

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(_bytes(buffer), length, count)
        values = np.empty(length, np.float32) if out is None else out
        self._read(buffer, values)
        return values

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        if count != length or size_bytes != self._size_bytes(length):
            expected = f"{length} in {self._size_bytes(length)}"
            raise _malformed(f"{self.name} with {count} coordinates in {size_bytes} bytes, expected {expected}")

    @abstractmethod
    def _size_bytes(self, length: int) -> int:
        """Of the payload."""

    @abstractmethod
    def _read(self, buffer: Buffer, values: Floats) -> None:
        """Writes values, float32 [P], from a buffer of the right size."""


class F32(_Dense):
    """float32 [P] as it is."""

    name = "f32"
    exact = True

    def encode(self, value: Array) -> Encoded:
        buffer = _vector(value).astype("<f4", copy=False).tobytes()
        return Encoded(buffer, len(buffer) // 4, np.frombuffer(buffer, "<f4"))

    def _size_bytes(self, length: int) -> int:
        return 4 * length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        np.copyto(values, np.frombuffer(buffer, "<f4"))


class F16(_Dense):
    """float16 [P], rounded to nearest even; what is beyond ±65504 is written as ±65504.

    Error of a coordinate: at most 2^-11 of it, or 2^-25 where it is below 2^-14.
    """

    name = "f16"

    def encode(self, value: Array) -> Encoded:
        halves = np.clip(_vector(value), -F16_MAX, F16_MAX).astype("<f2")
        return Encoded(halves.tobytes(), len(halves), halves.astype(np.float32))

    def _size_bytes(self, length: int) -> int:
        return 2 * length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        np.copyto(values, np.frombuffer(buffer, "<f2"))


class I8(_Dense):
    """int8 [P] in blocks of 256, each times its float32 scale = max|block| / 127; scales first.

    Error of a coordinate: at most max|block| / 254 and 1 in 10^6 of that for float32's own rounding; a block whose
    largest is below 1.5e-36 is sent as zeros.
    """

    name = "i8"

    def encode(self, value: Array) -> Encoded:
        vector = _vector(value)
        scales, levels = _quantize(vector)
        return Encoded(scales.tobytes() + levels.tobytes(), len(vector), _dequantize(scales, levels))

    def _size_bytes(self, length: int) -> int:
        return 4 * _blocks(length) + length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        _dequantize(*_read_levels(buffer, 0, len(values)), values)


class TopkI8(Codec):
    """The coordinates of a ``Sparse``: gap width, scales, int8 values in blocks of 256, then the gaps between indices.

    A gap is how many coordinates lie between an index and the one before it. Gaps are bytes or uint16; the largest
    unit adds itself and reads on. Indices cannot but increase, whatever the bytes are. Errors as for ``I8``.
    """

    name = "topk_i8"
    sparse = True

    def encode(self, value: Array) -> Encoded:
        assert isinstance(value, Sparse), "a sparse codec was given a dense vector"
        scales, levels = _quantize(value.values)
        width, gaps = _write_gaps(value.indices)
        buffer = b"".join((bytes((width,)), scales.tobytes(), levels.tobytes(), gaps))
        return Encoded(buffer, len(levels), Sparse(value.length, value.indices, _dequantize(scales, levels)))

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(_bytes(buffer), length, count)
        width = buffer[0]
        if width not in _ESCAPES:
            raise _malformed(f"gap width {width}, expected 1 or 2")
        scales, levels = _read_levels(buffer, 1, count)
        indices = _read_gaps(buffer, 1 + 4 * len(scales) + count, width, length, count)
        return Sparse(length, indices, _dequantize(scales, levels))

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        lead_bytes = 1 + 4 * _blocks(count) + count
        gaps_bytes = max(width * (count + length // escape) for width, escape in _ESCAPES.items())
        if count > length or not lead_bytes + count <= size_bytes <= lead_bytes + gaps_bytes:
            raise _malformed(f"{self.name} with {count} coordinates of {length} in {size_bytes} bytes")


def _quantize(values: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """values: float32 [n], finite. Gives scales float32 [ceil(n/256)] and levels int8 [n] in -127..127."""
    blocks = _blocks(len(values))
    scales = np.empty(blocks, "<f4")
    levels = np.empty((blocks, BLOCK), np.int8)
    for first in range(0, blocks, _STRIDE):
        last = min(first + _STRIDE, blocks)
        _quantize_rows(_rows(values[first * BLOCK : last * BLOCK]), scales[first:last], levels[first:last])
    return scales, levels.reshape(-1)[: len(values)]


def _rows(values: Floats) -> Floats:
    """float32 [b, 256], the last row filled up with zeros, which change neither its maximum nor its levels."""
    if len(values) % BLOCK == 0:
        return values.reshape(-1, BLOCK)
    rows = np.zeros((_blocks(len(values)), BLOCK), np.float32)
    rows.reshape(-1)[: len(values)] = values
    return rows


def _quantize_rows(rows: Floats, scales: Floats, levels: NDArray[np.int8]) -> None:
    """rows: float32 [b, n]. Writes scales float32 [b] and levels int8 [b, n].

    Multiplying by 127 / max keeps |level| within 127 whatever the rounding, since 127.00002 still rounds to 127.
    """
    scratch = np.abs(rows)
    tops = scratch.max(axis=1)
    if not math.isfinite(float(tops.max())):
        raise ValueError("a quantised codec was given NaN or infinity")
    np.minimum(tops / np.float32(127), np.float32(SCALE_MAX), out=scales)
    if float(tops.min()) < _QUIET:
        scales[tops < _QUIET] = 0.0
        tops[tops < _QUIET] = np.inf
    np.multiply(rows, (np.float32(127) / tops)[:, None], out=scratch)
    np.rint(scratch, out=scratch)
    np.copyto(levels, scratch, casting="unsafe")


def _dequantize(scales: Floats, levels: NDArray[np.int8], out: Floats | None = None) -> Floats:
    """level * scale of its block, float32 [n]: one float32 multiplication, so every reader gets the same bits."""
    values = np.empty(len(levels), np.float32) if out is None else out
    whole = len(levels) - len(levels) % BLOCK
    blocks = (levels[:whole].reshape(-1, BLOCK), scales[: whole // BLOCK, None])
    np.multiply(*blocks, out=values[:whole].reshape(-1, BLOCK), dtype=np.float32)
    if whole < len(levels):
        np.multiply(levels[whole:], scales[-1], out=values[whole:], dtype=np.float32)
    return values


def _read_levels(buffer: Buffer, offset: int, count: int) -> tuple[Floats, NDArray[np.int8]]:
    """The two sections of a quantised payload, not yet copied. Raises PayloadFault for what no encoder writes."""
    scales = np.frombuffer(buffer, "<f4", _blocks(count), offset)
    levels = np.frombuffer(buffer, np.int8, count, offset + 4 * len(scales))
    if not count:
        return scales, levels
    if not (float(scales.min()) >= 0.0 and float(scales.max()) <= SCALE_MAX):  # false for NaN too
        raise _malformed("a scale that is negative, not finite, or too large for 127 of it")
    if levels.min() == -128:
        raise _malformed("the value -128")
    return scales, levels


def _write_gaps(indices: Indices) -> tuple[int, bytes]:
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


def _read_gaps(buffer: Buffer, offset: int, width: int, length: int, count: int) -> Indices:
    """int32 [count], strictly increasing below ``length``; the rest of the buffer is gaps of ``width`` bytes."""
    units_count, odd = divmod(_bytes(buffer) - offset, width)
    if odd or units_count < count:
        raise _malformed(f"a gap section of {_bytes(buffer) - offset} bytes for {count} gaps of width {width}")
    if not count:
        return _no_gaps(units_count)
    units = np.frombuffer(buffer, f"<u{width}", units_count, offset)
    sums = np.cumsum(units, dtype=np.int64)
    if units_count > count or int(units.max()) == _ESCAPES[width]:
        last = units != _ESCAPES[width]
        if not last[-1] or np.count_nonzero(last) != count:
            raise _malformed(f"a gap section that does not end with gap {count}")
        sums = sums[last]
    sums += np.arange(count)
    if int(sums[-1]) >= length:
        raise _malformed(f"index {int(sums[-1])} in a vector of {length}")
    return sums.astype(np.int32)


def _no_gaps(units_count: int) -> Indices:
    if units_count:
        raise _malformed("gaps for no coordinates")
    return np.empty(0, np.int32)


def _vector(value: Array) -> Floats:
    assert not isinstance(value, Sparse), "a dense codec was given a Sparse"
    return value


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _bytes(buffer: Buffer) -> int:
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def _malformed(detail: str) -> PayloadFault:
    return PayloadFault(Reason.MALFORMED_PAYLOAD, detail)


_ALL: tuple[Codec, ...] = (F32(), F16(), I8(), TopkI8())
CODECS: dict[str, Codec] = {each.name: each for each in _ALL}
assert len(CODECS) == len(_ALL), "two codecs share a name"


def codec(name: str) -> Codec:
    """The codec of this name. Raises PayloadFault(unknown_codec)."""
    found = CODECS.get(name)
    if found is None:
        raise PayloadFault(Reason.UNKNOWN_CODEC, f"codec {name[:64]!r} is not one of {', '.join(CODECS)}")
    return found
