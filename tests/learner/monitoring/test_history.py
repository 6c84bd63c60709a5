"""The curve keeps its shape in bounded memory, whatever a run's length; what earlier lives wrote down leads into it."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.monitoring.history import (
    FEW,
    INTERVAL_S,
    LONGEST_S,
    LOOK_S,
    MEAN_S,
    MOST,
    NO_EARLIER_LIVES,
    RECENT_S,
    Counts,
    EarlierLives,
    History,
    Recent,
    Sample,
    read_earlier_lives,
)


def sample(time_s: float, env_steps: int = 0, **changes: object) -> Sample:
    fields: dict[str, object] = {
        "version": 0,
        "lags": 0,
        "lag_updates": 0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "math_s": 0.0,
        "return_mean": None,
        "return_min": None,
        "return_max": None,
    }
    return Sample(time_s, env_steps, **{**fields, **changes})  # type: ignore[arg-type]


def line(wall_s: float, env_steps: int, mean: float | None = 1.0, event: str = "progress", **more: float) -> bytes:
    said = {"event": event, "wall_s": wall_s, "env_steps": env_steps, "return_mean": mean, "env_steps_per_s": 5.0}
    said.update(more)
    return json.dumps(said).encode()


def ticked(count: int, past: EarlierLives = NO_EARLIER_LIVES) -> History:
    """A history of so many ticks, of 100 environment steps and 1 byte up each."""
    history = History(past)
    for tick in range(count):
        history.add(sample(tick * INTERVAL_S, tick * 100, received_bytes=tick, return_mean=float(tick)))
    return history


def test_the_first_sample_is_where_the_curve_is_measured_from() -> None:
    assert ticked(1).points == []
    (point,) = ticked(2).points
    assert (point.time_s, point.env_steps, point.return_mean) == (INTERVAL_S, 100, 1.0)
    assert point.env_steps_per_s == 100 / INTERVAL_S
    assert point.lag_updates is None


def test_a_tick_that_comes_too_early_makes_no_point() -> None:
    history = ticked(2)
    history.add(sample(1.5 * INTERVAL_S))
    assert len(history.points) == 1


def test_rates_are_means_of_some_seconds_so_that_bursts_do_not_hide_them() -> None:
    history = History()
    for tick in range(40):
        history.add(sample(tick * INTERVAL_S, tick // 4 * 400, lags=tick, lag_updates=3 * tick, arrivals=tick))
    assert {point.env_steps_per_s for point in history.points[max(FEW, int(MEAN_S / INTERVAL_S)) :]} == {400.0}
    assert history.points[-1].lag_updates == 3.0


def test_rollouts_that_take_long_make_no_sawtooth() -> None:
    """Two actors, whose rollouts of 500 steps take eight seconds and end together, with 40 gradients each."""
    history, recent = History(), Recent()
    for tick in range(int(240 / INTERVAL_S)):
        time_s = tick * INTERVAL_S
        rollouts = int(time_s / 8.0)
        seen = sample(time_s, 1000 * rollouts, lags=80 * rollouts, arrivals=rollouts)
        history.add(seen)
        if recent.due(time_s):
            recent.add(Counts(time_s, seen, {}, {7: 500 * rollouts}))
            if time_s > 2 * LONGEST_S:
                then = recent.baseline(time_s)
                assert then is not None
                assert 110.0 < (seen.env_steps - then.seen.env_steps) / (time_s - then.now_s) < 140.0
                assert 55.0 < (recent.steps_per_s(7, 500 * rollouts, time_s) or 0.0) < 70.0
    rates = [point.env_steps_per_s for point in history.points if point.time_s > 2 * LONGEST_S]
    assert all(rate is not None and 105.0 < rate < 145.0 for rate in rates)  # 0 to 330 with means of three seconds


@given(st.integers(0, 6 * MOST))
def test_however_long_a_run_is_its_curve_is_bounded_even_and_ends_now(count: int) -> None:
    history = ticked(count)
    assert len(history.points) < MOST
    times = [point.time_s for point in history.points]
    assert times == sorted(set(times))
    if count > 1:
        assert history.points[-1].time_s > (count - 1) * INTERVAL_S - history.interval_s
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap == pytest.approx(history.interval_s) for gap in gaps)
    assert all(point.env_steps_per_s == pytest.approx(100 / INTERVAL_S) for point in history.points)


def test_thinning_keeps_extremes() -> None:
    history = History()
    for tick in range(MOST + 1):
        low = -50.0 if tick == 6 else 0.0
        history.add(sample(tick * INTERVAL_S, tick, return_mean=1.0, return_min=low, return_max=2.0))
    assert history.interval_s == 2 * INTERVAL_S
    assert min(point.return_min for point in history.points if point.return_min is not None) == -50.0


def test_what_is_new_is_what_comes_later() -> None:
    history = ticked(9)
    assert history.since(-1.0) == history.points
    assert [point.time_s for point in history.since(history.points[-3].time_s)] == [
        point.time_s for point in history.points[-2:]
    ]
    assert history.since(history.points[-1].time_s) == []


def test_a_life_goes_on_where_the_earlier_ones_ended() -> None:
    past = read_earlier_lives([line(1.0, 10), line(2.0, 20)], env_steps=20)
    history = ticked(3, past)
    assert [point.time_s for point in history.points] == [1.0, 2.0, 2.0 + INTERVAL_S, 2.0 + 2 * INTERVAL_S]
    assert history.points[0].env_steps_per_s == 5.0


def test_a_life_that_goes_on_has_no_rates_before_its_first_rollout_has_ended() -> None:
    """They would be a hole in the curve: it is not known yet that they are what they were."""
    history = History(read_earlier_lives([line(1.0, 10), line(2.0, 20)], env_steps=20))
    for tick in range(12):
        history.add(sample(tick * INTERVAL_S, 20 + 400 * (tick // 8), received_bytes=tick))
    rates = [(point.env_steps_per_s, point.received_bytes_per_s is None) for point in history.points[2:]]
    assert rates[:7] == [(None, True)] * 7
    assert rates[7] == (200.0, False)
    assert min(rate or 0.0 for rate, _ in rates[7:]) > 0.0


def test_the_past_is_told_once() -> None:
    """A visitor says the time of its last point, which it heard with three digits."""
    past = read_earlier_lives([line(1.1, 10), line(0.1, 20), line(2.2, 30), line(0.1, 40)], 40)
    assert past.points[-1].time_s == 3.4 != 1.1 + 2.2 + 0.1
    assert History(past).since(3.4) == []


def test_time_that_led_nowhere_was_spent_all_the_same() -> None:
    history = ticked(2, read_earlier_lives([line(1.0, 10), line(2.0, 20), line(5.0, 50)], env_steps=20))
    assert [point.time_s for point in history.points] == [1.0, 2.0, 5.0 + INTERVAL_S]


def test_a_long_past_is_thinned_to_the_same_distance() -> None:
    assert (
        History(read_earlier_lives([line(1.0, 1), line(1000.0 * MOST * INTERVAL_S, 2)], 2)).interval_s
        == 1024 * INTERVAL_S
    )


def test_lives_are_told_apart_and_what_one_lost_is_not_shown() -> None:
    lines = [line(1.0, 10), line(2.0, 20), line(3.0, 30), line(0.5, 22), line(1.0, 25), line(2.0, 40)]
    told = read_earlier_lives(lines, env_steps=30)
    assert [(point.time_s, point.env_steps) for point in told.points] == [(1.0, 10), (2.0, 20), (3.5, 22), (4.0, 25)]
    assert told.time_s == 5.0


def times(*moments: tuple[float, float]) -> list[float]:
    """The points of lines that were written after so many seconds of their life, at this moment of the wall clock."""
    return [
        point.time_s for point in read_earlier_lives([line(wall, 10, unix_s=unix) for wall, unix in moments], 10).points
    ]


def test_a_life_that_is_shorter_than_the_distance_of_lines_is_told_apart_by_the_clock() -> None:
    assert times((40.0, 1040.0), (100.0, 1200.0), (150.0, 1250.0)) == [40.0, 140.0, 190.0]
    assert times((40.0, 1040.0), (100.0, 1100.0)) == [40.0, 100.0]
    assert times((40.0, 1040.002), (100.0, 1139.9)) == [40.0, 100.0], "the same life: it began before the first line"


def test_a_machine_that_slept_goes_on_with_its_life() -> None:
    assert times((1.0, 1001.0), (2.0, 1002.0), (3.0, 9000.0)) == [1.0, 2.0, 3.0]


def test_a_wait_for_actors_is_no_time_of_training() -> None:
    assert times((0.0, 1000.0), (0.0, 1060.0), (0.25, 1100.0)) == [0.0, 0.0, 0.25]


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'"progress"',
        line(1.0, 1, event="started"),
        b'{"event":"progress"}',
        b'{"event":"progress","wall_s":"x","env_steps":1}',
        b'{"event":"progress","wall_s":1,"env_steps":true}',
    ],
)
def test_lines_that_tell_nothing_are_passed_over(strange: bytes) -> None:
    assert len(read_earlier_lives([strange, line(1.0, 10), strange], env_steps=10).points) == 1


def test_an_earlier_life_has_all_that_this_one_shows() -> None:
    """Of lines that lie far apart: rates are means between them, and not what was true at one moment."""

    def told(wall_s: float, env_steps: int, **counts: float) -> bytes:
        return line(wall_s, env_steps, 1.0, "progress", return_min=-1.0, return_max=3.0, **counts)

    lines = [
        told(1.0, 10, lag_count=2, lag_sum_updates=6, received_bytes=100, sent_bytes=50),
        told(3.0, 50, lag_count=4, lag_sum_updates=8, received_bytes=300, sent_bytes=90),
        told(0.5, 55, lag_count=1, lag_sum_updates=5, received_bytes=350, sent_bytes=95),
    ]
    first, second, third = read_earlier_lives(lines, env_steps=60).points
    assert (second.return_min, second.return_max) == (-1.0, 3.0)
    assert (first.lag_updates, second.lag_updates, third.lag_updates) == (3.0, 1.0, 5.0)
    assert (second.env_steps_per_s, second.received_bytes_per_s, second.sent_bytes_per_s) == (20.0, 100.0, 20.0)
    assert third.received_bytes_per_s is None  # a life's first line has none before it


def test_a_mean_that_was_not_known_stays_so() -> None:
    assert read_earlier_lives([line(1.0, 10, mean=None)], 10).points[0].return_mean is None


def looked(*moments: tuple[float, int], arrivals_per_s: int = 0) -> Recent:
    recent = Recent()
    for now, steps in moments:
        recent.add(Counts(now, sample(now, steps, arrivals=int(now * arrivals_per_s)), {}, {7: steps}))
    return recent


def test_rates_are_measured_from_some_seconds_ago() -> None:
    recent = looked(*((float(second), 10 * second) for second in range(20)), arrivals_per_s=4)
    then = recent.baseline(19.5)
    assert then is not None
    assert RECENT_S <= 19.0 - then.now_s < RECENT_S + LOOK_S
    assert recent.steps_per_s(7, 195, 19.5) == pytest.approx(10.0)


def test_no_rate_is_told_before_it_can_be_measured() -> None:
    recent = looked((1.0, 10))
    assert recent.baseline(1.1) is None
    assert recent.steps_per_s(7, 11, 1.1) is None
    assert recent.steps_per_s(8, 11, 9.0) is None
    assert Recent().baseline(9.0) is None


def test_it_is_time_for_a_look_once_a_second() -> None:
    assert Recent().due(0.0)
    assert not looked((1.0, 0)).due(1.0 + LOOK_S / 2)
    assert looked((1.0, 0)).due(1.0 + LOOK_S)
