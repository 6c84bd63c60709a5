"""``learner run`` itself on a terminal: one view in one place, as wide as the terminal is, that stands at the end."""

from __future__ import annotations

from pathlib import Path

from tests.learner.monitoring.screen import Screen, Session
from tests.loopback.system import ENDLESS

NAMES = ["return", "curve", "steps", "rates", "weights", "fleet", "page"]
CTRL_C = b"\x03"


def training(screen: Screen) -> bool:
    return any("running" in row for row in screen.shown) and any("episodes" in row for row in screen.shown)


def names(screen: Screen) -> list[str]:
    return [row.split()[0] for row in screen.shown if row[:1].isalpha()]


def test_a_run_is_one_view_at_eighty_columns_and_at_forty(tmp_path: Path) -> None:
    arguments = ("learner", "run", "--actors", 1, "--run-dir", "run", *ENDLESS)
    with Session(arguments, tmp_path, 80, 24) as session:
        screen = session.screen
        session.until(training)
        top = screen.shown[0]
        assert top.startswith("CartPole-v1  running")
        assert names(screen)[1 : 1 + len(NAMES)] == NAMES
        assert names(screen).count("return") == 1
        assert any("page     http://127.0.0.1:" in row for row in screen.shown)
        assert screen.styled
        drawn = screen.frames
        session.until(lambda seen: seen.frames > drawn + 4)
        assert screen.shown[0].startswith("CartPole-v1  running")  # drawn over itself: it has not moved
        assert screen.widest < 80
        session.resize(40, 24)
        screen.widest = 0
        session.until(lambda seen: max(map(len, seen.shown)) < 40 and training(seen))
        assert names(screen).count("return") == 1
        assert screen.shown[0].startswith("CartPole-v1  running")
        session.press(CTRL_C)
        assert session.end() == 0
    assert screen.widest < 40
    assert not any("^C" in row for row in screen.shown)
    shown = screen.shown
    result = next(index for index, row in enumerate(shown) if row.startswith("finished"))
    assert shown[0].startswith("CartPole-v1  ended after")
    assert names(screen).count("return") == 1
    assert "asked to stop" in "".join(shown[:result])
    assert "to go on: learner run --resume" in "".join(shown[result:])
    assert screen.on == {"7", "25"}  # the terminal is as it was
    assert screen.row == len(shown)
