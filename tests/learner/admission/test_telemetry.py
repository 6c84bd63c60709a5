"""What actors say of themselves: added up where it can be true, and harmless where it cannot."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.admission.telemetry import LATE_S, MOST_AGE, MOST_STEPS_PER_S, Telemetry, quantiles
from protocol.messages import Heartbeat

ANY_MS = st.integers(0, (1 << 53) - 1)


def beat(session: int = 1, progress: int = 0, **said: Any) -> Heartbeat:
    return Heartbeat(session, progress, 0, **said)


def rate(vitals: Telemetry, session: int = 1) -> float | None:
    return vitals.sessions[session].rate


def test_times_add_up_over_actors_from_each_ones_first_word_on() -> None:
    vitals = Telemetry()
    vitals.record(beat(1, collect_ms=90_000, wait_ms=5), 0.0)  # of an earlier life of the learner
    vitals.record(beat(2), 0.0)
    vitals.record(beat(1, collect_ms=90_500, learn_ms=300, wait_ms=105), 1.0)
    vitals.record(beat(2, collect_ms=250, compress_ms=50), 1.0)
    assert vitals.seconds == pytest.approx([0.75, 0.3, 0.05, 0.1])


def test_a_lost_heartbeat_loses_nothing() -> None:
    vitals = Telemetry()
    vitals.record(beat(), 0.0)
    vitals.record(beat(learn_ms=2900), 3.0)
    assert vitals.seconds[1] == pytest.approx(2.9)


def test_a_rollout_that_began_before_the_first_word_counts_once_there_was_time_for_it() -> None:
    vitals = Telemetry()
    vitals.record(beat(), 0.0)
    vitals.record(beat(collect_ms=25_000), 5.0)
    assert vitals.seconds[0] == 0.0
    vitals.record(beat(collect_ms=25_500), 16.0)
    assert vitals.seconds[0] == pytest.approx(25.5)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), ANY_MS, ANY_MS, ANY_MS, ANY_MS), max_size=20))
def test_whatever_one_actor_says_it_adds_no_more_than_there_was_time_for(
    said: list[tuple[float, int, int, int, int]],
) -> None:
    vitals, now = Telemetry(), 100.0
    for after_s, collect_ms, learn_ms, compress_ms, wait_ms in said:
        now += after_s
        vitals.record(Heartbeat(1, 0, 0, 0.0, 0.0, collect_ms, learn_ms, compress_ms, wait_ms), now)
    here_s = now - 100.0
    assert sum(vitals.seconds) <= here_s + min(here_s, LATE_S) + 1e-6
    assert min(vitals.seconds) >= 0.0


def test_who_comes_and_goes_adds_nothing() -> None:
    vitals = Telemetry()
    for session in range(100):
        vitals.record(beat(session), 1.0)
        vitals.record(beat(session, collect_ms=9_000), 1.0)
        vitals.forget(session)
    assert vitals.seconds[0] == 0.0
    assert not vitals.sessions


def test_times_that_run_backwards_are_passed_over() -> None:
    vitals = Telemetry()
    vitals.record(beat(learn_ms=1000), 0.0)
    vitals.record(beat(learn_ms=500, wait_ms=400), 1.0)
    assert vitals.seconds == [0.0] * 4


def test_the_rate_is_taken_over_time_and_fades() -> None:
    vitals = Telemetry()
    vitals.record(beat(progress=1000), 0.0)
    assert rate(vitals) is None
    vitals.record(beat(progress=1100), 0.1)  # held up, and one behind the other
    assert rate(vitals) is None
    vitals.record(beat(progress=1500), 1.0)
    assert rate(vitals) == pytest.approx(500.0)
    vitals.record(beat(progress=1500), 2.0)
    assert rate(vitals) == pytest.approx(400.0)


@pytest.mark.parametrize("steps", [0, 1000 + int(2 * MOST_STEPS_PER_S)])
def test_a_rate_that_cannot_be_is_passed_over(steps: int) -> None:
    vitals = Telemetry()
    vitals.record(beat(progress=1000), 0.0)
    vitals.record(beat(progress=steps), 1.0)
    assert rate(vitals) is None
    vitals.record(beat(progress=steps + 10), 2.0)
    assert rate(vitals) == pytest.approx(10.0)


def test_round_trips_and_ages_are_bounded() -> None:
    vitals = Telemetry()
    vitals.record(beat(round_trip_s=0.25, residual_age=(1 << 53) - 1), 0.0)
    vitals.record(beat(round_trip_s=math.nan), 0.5)
    assert vitals.sessions[1].round_trip_s == 0.25
    vitals.record(beat(residual_age=(1 << 53) - 1), 1.0)
    assert vitals.sessions[1].residual_age == MOST_AGE


def test_quantiles_are_values_that_are_there() -> None:
    assert quantiles([]) == []
    assert quantiles([7.0]) == [7.0, 7.0, 7.0]
    assert quantiles([5.0, 1.0, 3.0]) == [1.0, 3.0, 5.0]
    assert quantiles([*range(99), 1e9]) == [0, 50, 1e9]
