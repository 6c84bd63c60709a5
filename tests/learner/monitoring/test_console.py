"""What is shown: rates, JSON lines, and on a terminal a view that nobody has to read."""

from __future__ import annotations

import io
import json
import sys
import threading

import pytest

from learner.monitoring.console import Console
from learner.monitoring.scene import Scene
from learner.monitoring.summary import RunSummary, summarize
from tests.learner.books import join, learner_state, trained


@pytest.fixture(autouse=True)
def _able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Paused(io.StringIO):
    """Takes nothing until it is told to resume."""

    def __init__(self, tty: bool = True) -> None:
        super().__init__()
        self.stood, self.resumed = threading.Event(), threading.Event()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def write(self, text: str) -> int:
        self.stood.set()
        self.resumed.wait()
        return super().write(text)


class Full(io.StringIO):
    tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise OSError(28, "No space left on device")


def seen(now: float = 1.0, env_steps: int = 1000) -> RunSummary:
    state = learner_state(trained([10.0, 20.0]))
    state.progress.env_steps = env_steps
    join(state, "local-0", 0.0)
    state.training_since = 0.5
    return summarize(state, now)


def test_a_view_is_read_from_the_books() -> None:
    shown = seen()
    assert (shown.env_steps, shown.episodes, shown.version, shown.actors) == (1000, 2, 3, 1)
    assert shown.return_mean == 15.0
    assert shown.return_best_mean is None
    assert shown.refused == 1
    assert shown.bytes_per_gradient == 125.0
    assert shown.wall_s == 0.5


def test_an_empty_view_has_no_rates_and_no_means() -> None:
    shown = summarize(learner_state(), 9.0)
    assert (shown.wall_s, shown.env_steps_per_s, shown.return_mean, shown.bytes_per_gradient) == (0.0, 0.0, None, None)


def test_the_first_rate_is_the_rate_itself_and_later_ones_follow_slowly() -> None:
    state = learner_state(trained([1.0]))
    first = summarize(state, 0.0)
    state.progress.env_steps += 500
    second = summarize(state, 0.5, first)
    assert second.env_steps_per_s == pytest.approx(1000.0)
    third = summarize(state, 1.0, second)
    assert 0.0 < third.env_steps_per_s < 1000.0


def test_rates_of_rare_rollouts_are_no_sawtooth() -> None:
    """Two rollouts of 500 steps end together every eight seconds, from eight seconds after the first weights on."""
    state = learner_state(trained([1.0]))
    before, rates = summarize(state, 90.0), list[float]()
    state.training_since, steps = 100.0, state.progress.env_steps
    for tick in range(4 * 300):
        now = 100.0 + tick / 4
        rollouts = int((now - 100.0) / 8.0)
        state.progress.env_steps, state.progress.version = steps + 1000 * rollouts, 3 + 2 * rollouts
        before = summarize(state, now, before)
        rates.append(before.env_steps_per_s)
    assert max(rates) < 135.0
    assert min(rates[4 * 60 :]) > 105.0


def test_two_views_of_one_moment_have_one_rate() -> None:
    state = learner_state(trained([1.0]))
    first = summarize(state, 1.0)
    state.progress.env_steps += 500
    second = summarize(state, 2.0, first)
    assert summarize(state, 2.0, second).env_steps_per_s == second.env_steps_per_s


def test_json_has_one_line_for_each_event_and_one_progress_in_a_second() -> None:
    stream = io.StringIO()
    console = Console(json=False, stream=stream)
    console.event("actor_joined", {"actor": "local-0"})
    for quarter in range(5):
        console.refresh(seen(1.0 + quarter / 4, env_steps=1000 + quarter))
    console.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["actor_joined", "progress", "progress"]
    assert lines[1]["env_steps"] == 1000
    assert "now_s" not in lines[1]


def test_json_is_had_on_a_terminal_too() -> None:
    stream = Terminal()
    console = Console(json=True, stream=stream)
    console.event("started", {})
    console.close()
    assert json.loads(stream.getvalue()) == {"event": "started"}


def test_a_terminal_gets_a_view_and_events() -> None:
    stream = Terminal()
    console = Console(json=False, stream=stream)
    assert console.live
    console.event("actor_joined", {"actor": "local-0"})
    console.show(Scene(seen()))
    console.refresh(seen())
    console.close()
    assert "actor joined  actor=local-0" in stream.getvalue()
    assert "15.0 of 475" in stream.getvalue()
    assert "progress" not in stream.getvalue()


def test_a_pipe_gets_no_view() -> None:
    stream = io.StringIO()
    console = Console(json=False, stream=stream)
    assert not console.live
    console.show(Scene(seen()))
    console.close()
    assert stream.getvalue() == ""


def test_after_the_end_a_terminal_hears_how_to_go_on_and_no_goodbyes_of_actors() -> None:
    for stream, told in ((Terminal(), False), (io.StringIO(), True)):
        console = Console(json=False, stream=stream)
        console.event("finished", {})
        console.event("learner_lost", {"why": "the learner said goodbye"})
        console.say("to go on: learner run --resume")
        console.close()
        assert ("the learner said goodbye" in stream.getvalue(), "to go on" in stream.getvalue()) == (told, not told)


def test_a_closed_pipe_stops_nothing() -> None:
    stream = Full()
    console = Console(json=True, stream=stream)
    console.event("started", {})
    console.event("draining", {})
    console.close()
    assert stream.tried == 2  # the second line was written as if the first had been


def test_a_terminal_that_stands_still_loses_events_and_shows_the_newest_view_when_it_goes_on() -> None:
    stream = Paused()
    console = Console(json=False, stream=stream, limit=2)
    console.show(Scene(seen(1.0)))
    stream.stood.wait()  # in the first drawing
    console.show(Scene(seen(2.0)))
    for name in ("local-0", "local-1", "local-2"):
        console.event("actor_joined", {"actor": name})
    console.show(Scene(seen(90.5)))
    stream.resumed.set()
    console.close()
    shown = stream.getvalue()
    assert "local-0" in shown
    assert "local-1" not in shown
    assert "output lost lines=2" in shown
    assert "running 1 m 30 s" in shown


def test_a_pipe_that_is_not_read_says_how_many_lines_it_lost() -> None:
    stream = Paused(tty=False)
    console = Console(json=True, stream=stream, limit=1)
    console.event("started", {})
    stream.stood.wait()
    for second in range(5):
        console.refresh(seen(float(second), env_steps=1000 + second))
    stream.resumed.set()
    console.close()
    said_lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in said_lines] == ["started", "progress", "output_lost"]
    assert said_lines[-1]["lines"] == 4


def test_what_libraries_write_to_stderr_stands_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, stderr = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    console = Console(json=False, stream=stream)
    console.show(Scene(seen()))
    sys.stderr.write("a warning\n\x1b[2Jand")
    console.close()
    assert sys.stderr is stderr
    assert stderr.getvalue() == ""
    assert "a warning" in stream.getvalue()
    assert "\N{REPLACEMENT CHARACTER}[2Jand" in stream.getvalue()


def test_stderr_that_goes_elsewhere_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    console = Console(json=False, stream=Terminal())
    assert sys.stderr is file
    console.close()
