"""A run writes its curve however short it is, and little however long."""

from __future__ import annotations

from itertools import pairwise

import pytest

from learner.monitoring.progress_interval import LIVELY_S, LOG_S, RECORD_S, SILENT_S, ProgressInterval, of_a_log

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


def logged(lasts_s: int, env_steps: int = 0, env_steps_per_s: float = 3000.0) -> list[int]:
    """When a log has a line: seconds of a life that goes on from ``env_steps``."""
    pace = of_a_log()
    return [now for now in range(lasts_s) if pace.due(env_steps + int(now * env_steps_per_s), float(now))]


def test_a_log_is_lively_for_minutes_and_then_has_a_line_a_minute() -> None:
    moments = logged(DAY_S)
    assert moments[:300] == list(range(300))
    assert {after - before for before, after in pairwise(moments) if before > 5 * 3600} == {SILENT_S}
    assert len(moments) < 3000


def test_a_log_of_a_life_that_goes_on_shows_that_it_does() -> None:
    moments = logged(600, env_steps=1_000_000_000)
    assert moments[:11] == list(range(11))
    assert [after - before for before, after in pairwise(moments[11:])] == [SILENT_S] * (len(moments) - 12)
    waiting = of_a_log()
    assert waiting.due(5, 0.0)
    assert not waiting.due(5, 30.0)  # no actor has come
    assert [waiting.due(5 + step, 40.0 + step * LOG_S) for step in range(1, 5)] == [True] * 4
    assert LIVELY_S > 4 * LOG_S
