"""What one actor is granted, from what its heartbeats tell."""

from __future__ import annotations

import math

import pytest

from learner.admission.credit import NOISE_S, first, grant
from learner.config import LearnerSettings

SETTINGS = LearnerSettings(credit=2, most_credit=8, credit_lag=16)


def settled(round_trip_s: float, work_s: float, training: int = 1, settings: LearnerSettings = SETTINGS) -> int:
    """After many heartbeats that tell the same."""
    held = settings.credit
    for _ in range(100):
        before, held = held, grant(held, round_trip_s, work_s, training, settings)
        assert before // 2 <= held <= 2 * before
    assert grant(held, round_trip_s, work_s, training, settings) == held
    return held


def test_a_short_round_trip_needs_no_more_than_the_least() -> None:
    assert settled(NOISE_S, 0.001) == 2


def test_a_round_trip_is_hidden_by_as_many_as_are_made_meanwhile() -> None:
    assert settled(0.2 + NOISE_S, 0.05) == 1 + 5  # 4, and a quarter more: they come in bursts
    assert settled(0.21 + NOISE_S, 0.05) == 1 + 6


def test_nobody_is_granted_more_than_the_most() -> None:
    assert settled(9.0, 0.01) == 8
    assert settled(9.0, 0.01, settings=LearnerSettings(credit=4, most_credit=1)) == 4


def test_all_grants_together_stay_within_their_lag() -> None:
    assert settled(9.0, 0.01, training=4) == 4
    assert settled(9.0, 0.01, training=16) == 1


def test_in_a_large_fleet_each_has_one_from_the_first() -> None:
    assert [first(training, SETTINGS) for training in (1, 4, 5, 1000)] == [2, 2, 1, 1]
    assert settled(0.0, 0.01, training=100) == 1


def test_a_fleet_that_shrinks_gives_the_least_back() -> None:
    assert grant(1, 0.0, 0.01, 4, SETTINGS) == 2


def test_a_fleet_that_grows_takes_grants_back() -> None:
    assert grant(8, 9.0, 0.01, 3, SETTINGS) == 5
    assert grant(8, 9.0, 0.01, 16, SETTINGS) == 4
    assert grant(8, 0.0, 0.0, 16, SETTINGS) == 4  # whatever is known


def test_a_difference_of_one_takes_nothing_back() -> None:
    assert grant(7, 0.2 + NOISE_S, 0.05, 1, SETTINGS) == 7
    assert grant(8, 0.2 + NOISE_S, 0.05, 1, SETTINGS) == 7


@pytest.mark.parametrize("told", [(0.0, 0.0), (math.nan, 0.1), (0.1, math.nan), (math.inf, 0.1), (0.1, math.inf)])
def test_what_says_nothing_changes_nothing(told: tuple[float, float]) -> None:
    assert grant(3, *told, 1, SETTINGS) == 3


@pytest.mark.parametrize("work_s", [5e-324, 1e-300, 86_400.0])
def test_no_two_numbers_that_a_heartbeat_may_hold_are_too_much(work_s: float) -> None:
    assert 1 <= settled(86_400.0, work_s) <= SETTINGS.most_credit
