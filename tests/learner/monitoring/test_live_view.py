"""The view's rows: what they say, that they fit, and that peers and sizes do no harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from learner.monitoring.bottleneck import Bottleneck, Cause
from learner.monitoring.history import Point
from learner.monitoring.live_view import (
    ASCII,
    News,
    Notice,
    Row,
    count,
    cut,
    duration,
    format_event,
    mean,
    printable,
    size,
    sparkline,
    time_left,
    view,
    wrapped,
)
from learner.monitoring.scene import Place, Scene
from learner.monitoring.summary import RunSummary, summarize
from tests.learner.books import join, learner_state, trained

LONG = "Actors set the pace: the math thread is busy 14% of the time, nothing waits. " * 4


def summary(**changes: object) -> RunSummary:
    state = learner_state(trained([10.0, 20.0]))
    join(state, "local-0", 0.0)
    state.training_since = 0.5
    return replace(summarize(state, 10.5), **{"env_steps": 1100, **changes})  # type: ignore[arg-type]


def points(means: Sequence[float | None], every_s: float = 1.0, steps: int = 100) -> list[Point]:
    return [
        Point(index * every_s, index * steps, value, None, None, None, None, None, None)
        for index, value in enumerate(means, start=1)
    ]


def scene(**changes: object) -> Scene:
    made = Scene(
        summary(),
        Place("runs/CartPole-v1-0-20250101-120000", "http://127.0.0.1:9400", ()),
        env="CartPole-v1",
        until_steps=4000,
        limit=Bottleneck(Cause.ACTORS, "Actors set the pace."),
        states={"training": 1},
        points=points([float(value) for value in range(5, 16)]),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def texts(rows: list[Row]) -> list[str]:
    return ["".join(text for text, _ in row).rstrip() for row in rows]


def test_a_wide_terminal_sees_all_of_it() -> None:
    shown = scene(summary=summary(env_steps_per_s=2500.0, updates_per_s=12.0, lag_mean_updates=0.25))
    assert texts(view(shown, News("checkpoint written  version=3"), 79, 24)) == [
        "CartPole-v1  running 10 s  seed 0",
        "return   15.0 of 475       ──────────────────────────   2%",
        "curve    ▁▂▂▃▄▅▅▆▇▇█  5.00 to 15.0",
        "steps    1,100 of 4,000    ━━━━━━━───────────────────  27%  29 s left",
        "rates    2,500 steps/s · 12 updates/s · lag 0.2 updates",
        "weights  version 3 · 2 episodes · 125 B a gradient · 1 refused",
        "fleet    1 actor",
        "page     http://127.0.0.1:9400",
        "run      runs/CartPole-v1-0-20250101-120000",
        "newest   checkpoint written  version=3",
        "limit    Actors set the pace.",
    ]


def test_forty_columns_hold_the_same_in_more_rows() -> None:
    rows = texts(view(scene(limit=Bottleneck(Cause.ACTORS, LONG)), News("actor joined  actor=local-0"), 39, 23))
    assert max(map(cell_len, rows)) <= 39
    assert rows[1:3] == ["return   15.0 of 475", "         ─────────────────────────   2%"]
    assert rows[4:6] == ["steps    1,100 of 4,000  29 s left", "         ━━━━━━───────────────────  27%"]
    assert "runs/CartPole-v1-0-20250101-120000" in rows  # whole, to be copied
    assert rows[-1].endswith("…")


def test_a_low_terminal_keeps_what_counts() -> None:
    rows = texts(view(scene(), News("actor joined"), 79, 5))
    assert len(rows) <= 5
    assert [row.split()[0] for row in rows] == ["CartPole-v1", "return", "steps", "fleet", "limit"]
    assert len(view(scene(), News(), 39, 1)) == 1


@given(
    st.text(max_size=60),
    st.integers(1, 120),
    st.integers(1, 50),
    st.floats(0, 1e12),
    st.none() | st.floats(-1e9, 1e9),
    st.integers(0, 1 << 53),
)
def test_no_name_and_no_number_breaks_a_row(
    name: str, columns: int, lines: int, wall_s: float, target: float | None, steps: int
) -> None:
    told = summary(wall_s=wall_s, return_target=target, env_steps=steps, journal_failure=name, evaluations=2)
    shown = scene(env=name, summary=told, limit=Bottleneck(Cause.STALLED, name * 9), place=Place(name, name, [name]))
    news = News(printable(name), [Notice("12:00:00", printable(name)), Notice("12:00:01", "x" * 500)])
    rows = texts(view(shown, news, columns, lines))
    assert len(rows) <= lines
    assert all(cell_len(row) <= max(columns, 17) for row in rows)
    assert all(row.isprintable() for row in rows)


def test_what_is_wrong_is_said_in_color() -> None:
    state = {"training": 2, "silent": 1, "quarantined": 3, "evaluating": 1}
    shown = scene(states=state, limit=Bottleneck(Cause.STALLED, "Nothing was applied."), summary=summary(actors=6))
    styles = {text: style for row in view(shown, News(), 79, 24) for text, style in row}
    assert (styles["1 silent"], styles["3 quarantined"], styles["1 evaluating"]) == ("yellow", "bold red", "")
    assert styles["Nothing was applied."] == "yellow"
    assert "training" not in " ".join(styles)


def test_a_journal_that_fails_and_scores_have_rows_of_their_own() -> None:
    told = summary(journal_failure="No space left", evaluations=4, evaluated_best_mean=17.25)
    rows = texts(view(scene(summary=told), News(), 79, 24))
    assert "journal  fails, so a crash loses what is applied: No space left" in rows
    assert "scores   best 17.2 · 4 evaluated" in rows


@pytest.mark.parametrize(
    ("changes", "solved", "title"),
    [
        ({"wall_s": 0.0}, False, "E  waiting for actors  seed 0"),
        ({"stage": "draining"}, False, "E  saving, after 10 s  seed 0"),
        ({"stage": "finished"}, True, "E  target reached in 10 s  seed 0"),
        ({"stage": "finished"}, False, "E  ended after 10 s  seed 0"),
    ],
)
def test_the_title_says_where_the_run_stands(changes: dict[str, object], solved: bool, title: str) -> None:
    rows = texts(view(scene(env="E", summary=summary(**changes), solved=solved), News(), 79, 24))
    assert rows[0] == title


def test_a_run_that_goes_on_says_which_life_it_is() -> None:
    assert texts(view(scene(epoch=3), News(), 79, 24))[0].endswith("seed 0, life 3")


def test_a_reached_target_is_full_and_one_that_falls_back_is_not() -> None:
    def percent(**changes: object) -> str:
        shown = scene(summary=summary(return_target=15.0, **changes))
        return texts(view(shown, News(), 79, 24))[1].split("%")[0].split()[-1]

    assert percent(return_mean=15.0) == "100"
    assert percent(return_mean=14.999) == "99"
    assert percent(return_mean=None) == "0"


def test_without_a_target_and_a_limit_there_are_no_bars() -> None:
    shown = scene(summary=summary(return_target=None, return_best_mean=18.0), until_steps=None)
    rows = texts(view(shown, News(), 79, 24))
    assert rows[1] == "return   15.0 · best 18.0"
    assert rows[3] == "steps    1,100 · 2 episodes"
    assert not any("%" in row for row in rows)


def test_before_it_begins_a_run_says_what_happens() -> None:
    rows = texts(view(None, News("journal repeated  version=9", [Notice("12:00:00", "checkpoint refused")]), 79, 24))
    assert rows == ["starting", "newest   journal repeated  version=9", "▲ 12:00:00 checkpoint refused"]


def test_a_terminal_without_such_letters_gets_others() -> None:
    rows = texts(view(scene(), News("x" * 200, [Notice("12:00:00", "y " * 400)]), 79, 40, ASCII))
    assert all(row.isascii() for row in rows)


def test_time_that_is_left_follows_the_newest_half_of_the_curve() -> None:
    def of(means: Sequence[float | None], goal: float = 100.0) -> float | None:
        known = [value for value in means if value is not None]
        return time_left(points(means), lambda point: point.return_mean, known[-1] if known else 0.0, goal)

    steady = [float(value) for value in range(20)]  # one a second
    assert of(steady) == pytest.approx(81.0)
    assert of([None, *steady]) == pytest.approx(81.0)
    assert of([0.0] * 10 + [float(value) for value in range(10)]) == pytest.approx(91.0)
    assert of([5.0] * 20) is None  # it stands still
    assert of([20.0 - value for value in steady]) is None  # it falls
    assert of(steady[:3]) is None  # too early
    assert of(steady, 10_000.0) is None  # too far to be foretold
    assert of([]) is None


def test_a_curve_is_as_wide_as_there_is_room() -> None:
    assert sparkline([0.0, 7.0], 40) == "▁█"
    assert sparkline([float(value) for value in range(80)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, None, 1.0], 3) == "▁ ▁"
    assert sparkline([3.0], 5) == "▁"


def test_numbers_are_short() -> None:
    assert [count(value) for value in (0, 9_999, 10_000, 123_456, 999_600, 1_234_567, 2.5e9)] == [
        "0",
        "9,999",
        "10.0k",
        "123k",
        "1.00M",
        "1.23M",
        "2.50G",
    ]
    assert [size(value) for value in (812.4, 1_160, 12_345)] == ["812 B", "1,160 B", "12.3kB"]
    assert [mean(value) for value in (0.0, -1.5, 15.0, -200.25, 54_321.0)] == [
        "0.00",
        "-1.50",
        "15.0",
        "-200.2",
        "54.3k",
    ]
    assert [duration(value) for value in (0.4, 59.6, 3_599, 3_600, 90_000)] == [
        "0 s",
        "1 m 00 s",
        "59 m 59 s",
        "1 h 00 m",
        "1 d 01 h",
    ]


def test_words_are_kept_whole_where_they_can_be() -> None:
    assert wrapped("one two three", 7, 9) == ["one two", "three"]
    assert wrapped("abcdefgh ij", 4, 9) == ["abcd", "efgh", "ij"]
    assert wrapped("one two three four", 7, 2) == ["one two", "three…"]
    assert cut("世界世界", 5) == "世界…"
    assert cut("abc", 0) == ""


def test_the_summary_is_short_on_a_terminal() -> None:
    line = format_event(
        "finished", {"env": "E-v0", "solved": True, "wall_s": 4.61188, "versions": {"torch": "2"}, "faults": {}}
    )
    assert line == "finished  env=E-v0  solved=True  wall_s=4.612"


def test_a_peer_cannot_move_the_cursor() -> None:
    assert "\x1b" not in format_event("actor_joined", {"actor": "\x1b[2J\nevil"})
    assert printable("a\x07b") == "a\N{REPLACEMENT CHARACTER}b"


def test_a_traceback_stands_below_its_event() -> None:
    told = format_event("worker_failed", {"detail": "boom", "traceback": "Traceback:\n  File \x1b[2J\n"})
    assert told.splitlines() == ["worker failed  detail=boom", "Traceback:", "  File \N{REPLACEMENT CHARACTER}[2J"]
    assert format_event("worker_failed", {"detail": "boom", "traceback": ""}) == "worker failed  detail=boom"
