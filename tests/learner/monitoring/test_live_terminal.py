"""The live view as a terminal shows it: one place, no remains, and a terminal that is as it was afterwards."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from learner.monitoring.bottleneck import Bottleneck, Cause
from learner.monitoring.live_terminal import MOST_NOTICES, PLAIN_S, ROUTINE, Lines, LiveTerminal
from learner.monitoring.scene import Place, Scene
from learner.monitoring.summary import summarize
from tests.learner.books import join, learner_state, trained
from tests.learner.monitoring.screen import Screen
from tests.loopback.system import ROOT

WORDS = "Actors set the pace: the math thread is busy 14% of the time, nothing waits. " * 2


def scene(now: float = 10.0, limit: str = "Actors set the pace.") -> Scene:
    state = learner_state(trained([10.0, 20.0]))
    join(state, "local-0", 0.0)
    state.training_since = 0.5
    place = Place("runs/CartPole-v1-0-20250101-120000", "http://127.0.0.1:9400")
    return Scene(summarize(state, now), place, "CartPole-v1", limit=Bottleneck(Cause.ACTORS, limit))


class Watched(io.StringIO):
    """A terminal of a size. writes: each of them; screen: what they leave."""

    def __init__(self, columns: int, lines: int, encoding: str = "utf-8") -> None:
        super().__init__()
        self.screen, self.writes, self._encoding = Screen(columns, lines), list[str](), encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def write(self, text: str) -> int:
        self.writes.append(text)
        self.screen.feed(text.replace("\n", "\r\n"))  # as the kernel does
        return len(text)


@pytest.fixture(autouse=True)
def _able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


def begun(columns: int = 80, lines: int = 24) -> tuple[Watched, LiveTerminal]:
    stream = Watched(columns, lines)
    stream.screen.feed("$ learner run\r\n")
    return stream, LiveTerminal(stream, stream.size)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_view_is_drawn_over_itself_in_one_write_and_erases_nothing_first(columns: int) -> None:
    stream, terminal = begun(columns)
    terminal.show(scene(10.0))
    first = stream.screen.shown
    stream.writes.clear()
    terminal.show(scene(12.0))
    terminal.show(scene(12.0))
    assert len(stream.writes) == 1  # what is the same is not drawn again
    assert stream.writes[0].index("\x1b[?7l") < stream.writes[0].index("CartPole")  # no line is broken meanwhile
    assert stream.screen.on == {"7", "25"}
    assert stream.screen.shown == [row.replace("running 10 s", "running 12 s") for row in first]
    terminal.show(scene(70.0))
    assert stream.screen.shown[0] == "$ learner run"
    assert stream.screen.shown[1].startswith("CartPole-v1  running 1 m 10 s")
    assert len(stream.screen.shown) == len(first)
    assert "\x1b[J" not in stream.writes[-1].removesuffix("\x1b[J\x1b[?7h\x1b[?25h\x1b[?2026l")


def test_a_view_that_became_lower_leaves_nothing_below_it() -> None:
    stream, terminal = begun()
    terminal.show(scene(limit=WORDS))
    terminal.show(scene(limit="Short."))
    assert stream.screen.shown[-1] == "limit    Short."


@pytest.mark.parametrize(("columns", "lines"), [(40, 40), (120, 24), (80, 12), (23, 40), (200, 5)])
def test_another_size_is_followed(columns: int, lines: int) -> None:
    stream, terminal = begun()
    terminal.show(
        replace(scene(limit=WORDS), env="LongerThanHalfATerminal-v0", states={"standing still": 1, "silent": 9})
    )
    terminal.show(scene(11.0, limit=WORDS))
    stream.screen.resize(columns, lines)
    terminal.show(scene(11.0, limit=WORDS))
    fresh, other = begun(columns, lines)
    other.show(scene(11.0, limit=WORDS))
    seen = [row for row in stream.screen.shown if row != "$ learner run"]
    assert seen == [row for row in fresh.screen.shown if row != "$ learner run"]
    assert stream.screen.broken == 0


def test_what_happens_in_every_run_is_one_row() -> None:
    stream, terminal = begun()
    terminal.show(scene())
    for number in range(30):
        terminal.event("actor_joined", {"actor": f"spot-{number}"})
    assert "newest   actor joined  actor=spot-29" in stream.screen.shown
    assert not any("spot-28" in row for row in stream.screen.shown + stream.screen.kept)


def test_what_counts_as_routine_is_what_runs_tell() -> None:
    told = (ROOT / "deploy" / "PROGRESS.md").read_text("utf-8")
    assert [name for name in sorted(ROUTINE) if f"`{name}`" not in told] == []


def test_what_a_person_should_know_stays_in_the_view_and_then_above_it() -> None:
    stream, terminal = begun()
    terminal.show(scene())
    terminal.event("advice", {"kind": "rate_annealed", "setting": "learner.anneal_steps", "text": "Little is left."})
    assert any(row.endswith("Little is left. (learner.anneal_steps)") for row in stream.screen.shown)
    for number in range(MOST_NOTICES):
        terminal.event("quarantined", {"actor": f"a{number}"})
    shown = stream.screen.shown
    title = next(index for index, row in enumerate(shown) if row.startswith("CartPole-v1"))
    assert "Little is left." in shown[title - 1]
    assert [f"a{number}" in "\n".join(shown[title:]) for number in range(MOST_NOTICES)] == [True] * MOST_NOTICES
    assert sum("return" in row for row in shown) == 1


def test_a_traceback_and_what_others_write_stand_above_the_view() -> None:
    stream, terminal = begun(40)
    terminal.show(scene())
    terminal.event("worker_failed", {"detail": "boom", "traceback": "Traceback:\n  File   'x.py'"})
    terminal.say("a warning " * 6)
    shown = stream.screen.shown
    title = next(index for index, row in enumerate(shown) if row.startswith("CartPole-v1"))
    assert shown[:title][:4] == ["$ learner run", "worker failed  detail=boom", "Traceback:", "  File   'x.py'"]
    assert "".join(shown[4:title]).replace(" ", "") == "awarning" * 6
    assert stream.screen.shown[title + 1].startswith("return")


def test_the_last_view_stands_and_the_result_is_below_it() -> None:
    stream, terminal = begun()
    terminal.show(scene())
    stream.screen.feed("^C")  # as a terminal shows it, where the cursor is
    terminal.event("draining", {"why": "SIGINT"})
    state = replace(scene().summary, stage="finished")
    terminal.show(replace(scene(), summary=state))
    terminal.event("finished", {"env": "CartPole-v1", "solved": False})
    terminal.event("learner_lost", {"why": "the learner said goodbye"})
    terminal.event("sink_closed", {"sink": "mlflow"})
    terminal.show(scene(99.0))
    terminal.say("to go on: learner run --resume")
    terminal.settle()
    shown = stream.screen.shown
    assert shown[1].startswith("CartPole-v1  ended after")
    assert shown[-4:] == [
        "limit    Actors set the pace.",
        "finished env=CartPole-v1 solved=False",
        "sink closed sink=mlflow",
        "to go on: learner run --resume",
    ]
    assert not any("^C" in row or "goodbye" in row for row in shown)
    assert (stream.screen.column, stream.screen.on) == (0, {"7", "25"})


def test_a_run_that_never_began_leaves_what_was_noticed() -> None:
    stream, terminal = begun()
    terminal.event("journal_repeated", {"version": 7})
    terminal.event("checkpoint_refused", {"path": "x"})
    assert "starting" in stream.screen.shown
    terminal.settle()
    assert [row[9:] if index else row for index, row in enumerate(stream.screen.shown)] == [
        "$ learner run",
        "checkpoint refused path=x",
    ]


def test_a_name_can_neither_move_the_cursor_nor_break_a_row() -> None:
    stream, terminal = begun(40)
    terminal.show(replace(scene(), env="世界" * 40))
    terminal.event("actor_joined", {"actor": "\x1b[2J\r\n\x9b5A" + "界" * 60})
    terminal.event("quarantined", {"actor": "\x1b]0;x\x07" + "é" * 300})
    assert stream.screen.shown[0] == "$ learner run"
    assert stream.screen.broken == 0
    assert stream.screen.widest == 39  # the last column stays free


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    colored, terminal = begun()
    terminal.show(scene())
    monkeypatch.setenv("NO_COLOR", "1")
    plain, terminal = begun()
    terminal.show(scene())
    assert plain.screen.shown == colored.screen.shown
    assert "\x1b[32m" in colored.writes[0]  # running, in green
    assert not any(f"\x1b[{code}m" in plain.writes[0] for code in range(30, 38))


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    stream, terminal = begun(80, 60)
    terminal.event("actor_joined", {"actor": "local-0"})
    for tenth in range(1, 31):
        terminal.show(scene(100.0 + PLAIN_S * tenth / 10))
    terminal.event("finished", {"env": "CartPole-v1"})
    terminal.settle()
    shown = stream.screen.shown
    assert shown[1] == "actor joined  actor=local-0"
    assert sum("return 15.0 of 475, 1,000 steps" in row for row in shown) == 3
    assert shown[-1] == "finished  env=CartPole-v1"
    assert any(row.startswith("CartPole-v1  running") for row in shown)
    assert "\x1b" not in "".join(stream.writes)


def test_a_terminal_without_such_letters_gets_others() -> None:
    stream = Watched(80, 24, "latin-1")
    LiveTerminal(stream, stream.size).show(scene())
    assert "".join(stream.screen.shown).isascii()


def test_lines_are_handed_on_whole() -> None:
    taken: list[str] = []
    lines = Lines(taken.append)
    lines.write("one\ntw")
    lines.write("o\n\tthree")
    assert taken == ["one", "two"]
    lines.finish()
    lines.finish()
    assert taken == ["one", "two", "        three"]
    assert lines.isatty()
    assert lines.writable()
