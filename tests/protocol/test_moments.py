"""Moments: merging is the same as having seen all rows at once."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.buffers import MAX_MOMENTS_BYTES
from protocol.errors import PayloadFault, Reason
from protocol.moments import FRESH, MAX_MEAN_SQUARE, MAX_ROWS, Moments

ROWS = hnp.arrays(np.float64, st.tuples(st.integers(0, 20), st.just(3)), elements=st.floats(-1e3, 1e3, width=32))


def of(rows: NDArray[np.float64]) -> Moments:
    if not len(rows):
        return Moments.empty(rows.shape[1])
    return Moments(len(rows), rows.mean(0), np.square(rows - rows.mean(0)).sum(0))


def refused(buffer: bytes, count: int = 2, size: int | None = None) -> Reason:
    with pytest.raises(PayloadFault) as caught:
        Moments.from_buffer(buffer, count, size)
    return caught.value.reason


@given(left=ROWS, right=ROWS)
def test_merging_is_seeing_all_rows_at_once(left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
    merged, whole = of(left).merge(of(right)), of(np.concatenate([left, right]))
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-9, atol=1e-6)


def test_merging_changes_neither_operand() -> None:
    left, right = of(np.array([[1.0], [3.0]])), of(np.array([[5.0]]))
    left.merge(right)
    assert (left.count, left.mean.tolist(), left.m2.tolist()) == (2, [2.0], [2.0])
    assert (right.count, right.mean.tolist()) == (1, [5.0])


def test_scale_is_one_over_the_deviation() -> None:
    moments = of(np.array([[1.0, 7.0], [3.0, 7.0]]))
    assert moments.scale(0.25).tolist() == pytest.approx([1.25**-0.5, 2.0])
    assert moments.scale(0.25).dtype == np.float32
    assert Moments.empty(2).scale().tolist() == [1.0, 1.0]


def test_moments_survive_the_wire() -> None:
    moments = of(np.array([[1.0, 7.0], [3.0, 8.5]]))
    back = Moments.from_buffer(memoryview(b"?" + moments.to_buffer())[1:], moments.count, 2)
    assert (back.count, back.mean.tolist(), back.m2.tolist()) == (2, [2.0, 7.75], [2.0, 1.125])
    assert back.mean.flags.writeable


@pytest.mark.parametrize("buffer", [b"", bytes(8), bytes(17), bytes(MAX_MOMENTS_BYTES + 16)])
def test_another_size_is_refused(buffer: bytes) -> None:
    assert refused(buffer) is Reason.MALFORMED_PAYLOAD


def test_another_number_of_observations_is_refused() -> None:
    assert refused(bytes(32), size=3) is Reason.MALFORMED_PAYLOAD


@pytest.mark.parametrize(
    ("mean", "m2", "count", "reason"),
    [
        (np.nan, 1.0, 2, Reason.NOT_FINITE),
        (0.0, np.inf, 2, Reason.NOT_FINITE),
        (0.0, -1.0, 2, Reason.MALFORMED_PAYLOAD),
        (1e39, 1.0, 2, Reason.MALFORMED_PAYLOAD),
        (0.0, 1e80, 2, Reason.MALFORMED_PAYLOAD),
        (0.0, 1.0, 0, Reason.MALFORMED_PAYLOAD),
    ],
)
def test_numbers_that_no_rows_have_are_refused(mean: float, m2: float, count: int, reason: Reason) -> None:
    assert refused(np.array([mean, m2]).tobytes(), count) is reason


@given(hnp.arrays(np.float64, (4, 3), elements=st.floats(-1.4, 1.4)))
def test_what_may_come_may_also_be_merged(shares: NDArray[np.float64]) -> None:
    rows = shares * np.sqrt(MAX_MEAN_SQUARE)  # colluders are at the edge of what is taken
    came = [Moments(9, row, 9.0 * np.maximum(0.0, FRESH * MAX_MEAN_SQUARE - np.square(row))) for row in rows]
    merged = reduce(Moments.merge, [Moments.from_buffer(each.to_buffer(), 9, 3, 1.0001 * FRESH) for each in came])
    assert Moments.from_buffer(merged.to_buffer(), merged.count).count == 36


def test_fresh_rows_have_less_room() -> None:
    edge = np.array([0.0, 2.0 * 3.0 * MAX_MEAN_SQUARE]).tobytes()
    assert Moments.from_buffer(edge, 2).count == 2
    with pytest.raises(PayloadFault, match="no 2 rows of float32"):
        Moments.from_buffer(edge, 2, slack=FRESH)


def test_counts_stay_within_a_headers_counter() -> None:
    most = Moments(MAX_ROWS, np.ones(2), np.full(2, float(MAX_ROWS)))
    merged = most.merge(most)
    assert merged.count == MAX_ROWS
    assert np.allclose(merged.m2 / merged.count, 1.0)
