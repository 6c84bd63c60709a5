"""One update of many: mean, trimmed mean or median of each coordinate. Pure. Knows vectors; no sender, no version.

A coordinate's trimmed mean leaves out its largest and its smallest values (Yin et al. 2018, "Byzantine-Robust
Distributed Learning: Towards Optimal Statistical Rates"). As long as no more values are hostile than are left out at
each end, the result lies between honest values. The median leaves out all but the middle: it bears just under half, and
wastes more of what honest values agree on.

Values are sorted across the group by a network of exchanges (Batcher's merge exchange: Knuth, volume 3, algorithm
5.2.2M), which works on whole rows at once, a block of coordinates at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, reduce
from typing import Literal

import numpy as np

from learner.optim.update import Update
from protocol.codecs.registry import CODECS, Array, Floats, Sparse
from protocol.moments import MAX_ROWS, Moments
from protocol.updates import BLOCK

Rule = Literal["mean", "trimmed_mean", "median"]

# What may be sent to a learner that aggregates. With sparse codecs each sender carries coordinates of its own: most
# values of a coordinate are zeros that say nothing, and a median of them is zero.
TAKEN = frozenset(name for name, codec in CODECS.items() if codec.selection in ("all", "rank"))


def trimmed(count: int, rule: Rule, trim: float) -> int:
    """How many of ``count`` values are left out at each end; one or two are always left.

    trim: 0 <= trim < 0.5, share that is left out at each end at least, so that a group that fell short of its window
    bears the same share of hostile senders.
    """
    if rule == "mean":
        return 0
    most = (count - 1) // 2
    return most if rule == "median" else min(most, math.ceil(trim * count))


def combine(values: Sequence[Array], rule: Rule, trim: float = 0.25) -> Floats:
    """float32 [P], coordinate by coordinate; does not depend on the order of ``values`` unless the rule is "mean".

    values: one or more, each float32 [P] or Sparse, of finite numbers. A coordinate that a sparse value does not carry
    counts as 0, whatever its sender's residual holds: where fewer than half carry a coordinate its median is 0, so thin
    codecs learn nothing under these rules (``TAKEN``). trim: heard by "trimmed_mean".
    """
    count = len(values)
    length = values[0].length if isinstance(values[0], Sparse) else len(values[0])
    cut = trimmed(count, rule, trim)
    share = np.float32(1.0 / (count - 2 * cut))
    combined: Floats = np.empty(length, np.float32)
    storage = np.empty((count + 1, min(BLOCK, length)), np.float32)
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        *rows, scratch = storage[:, : stop - start]
        for value, row in zip(values, rows, strict=True):
            _fill(row, value, start, stop)
        if cut:
            _sort(rows, scratch)
        total = combined[start:stop]
        total[...] = rows[cut]
        for row in rows[cut + 1 : count - cut]:
            total += row
        total *= share
    return combined


def merge(updates: Sequence[Update], rule: Rule, trim: float = 0.25) -> Update:
    """The group as one update, in the codec of most of it. The payload is not touched: what others will repeat has to
    be ``written`` first.
    """
    usual = Counter(update.codec for update in updates).most_common(1)[0][0]
    like = next(update for update in updates if update.codec == usual)
    return replace(like, value=combine([update.value for update in updates], rule, trim))


def merge_moments(seen: Sequence[Moments], rule: Rule) -> Moments | None:
    """Statistics of a group's observations. Under the robust rules the medians of their counts, means and variances,
    number by number, for as many rows: who reports what nobody saw has one vote.
    """
    if not seen:
        return None
    if rule == "mean":
        return reduce(Moments.merge, seen)
    count = int(np.median([each.count for each in seen]))
    mean = np.median([each.mean for each in seen], axis=0)
    variance = np.median([each.m2 / each.count + np.square(each.mean - mean) for each in seen], axis=0)
    rows = min(count * len(seen), MAX_ROWS)
    return Moments(rows, mean, variance * rows)


def _fill(row: Floats, value: Array, start: int, stop: int) -> None:
    """row: float32 [stop - start], becomes the value's coordinates from start to stop."""
    if not isinstance(value, Sparse):
        row[...] = value[start:stop]
        return
    row.fill(0.0)
    low, high = np.searchsorted(value.indices, (start, stop))
    row[value.indices[low:high] - start] = value.values[low:high]


def _sort(rows: list[Floats], scratch: Floats) -> None:
    """Sorts across the rows, each float32 [k], coordinate by coordinate. scratch: float32 [k], may become a row."""
    for low, high in _network(len(rows)):
        np.minimum(rows[low], rows[high], out=scratch)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], scratch = scratch, rows[low]


@cache
def _network(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs to compare and exchange, in this order, that sort ``count`` values."""
    return tuple(_exchanges(count))


def _exchanges(count: int) -> Iterator[tuple[int, int]]:
    top = 1 << max(0, (count - 1).bit_length() - 1)  # the p, q, r, d of algorithm M
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(count - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
