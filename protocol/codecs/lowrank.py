"""Matrices as products of two thin ones (PowerSGD, Vogels, Karimireddy and Jaggi 2019). Pure.

The payload names the shapes itself, so a reader needs P and no layout. Numbers are bfloat16: what that loses, error
feedback gets back, as it does what the rank loses. The product is summed over the rank in order, one float32
multiplication and addition each, so that every reader gets the same bits, which a matrix product does not promise.
"""

from __future__ import annotations

import struct

import numpy as np

from protocol.buffers import Buffer, size_of
from protocol.codecs.dense import from_bf16, to_bf16
from protocol.codecs.vectors import Array, Codec, Encoded, Factors, Floats, malformed
from protocol.layout import MAX_ENTRIES

MAX_RUNS = MAX_ENTRIES  # as many as a layout has arrays
MAX_RANK = 64  # bounds the work that a small payload can ask for
_HEAD, _SHAPE = struct.Struct("<BH"), np.dtype([("rows", "<u4"), ("columns", "<u4")])


class LowRank(Codec):
    """Runs of the vector as left · rightᵀ, or as they are where they are no matrix."""

    name = "lowrank"
    selection = "rank"

    def encode(self, value: Array | Factors) -> Encoded:
        assert isinstance(value, Factors), "a codec of low rank was given a vector"
        ranks = {run[0].shape[1] for run in value.runs if isinstance(run, tuple)} or {1}
        assert len(ranks) == 1, "one rank for all matrices"
        shapes = np.array([_shape(run) for run in value.runs], _SHAPE)
        numbers = [part.reshape(-1) for run in value.runs for part in (run if isinstance(run, tuple) else (run,))]
        halves = to_bf16(np.concatenate(numbers) if numbers else np.empty(0, np.float32))
        buffer = b"".join((_HEAD.pack(ranks.pop(), len(shapes)), shapes.tobytes(), halves.tobytes()))
        decoded = self.decode(buffer, value.length, len(halves))
        return Encoded(buffer, len(halves), decoded)

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(size_of(buffer), length, count)
        rank, runs = _HEAD.unpack_from(buffer)
        lead = _HEAD.size + _SHAPE.itemsize * runs
        if not 1 <= rank <= MAX_RANK or runs > MAX_RUNS or size_of(buffer) != lead + 2 * count:
            raise malformed(f"{self.name} of rank {rank} with {runs} runs in {size_of(buffer)} bytes")
        shapes = np.frombuffer(buffer, _SHAPE, runs, _HEAD.size)
        _check_shapes(shapes, rank, length, count)
        numbers = from_bf16(np.frombuffer(buffer, "<u2", count, lead))
        values = np.empty(length, np.float32) if out is None else out
        _multiply(shapes, rank, numbers, values)
        return values

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        lead = size_bytes - _HEAD.size - 2 * count
        if count > length or not 0 <= lead <= _SHAPE.itemsize * MAX_RUNS or lead % _SHAPE.itemsize:
            raise malformed(f"{self.name} with {count} numbers for {length} coordinates in {size_bytes} bytes")


def _shape(run: tuple[Floats, Floats] | Floats) -> tuple[int, int]:
    """As the payload has it: columns are 0 where the run is as it is."""
    return (len(run[0]), len(run[1])) if isinstance(run, tuple) else (len(run), 0)


def _check_shapes(shapes: np.ndarray, rank: int, length: int, count: int) -> None:
    """Raises PayloadFault unless the runs fill the vector, and their numbers the payload."""
    coordinates = numbers = 0
    for rows, columns in shapes.tolist():
        size, carried = (rows * columns, rank * (rows + columns)) if columns else (rows, rows)
        if not size or carried > size:
            raise malformed(f"a run of {rows} x {columns} coordinates from {carried} numbers")
        coordinates, numbers = coordinates + size, numbers + carried
    if (coordinates, numbers) != (length, count):
        raise malformed(f"runs of {coordinates} coordinates from {numbers} numbers, expected {length} from {count}")


def _multiply(shapes: np.ndarray, rank: int, numbers: Floats, values: Floats) -> None:
    """Writes values, float32 [P], from the factors one behind the other."""
    read, written = 0, 0
    for rows, columns in shapes.tolist():
        if columns:
            middle, end = read + rows * rank, read + (rows + columns) * rank
            factors = numbers[read:middle].reshape(rows, rank), numbers[middle:end].reshape(columns, rank)
            _product(*factors, values[written : written + rows * columns].reshape(rows, columns))
            read, written = end, written + rows * columns
        else:
            values[written : written + rows] = numbers[read : read + rows]
            read, written = read + rows, written + rows


def _product(left: Floats, right: Floats, out: Floats) -> None:
    """left · rightᵀ, summed over the rank in order. A peer's infinities are found by admission."""
    scratch = np.empty_like(out) if left.shape[1] > 1 else out
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(left[:, :1], right[:, 0], out=out)
        for k in range(1, left.shape[1]):
            np.multiply(left[:, k : k + 1], right[:, k], out=scratch)
            out += scratch
