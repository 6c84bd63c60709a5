"""Low rank: the product that any reader forms, its error bound, and shapes that lie."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given

from protocol.codecs.lowrank import MAX_RUNS
from protocol.codecs.registry import Factors, codec
from tests.protocol.samples import dense, factored_vectors, refused


def exact(value: Factors) -> np.ndarray:
    """float64 [P]."""
    runs = [
        (run[0].astype(np.float64) @ run[1].T.astype(np.float64)).reshape(-1) if isinstance(run, tuple) else run
        for run in value.runs
    ]
    return np.concatenate(runs) if runs else np.empty(0)


def sizes(value: Factors) -> np.ndarray:
    """Of each coordinate the sum of the magnitudes that it is a sum of, float64 [P]."""
    absolute = [tuple(map(np.abs, run)) if isinstance(run, tuple) else np.abs(run) for run in value.runs]
    return exact(Factors(value.length, tuple(absolute)))  # type: ignore[arg-type]


@given(value=factored_vectors())
def test_the_product_is_within_two_roundings(value: Factors) -> None:
    error = np.abs(dense("lowrank", value) - exact(value))
    tiny = 2.0**-134 * 2.0**61  # a factor below bfloat16's smallest normal, times the largest that is drawn
    assert (error <= (2.0**-7 + 2.0**-15) * sizes(value) + 3 * tiny).all()


def test_a_matrix_of_low_rank_costs_its_sides() -> None:
    rng = np.random.default_rng(0)
    sides = (rng.standard_normal((256, 2)).astype(np.float32), rng.standard_normal((2592, 2)).astype(np.float32))
    encoded = codec("lowrank").encode(Factors(256 * 2592, (sides,)))
    assert len(encoded.buffer) == 3 + 8 + 2 * 2 * (256 + 2592)
    assert encoded.count == 2 * (256 + 2592)


def payload(rank: int, shapes: list[tuple[int, int]], numbers: list[int], runs: int | None = None) -> bytes:
    """By hand; numbers as the bits of bfloat16."""
    head = struct.pack("<BH", rank, len(shapes) if runs is None else runs)
    return head + b"".join(struct.pack("<II", *shape) for shape in shapes) + struct.pack(f"<{len(numbers)}H", *numbers)


ONE, TWO = 0x3F80, 0x4000


def test_a_payload_by_hand() -> None:
    buffer = payload(1, [(2, 2), (1, 0)], [ONE, TWO, ONE, TWO, TWO])
    decoded = codec("lowrank").decode(buffer, 5, 5)
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == [1.0, 2.0, 2.0, 4.0, 2.0]


@pytest.mark.parametrize(
    ("buffer", "said"),
    [
        (payload(0, [(2, 2), (1, 0)], [ONE] * 5), "rank 0"),
        (payload(1, [(2, 2), (1, 0)], [ONE] * 5, runs=1), "with 1 runs"),
        (payload(1, [(2, 3), (1, 0)], [ONE] * 5), "runs of 7 coordinates from 6"),
        (payload(1, [(2, 1), (3, 0)], [ONE] * 5), "2 x 1 coordinates from 3"),
        (payload(2, [(2, 2), (1, 0)], [ONE] * 5), "a run of"),
        (payload(65, [(2, 2), (1, 0)], [ONE] * 5), "rank 65"),
        (payload(1, [(0xFFFFFFFF, 0xFFFFFFFF), (1, 0)], [ONE] * 5), "expected 5 from 5"),
        (payload(1, [(0, 2), (2, 2), (1, 0)], [ONE] * 5), "a run of"),
    ],
)
def test_shapes_that_lie_are_refused(buffer: bytes, said: str) -> None:
    assert said in refused("lowrank", buffer, 5, 5)


def test_more_runs_than_a_layout_has_are_refused() -> None:
    buffer = payload(1, [(1, 0)] * (MAX_RUNS + 1), [ONE] * (MAX_RUNS + 1))
    refused("lowrank", buffer, MAX_RUNS + 1, MAX_RUNS + 1)


def test_a_product_beyond_float32_is_infinite_and_left_to_admission() -> None:
    huge = 0x7F7F  # the largest bfloat16
    decoded = codec("lowrank").decode(payload(1, [(2, 2)], [huge] * 4), 4, 4)
    assert isinstance(decoded, np.ndarray)
    assert np.isinf(decoded).all()
