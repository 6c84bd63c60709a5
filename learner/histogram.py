"""Counts by size, as Prometheus wants them: cheap enough for each gradient. Pure. Knows no clock and no name."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """How often each size was observed. bounds: upper ones of the buckets, ascending; a last bucket takes the rest.

    buckets: counts, one more than there are bounds. total: sum of all sizes. largest: of them, 0 before the first.
    """

    __slots__ = ("bounds", "buckets", "count", "largest", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(self.bounds) + 1)
        self.count = 0
        self.total: float = 0
        self.largest: float = 0

    def observe(self, size: float) -> None:
        """Counts one; size >= 0."""
        self.buckets[bisect_left(self.bounds, size)] += 1
        self.count += 1
        self.total += size
        self.largest = max(self.largest, size)

    @property
    def mean(self) -> float:
        """Of all sizes, 0 before the first."""
        return self.total / self.count if self.count else 0.0
