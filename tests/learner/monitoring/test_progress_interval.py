"""A run writes its curve however short it is, and little however long."""

from __future__ import annotations

import pytest

from learner.monitoring.progress_interval import RECORD_S, SILENT_S, ProgressInterval

DAY_S = 86_400


def lines(seconds: int, env_steps_per_s: float, life_s: float = float("inf")) -> int:
    """Lines of a run of so many seconds, asked for RECORD_S apart; a life of the learner takes ``life_s``."""
    pace, count, begun = ProgressInterval(), 0, 0.0
    for tick in range(int(seconds / RECORD_S)):
        now = tick * RECORD_S
        if now - begun >= life_s:
            pace, begun = ProgressInterval(), now
        count += pace.due(int(now * env_steps_per_s), now)
    return count


def test_a_short_run_has_a_curve() -> None:
    assert lines(3, 3000.0) == 12
    assert lines(500, 3000.0) == 2000


def test_no_two_lines_are_closer_than_that() -> None:
    pace = ProgressInterval()
    assert pace.due(10, 5.0)
    assert not pace.due(1000, 5.0 + RECORD_S / 2)
    assert pace.due(1000, 5.0 + RECORD_S)


@pytest.mark.parametrize("env_steps_per_s", [30.0, 3000.0, 300_000.0])
def test_a_day_takes_few_lines_at_any_pace(env_steps_per_s: float) -> None:
    """A line has at most some 500 bytes: under 7 MB."""
    assert 1500 < lines(DAY_S, env_steps_per_s) < 14_000


def test_many_lives_take_no_more_than_one() -> None:
    lives, one = lines(DAY_S, 3000.0, life_s=60.0), lines(DAY_S, 3000.0)
    assert one <= lives <= one + DAY_S // 60


def test_a_run_that_waits_says_so_once_a_minute() -> None:
    assert lines(int(10 * SILENT_S), 0.0) == 10
