"""One update of many, against the plainest loop, and what a minority can do to it."""

from __future__ import annotations

from itertools import product
from statistics import median
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.optim.aggregation import TAKEN, Rule, combine, merge, trimmed
from learner.optim.update import Update
from protocol.codecs.registry import Array, Floats, Sparse, codec
from protocol.updates import BLOCK

RULES = get_args(Rule)
ROBUST = ("trimmed_mean", "median")


def drawn(count: int, length: int, seed: int = 0) -> list[Floats]:
    return list(np.random.default_rng(seed).standard_normal((count, length), dtype=np.float32))


def plain(values: list[Floats], rule: Rule, trim: float) -> list[float]:
    """As the papers say it, one coordinate at a time, in float64."""
    combined = []
    for column in zip(*values, strict=True):
        ordered = sorted(map(float, column))
        if rule == "median":
            combined.append(median(ordered))
            continue
        cut = trimmed(len(ordered), rule, trim)
        kept = ordered[cut : len(ordered) - cut]
        combined.append(sum(kept) / len(kept))
    return combined


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 10, 17, 33])
@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.49])
def test_it_is_what_the_plainest_loop_finds(rule: Rule, count: int, trim: float) -> None:
    values = drawn(count, 40, seed=count)
    combined = combine(values, rule, trim)
    assert combined.dtype == np.float32
    np.testing.assert_allclose(combined, plain(values, rule, trim), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", range(1, 13))
def test_every_arrangement_is_sorted(count: int) -> None:
    """A network of exchanges that sorts all zeros and ones sorts everything (Knuth, volume 3, theorem 5.3.4Z)."""
    columns = np.array(list(product((0.0, 1.0), repeat=count)), np.float32).T
    middle = np.sort(columns, axis=0)[(count - 1) // 2 : count // 2 + 1].mean(axis=0)
    np.testing.assert_array_equal(combine(list(columns), "median"), middle)


@pytest.mark.parametrize("rule", RULES)
def test_values_are_left_alone_and_blocks_join(rule: Rule) -> None:
    values = drawn(5, 2 * BLOCK + 7)
    before = [value.copy() for value in values]
    whole = combine(values, rule)
    for edge in (0, BLOCK - 3, 2 * BLOCK - 3, 2 * BLOCK + 1):
        part = combine([value[edge : edge + 6] for value in values], rule)
        np.testing.assert_array_equal(whole[edge : edge + 6], part)
    for value, original in zip(values, before, strict=True):
        np.testing.assert_array_equal(value, original)


@pytest.mark.parametrize("rule", RULES)
def test_sparse_values_are_zero_where_they_carry_nothing(rule: Rule) -> None:
    rng = np.random.default_rng(1)
    length = BLOCK + 100
    sparse: list[Array] = []
    for _ in range(5):
        indices = np.sort(rng.choice(length, 9000, replace=False)).astype(np.int32)
        sparse.append(Sparse(length, indices, rng.standard_normal(9000, dtype=np.float32)))
    dense = [value.dense() for value in sparse if isinstance(value, Sparse)]
    np.testing.assert_array_equal(combine(sparse, rule), combine(dense, rule))
    np.testing.assert_array_equal(combine([*sparse[:2], *dense[2:]], rule), combine(dense, rule))


def test_thin_values_have_a_median_of_zero_so_their_codecs_are_not_taken() -> None:
    thin = [Sparse(100, np.array([n], np.int32), np.ones(1, np.float32)) for n in range(10)]
    assert not combine(thin, "median").any()
    assert not any(name.startswith(("topk", "randk")) for name in TAKEN)
    assert {"f32", "f16", "bf16", "i8", "i4", "sign", "lowrank", "i8+zstd"} <= TAKEN


@pytest.mark.parametrize(
    ("count", "trim", "cut"), [(8, 0.25, 2), (10, 0.25, 3), (10, 0.2, 2), (5, 0.25, 2), (3, 0.25, 1), (2, 0.25, 0)]
)
def test_how_many_are_left_out(count: int, trim: float, cut: int) -> None:
    assert trimmed(count, "trimmed_mean", trim) == cut
    assert trimmed(count, "median", trim) == (count - 1) // 2
    assert trimmed(count, "mean", trim) == 0


@given(st.integers(1, 60), st.floats(0.0, 0.499), st.floats(0.0, 1.0))
def test_a_share_of_hostile_senders_below_the_trim_is_left_out(count: int, trim: float, share: float) -> None:
    hostile = int(share * trim * count)
    assert trimmed(count, "trimmed_mean", trim) >= min(hostile, (count - 1) // 2)
    assert count - 2 * trimmed(count, "trimmed_mean", trim) >= 1


@pytest.mark.parametrize("rule", ROBUST)
@given(
    honest=st.lists(st.floats(-100.0, 100.0, width=32), min_size=8, max_size=8),
    hostile=st.lists(st.floats(-(2.0**50), 2.0**50, width=32), max_size=2),
)
def test_a_minority_cannot_leave_what_honest_values_span(rule: Rule, honest: list[float], hostile: list[float]) -> None:
    values = [np.array([number], np.float32) for number in [*hostile, *honest]]
    (combined,) = combine(values, rule, 0.2)
    slack = 1e-5 * max(map(abs, honest))
    assert min(honest) - slack <= combined <= max(honest) + slack


def test_the_mean_does() -> None:
    values = [np.full(3, -10.0, np.float32)] * 2 + [np.ones(3, np.float32)] * 8
    assert combine(values, "mean")[0] == pytest.approx(-1.2)
    assert combine(values, "trimmed_mean")[0] == combine(values, "median")[0] == 1.0


@pytest.mark.parametrize("rule", ROBUST)
@given(st.permutations(range(9)))
def test_who_sent_what_makes_no_difference_to_the_bit(rule: Rule, order: list[int]) -> None:
    values = drawn(9, 20)
    np.testing.assert_array_equal(combine([values[n] for n in order], rule), combine(values, rule))


def update(name: str, value: Floats) -> Update:
    encoded = codec(name).encode(value)
    return Update(encoded.decoded, name, encoded.count, encoded.buffer)


def test_a_group_is_written_in_the_codec_of_most_of_it() -> None:
    values = drawn(5, 600)
    group = [update(name, value) for name, value in zip(("sign", "sign", "i8", "i8", "i8"), values, strict=True)]
    merged = merge(group, "median")
    np.testing.assert_array_equal(merged.numbers, combine([each.value for each in group], "median"))
    written = merged.written()
    assert (merged.codec, written.codec, written.count) == ("i8", "i8", 600)
    np.testing.assert_array_equal(codec("i8").decode(written.payload, 600, 600), written.value)
    np.testing.assert_allclose(written.numbers, merged.numbers, atol=float(np.abs(merged.numbers).max()) / 250)
