"""Buckets agree with counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.progress import Histogram

BOUNDS = (0.0, 0.5, 1.0, 10.0, 1000.0)
SIZES = st.floats(0.0, 5000.0) | st.sampled_from(BOUNDS)


@given(st.lists(SIZES, max_size=200))
def test_the_histogram_agrees_with_counting(sizes: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for size in sizes:
        histogram.observe(size)
    for index, bound in enumerate(BOUNDS):
        assert sum(histogram.buckets[: index + 1]) == sum(size <= bound for size in sizes)
    assert sum(histogram.buckets) == histogram.count == len(sizes)
    assert histogram.mean == pytest.approx(sum(sizes) / len(sizes) if sizes else 0.0)
    assert histogram.largest == max(sizes, default=0.0)
