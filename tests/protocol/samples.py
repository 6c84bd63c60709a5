"""Vectors for every codec to be tried on, and the way through the wire and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.codecs.registry import CODECS, Array, Encoded, Factors, Floats, Sparse, codec
from protocol.codecs.sparse import random_indices
from protocol.errors import PayloadFault, Reason

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
THIN = st.floats(-(2.0**60), 2.0**60, width=32)  # a product of two is finite
VECTORS = hnp.arrays(np.float32, st.integers(0, 700), elements=FLOATS)


@st.composite
def sparse_vectors(draw: st.DrawFn) -> Sparse:
    length = draw(st.sampled_from([1, 40, 300, 70_000, 1_000_000]))
    indices = draw(st.sets(st.integers(0, length - 1), max_size=min(length, 300)))
    values = draw(hnp.arrays(np.float32, len(indices), elements=FLOATS))
    return Sparse(length, np.array(sorted(indices), np.int32), values)


@st.composite
def random_vectors(draw: st.DrawFn) -> Sparse:
    length = draw(st.sampled_from([1, 40, 300, 70_000, 1_000_000]))
    count, seed = draw(st.integers(0, min(length, 300))), draw(st.integers(0, (1 << 64) - 1))
    values = draw(hnp.arrays(np.float32, count, elements=FLOATS))
    return Sparse(length, random_indices(seed, length, count), values, seed)


@st.composite
def factored_vectors(draw: st.DrawFn) -> Factors:
    rank = draw(st.integers(1, 3))
    runs: list[tuple[Floats, Floats] | Floats] = []
    for _ in range(draw(st.integers(0, 3))):
        rows, columns = draw(st.integers(1, 9)), draw(st.integers(0, 9))
        if rank * (rows + columns) <= rows * columns:  # else its factors would be larger than it is
            sides = [draw(hnp.arrays(np.float32, (side, rank), elements=THIN)) for side in (rows, columns)]
            runs.append((sides[0], sides[1]))
        else:
            runs.append(draw(hnp.arrays(np.float32, rows, elements=FLOATS)))
    length = sum(len(run[0]) * len(run[1]) if isinstance(run, tuple) else len(run) for run in runs)
    return Factors(length, tuple(runs))


STRATEGIES: dict[str, st.SearchStrategy[Array | Factors]] = {
    "all": VECTORS,
    "largest": sparse_vectors(),
    "random": random_vectors(),
    "rank": factored_vectors(),
}


def named(*selections: str) -> list[str]:
    """The codecs that take what is selected so."""
    return [name for name, each in CODECS.items() if each.selection in selections]


def plain(name: str, length: int) -> Array | Factors:
    """Ones, all that the codec can carry of ``length``."""
    ones = np.ones(length, np.float32)
    selection = codec(name).selection
    if selection == "all":
        return ones
    if selection == "rank":
        return Factors(length, (ones,))
    return Sparse(length, random_indices(5, length, length), ones, 5)


def length_of(value: Array | Factors) -> int:
    return len(value) if isinstance(value, np.ndarray) else value.length


def through(name: str, value: Array | Factors) -> tuple[Encoded, Array]:
    """What the encoder says and what comes out: from a read-only view that is not aligned."""
    encoded = codec(name).encode(value)
    return encoded, codec(name).decode(memoryview(b"?" + encoded.buffer)[1:], length_of(value), encoded.count)


def dense(name: str, value: Array | Factors) -> Floats:
    decoded = through(name, value)[1]
    assert isinstance(decoded, np.ndarray)
    return decoded


def sparse(name: str, value: Array | Factors) -> Sparse:
    decoded = through(name, value)[1]
    assert isinstance(decoded, Sparse)
    return decoded


def bits(vector: Floats) -> bytes:
    return vector.astype("<f4").tobytes()


def refused(name: str, buffer: bytes, length: int, count: int) -> str:
    with pytest.raises(PayloadFault) as caught:
        codec(name).decode(buffer, length, count)
    assert caught.value.reason is Reason.MALFORMED_PAYLOAD
    return caught.value.detail


def block_tops(values: Floats) -> NDArray[np.float64]:
    """max|block| for each coordinate, float64 [n]."""
    return _by_block(values, np.max)


def block_means(values: Floats) -> NDArray[np.float64]:
    """mean|block| for each coordinate, float64 [n]."""
    return _by_block(values, np.mean)


def _by_block(values: Floats, of: object) -> NDArray[np.float64]:
    assert callable(of)
    magnitudes = np.abs(values.astype(np.float64))
    numbers = np.array([of(magnitudes[i : i + 256]) for i in range(0, len(values), 256)], np.float64)
    return np.repeat(numbers, 256)[: len(values)]
