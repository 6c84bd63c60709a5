"""Age is judged by bounds that hold exactly, and scaled by a rule that only ever shrinks."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.optim.staleness import Accepted, Dropped, Rule, judge
from protocol.errors import Reason

SCALE = Rule(scaling="scale", full_lag_updates=4, max_lag_updates=100, max_lag_s=10.0)
ACCEPT = Rule(scaling="none", full_lag_updates=4, max_lag_updates=100, max_lag_s=10.0)


@pytest.mark.parametrize("rule", [SCALE, ACCEPT])
def test_a_fresh_gradient_is_applied_in_full(rule: Rule) -> None:
    assert judge(0, 0.0, rule) == Accepted(1.0)


def test_the_bound_itself_is_still_accepted() -> None:
    assert judge(100, 10.0, ACCEPT) == Accepted(1.0)
    assert judge(101, 0.0, ACCEPT) == Dropped(Reason.STALE_UPDATES)
    assert judge(0, 10.1, ACCEPT) == Dropped(Reason.STALE_SECONDS)


def test_scaling_begins_past_the_grace() -> None:
    assert [judge(lag, 0.0, SCALE) for lag in (4, 9, 49)] == [Accepted(1.0), Accepted(0.5), Accepted(0.1)]


def test_without_a_grace_the_rate_is_divided_by_one_plus_the_lag() -> None:
    rule = Rule(scaling="scale", full_lag_updates=0, max_lag_updates=9)
    assert [judge(lag, 0.0, rule) for lag in (0, 1, 3)] == [Accepted(1.0), Accepted(0.5), Accepted(0.25)]


@given(
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 50),
    st.sampled_from(["none", "scale", "gap", "compensate"]),
)
def test_an_older_gradient_never_weighs_more(lag: int, more: int, grace: int, scaling: str) -> None:
    rule = Rule(scaling=scaling, full_lag_updates=grace, max_lag_updates=100)  # type: ignore[arg-type]
    younger, older = judge(lag, 0.0, rule), judge(lag + more, 0.0, rule)
    if isinstance(younger, Dropped):
        assert older == younger
    if isinstance(older, Accepted):
        assert isinstance(younger, Accepted)
        assert 0.0 < older.scale <= younger.scale <= 1.0


@pytest.mark.parametrize("scaling", ["gap", "compensate"])
def test_what_looks_at_the_gap_counts_no_updates_but_keeps_to_the_bounds(scaling: Literal["gap", "compensate"]) -> None:
    rule = Rule(scaling=scaling, full_lag_updates=0, max_lag_updates=100, max_lag_s=10.0)
    assert judge(100, 10.0, rule) == Accepted(1.0)
    assert judge(101, 0.0, rule) == Dropped(Reason.STALE_UPDATES)
    assert judge(0, 10.1, rule) == Dropped(Reason.STALE_SECONDS)


def test_a_negative_lag_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        judge(-1, 0.0, ACCEPT)
