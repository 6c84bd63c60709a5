"""Codecs that carry every coordinate: whole floats, shortened floats, quantised levels, signs. Pure.

Their sizes follow from P alone (WIRE.md, section 4).
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from protocol.buffers import Buffer, size_of
from protocol.codecs.quantise import (
    BLOCK,
    I4_TOP,
    blocks,
    dequantise,
    quantise,
    read_levels,
    read_scales,
    rows,
    scale_max,
)
from protocol.codecs.vectors import Array, Codec, Encoded, Factors, Floats, dense_of, malformed

F16_MAX = 65_504.0  # largest finite float16
BF16_MAX = float(np.array(0x7F7F0000, np.uint32).view(np.float32))  # largest finite bfloat16
_HALF_UNIT = np.uint32(0x7FFF)  # added with the lowest kept bit, this rounds to nearest even


class Dense(Codec):
    """Carries every coordinate, so its size follows from P."""

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(size_of(buffer), length, count)
        values = np.empty(length, np.float32) if out is None else out
        self._read(buffer, values)
        return values

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        if count != length or size_bytes != self._size_bytes(length):
            expected = f"{length} in {self._size_bytes(length)}"
            raise malformed(f"{self.name} with {count} coordinates in {size_bytes} bytes, expected {expected}")

    @abstractmethod
    def _size_bytes(self, length: int) -> int:
        """Of the payload."""

    @abstractmethod
    def _read(self, buffer: Buffer, values: Floats) -> None:
        """Writes values, float32 [P], from a buffer of the right size."""


class F32(Dense):
    """float32 [P] as it is."""

    name = "f32"
    exact = True

    def encode(self, value: Array | Factors) -> Encoded:
        buffer = dense_of(value).astype("<f4", copy=False).tobytes()
        return Encoded(buffer, len(buffer) // 4, np.frombuffer(buffer, "<f4"))

    def _size_bytes(self, length: int) -> int:
        return 4 * length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        np.copyto(values, np.frombuffer(buffer, "<f4"))


class F16(Dense):
    """float16 [P], rounded to nearest even; what is beyond ±65504 is written as ±65504.

    Error of a coordinate: at most 2^-11 of it, or 2^-25 where it is below 2^-14.
    """

    name = "f16"

    def encode(self, value: Array | Factors) -> Encoded:
        halves = np.clip(dense_of(value), -F16_MAX, F16_MAX).astype("<f2")
        return Encoded(halves.tobytes(), len(halves), halves.astype(np.float32))

    def _size_bytes(self, length: int) -> int:
        return 2 * length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        np.copyto(values, np.frombuffer(buffer, "<f2"))


class BF16(Dense):
    """bfloat16 [P], the upper half of each float32, rounded to nearest even; beyond its largest it is that.

    Error of a coordinate: at most 2^-8 of it, or 2^-134 where it is subnormal.
    """

    name = "bf16"

    def encode(self, value: Array | Factors) -> Encoded:
        halves = to_bf16(dense_of(value))
        return Encoded(halves.tobytes(), len(halves), from_bf16(halves))

    def _size_bytes(self, length: int) -> int:
        return 2 * length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        from_bf16(np.frombuffer(buffer, "<u2"), values)


def to_bf16(values: Floats) -> NDArray[np.uint16]:
    """values: float32 [n], finite. Gives the bits of bfloat16, uint16 [n]."""
    bits = np.clip(values, -BF16_MAX, BF16_MAX).astype("<f4", copy=False).view("<u4")
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + _HALF_UNIT + odd) >> np.uint32(16)).astype("<u2")


def from_bf16(halves: NDArray[np.uint16], out: Floats | None = None) -> Floats:
    """float32 [n], exactly; NaN and infinity where the bits say so."""
    values = np.empty(len(halves), np.float32) if out is None else out
    np.left_shift(halves, np.uint32(16), out=values.view(np.uint32), dtype=np.uint32)
    return values


class I8(Dense):
    """int8 [P] in blocks of 256, each times its float32 scale = max|block| / 127; scales first.

    Error of a coordinate: at most max|block| / 254 and 1 in 10^4 of that for float32's own rounding; a block whose
    largest is below 1.5e-36 is sent as zeros.
    """

    name = "i8"

    def encode(self, value: Array | Factors) -> Encoded:
        vector = dense_of(value)
        scales, levels = quantise(vector)
        return Encoded(scales.tobytes() + levels.tobytes(), len(vector), dequantise(scales, levels))

    def _size_bytes(self, length: int) -> int:
        return 4 * blocks(length) + length

    def _read(self, buffer: Buffer, values: Floats) -> None:
        dequantise(*read_levels(buffer, 0, len(values)), values)


class I4(Dense):
    """Levels -7..7 in blocks of 256, two in a byte; scale = max|block| / 7.

    Error of a coordinate: at most max|block| / 14, rounding as for ``I8``; zeros where the largest is below 8.3e-38.
    """

    name = "i4"

    def encode(self, value: Array | Factors) -> Encoded:
        vector = dense_of(value)
        scales, levels = quantise(vector, I4_TOP)
        nibbles = np.zeros(2 * self._pairs(len(vector)), np.uint8)
        nibbles[: len(vector)] = levels + np.int8(8)
        packed = nibbles[::2] | (nibbles[1::2] << np.uint8(4))
        return Encoded(scales.tobytes() + packed.tobytes(), len(vector), dequantise(scales, levels))

    @staticmethod
    def _pairs(length: int) -> int:
        return -(-length // 2)

    def _size_bytes(self, length: int) -> int:
        return 4 * blocks(length) + self._pairs(length)

    def _read(self, buffer: Buffer, values: Floats) -> None:
        length = len(values)
        scales = read_scales(buffer, 0, length, I4_TOP)
        packed = np.frombuffer(buffer, np.uint8, self._pairs(length), 4 * len(scales))
        nibbles = np.empty(2 * len(packed), np.uint8)
        np.bitwise_and(packed, np.uint8(15), out=nibbles[::2])
        np.right_shift(packed, np.uint8(4), out=nibbles[1::2])
        if length and (nibbles[:length].min() == 0 or nibbles[length:].any()):
            raise malformed("the value -8, or half a byte too many")
        dequantise(scales, nibbles[:length].view(np.int8) - np.int8(8), values)


class Sign(Dense):
    """One bit for each coordinate, and for each block of 256 the mean of its magnitudes (Karimireddy et al. 2019).

    Error of a coordinate: at most its own size or the mean of its block, whichever is larger.
    """

    name = "sign"

    def encode(self, value: Array | Factors) -> Encoded:
        vector = dense_of(value)
        scales = _mean_magnitudes(vector)
        bits = np.packbits(np.signbit(vector), bitorder="little")
        decoded = np.empty(len(vector), np.float32)
        _signed(scales, bits, decoded)
        return Encoded(scales.tobytes() + bits.tobytes(), len(vector), decoded)

    def _size_bytes(self, length: int) -> int:
        return 4 * blocks(length) + -(-length // 8)

    def _read(self, buffer: Buffer, values: Floats) -> None:
        length = len(values)
        scales = read_scales(buffer, 0, length, 1)
        bits = np.frombuffer(buffer, np.uint8, -(-length // 8), 4 * len(scales))
        if length % 8 and bits[-1] >> (length % 8):
            raise malformed("a sign for no coordinate")
        _signed(scales, bits, values)


def _mean_magnitudes(vector: Floats) -> Floats:
    """float32 [ceil(n/256)]. Raises ValueError for NaN or infinity."""
    magnitudes = np.abs(rows(vector))
    sizes = np.full(len(magnitudes), BLOCK, np.float64)
    if len(vector) % BLOCK:
        sizes[-1] = len(vector) % BLOCK
    means = magnitudes.sum(axis=1, dtype=np.float64) / sizes
    if not np.isfinite(means).all():
        raise ValueError("a quantised codec was given NaN or infinity")
    scales: Floats = np.minimum(means, scale_max(1)).astype("<f4")
    return scales


def _signed(scales: Floats, bits: NDArray[np.uint8], out: Floats) -> None:
    """± the scale of its block, by flipping one bit of it."""
    count = len(out)
    whole = count - count % BLOCK
    out[:whole].reshape(-1, BLOCK)[...] = scales[: whole // BLOCK, None]
    out[whole:] = scales[-1] if whole < count else 0.0
    signs = np.unpackbits(bits, count=count, bitorder="little").astype(np.uint32)
    out.view(np.uint32)[...] |= signs << np.uint32(31)
