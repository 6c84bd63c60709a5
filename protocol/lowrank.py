"""Matrices as products of two thin ones (PowerSGD, Vogels, Karimireddy and Jaggi 2019). Pure.

The payload names the shapes itself, so a reader needs P and no layout. Numbers are bfloat16: what that loses, error
feedback gets back, as it does what the rank loses. The product is summed over the rank in order, one float32
multiplication and addition each, so that every reader gets the same bits, which a matrix product does not promise.
"""

from __future__ import annotations

import struct

import numpy as np

from protocol.dense import from_bf16, to_bf16
from protocol.messages import Buffer
from protocol.vectors import Array, Codec, Encoded, Factors, Floats, malformed, size_of

MAX_RUNS = 4096  # as many as a layout has arrays
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
    rows, columns = shapes["rows"].astype(np.uint64), shapes["columns"].astype(np.uint64)
    plain = columns == 0
    sizes = [int(a) * max(1, int(b)) for a, b in zip(rows, columns, strict=True)]  # as Python's: they cannot overflow
    carried = int(rows[plain].sum()) + rank * int((rows + columns)[~plain].sum())
    larger = any(b and rank * (int(a) + int(b)) > int(a) * int(b) for a, b in zip(rows, columns, strict=True))
    if larger:
        raise malformed(f"a matrix whose factors of rank {rank} are larger than it is")
    if sum(sizes) != length or carried != count or 0 in sizes:
        raise malformed(f"runs of {sum(sizes)} coordinates from {carried} numbers, expected {length} from {count}")


def _multiply(shapes: np.ndarray, rank: int, numbers: Floats, values: Floats) -> None:
    at, start = 0, 0
    for rows, columns in shapes.tolist():
        if not columns:
            values[start : start + rows] = numbers[at : at + rows]
            at, start = at + rows, start + rows
            continue
        left = numbers[at : at + rows * rank].reshape(rows, rank)
        right = numbers[at + rows * rank : at + (rows + columns) * rank].reshape(columns, rank)
        product = values[start : start + rows * columns].reshape(rows, columns)
        with np.errstate(over="ignore", invalid="ignore"):  # a peer's infinities are found by admission
            np.multiply(left[:, :1], right[None, :, 0], out=product)
            for k in range(1, rank):
                product += left[:, k : k + 1] * right[None, :, k]
        at, start = at + (rows + columns) * rank, start + rows * columns
