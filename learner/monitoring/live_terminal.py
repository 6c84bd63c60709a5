"""A terminal that shows a run: one view that is drawn over itself, and what is to be kept above it. Knows late, rich.

A drawing is one write. It goes up to where the view begins and overwrites it: nothing is erased that is drawn again, so
nothing flickers. While it draws the terminal may not break lines, so a name whose width it sees otherwise than we do
moves nothing. Cursor and line breaking are as they were after each write: a learner that is killed leaves a sound
terminal. One that cannot move its cursor (``TERM=dumb``) gets lines.

A terminal that becomes narrower breaks what is too wide for it, and some (tmux) count what was ever written in a line.
So a row that became shorter gets a new line, and where the view begins follows from the widths of its rows.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from learner.monitoring.live_view import (
    ASCII,
    DRAWN,
    News,
    Notice,
    Row,
    count,
    duration,
    format_event,
    mean,
    printable,
    view,
    wrapped,
)
from learner.monitoring.scene import Scene

if TYPE_CHECKING:
    from rich.console import Console as Styles

PARTINGS = frozenset({"dismissed", "learner_lost"})  # of local actors when the run is over: on a terminal, no news
ENDS = frozenset({"finished", "over"})
ROUTINE = frozenset(  # what happens in every run: the newest of it is shown, and progress.jsonl keeps all
    {"started", "actor_joined", "actor_left", "evaluator_joined", "evaluator_left", "welcomed", "draining", "evaluated"}
    | {"best_checkpoint", "checkpoint_written", "journal_repeated", "stage_began", "stage_entered", "portion_changed"}
    | {"actions_masked", "waiting_for_learner", *PARTINGS}
)
MOST_NOTICES = 3  # in the view; an older one goes up into what was said before
PLAIN_S = 10.0  # between lines of progress where no view can be drawn
SIZE = (80, 24)  # columns and lines where nobody knows
ESCAPE = "\x1b["
BEGIN = f"{ESCAPE}?2026h{ESCAPE}?25l{ESCAPE}?7l\r"  # show it at once; no cursor; no line breaking
END = f"{ESCAPE}J{ESCAPE}?7h{ESCAPE}?25h{ESCAPE}?2026l"  # nothing below it stays
ANEW = f"{ESCAPE}M{ESCAPE}L"  # this line goes, and an empty one comes
Size = tuple[int, int]


class LiveTerminal:
    """What was drawn, and what is to be. Used by one thread. size: asked before each drawing."""

    def __init__(self, stream: IO[str], size: Callable[[], Size] | None = None) -> None:
        self._stream = stream
        self._size = size or self._asked
        self._plain = os.environ.get("TERM", "dumb").lower() in {"", "dumb", "unknown"}
        self._glyphs = DRAWN if _can_draw(stream) else ASCII
        self._scene: Scene | None = None
        self._newest, self._notices = "", deque[Notice]()
        self._drawn: list[int] = []  # columns of the rows on the screen
        self._shown: list[str] = []
        self._at: Size = SIZE  # the terminal's size then
        self._over, self._told_s = False, 0.0
        self._styles: Styles | None = None
        self._codes: dict[str, tuple[str, str]] = {}

    def show(self, scene: Scene) -> None:
        """The run as it is now."""
        self._scene = scene
        if not self._plain:
            self._draw()
        elif scene.summary.now_s - self._told_s >= PLAIN_S:
            self._told_s = scene.summary.now_s
            self._print(_line(scene))

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """One thing that happened."""
        text = format_event(name, fields)
        if name in ENDS:
            self.settle()
        if self._over and name in PARTINGS:
            return
        if self._plain or self._over:
            self._print(text, whole="\n" in text)
        elif name in ROUTINE:
            self._newest = text
            self._draw()
        elif "\n" in text:  # a traceback is more than the view has room for
            self._print(text, whole=True)
        else:
            self._notice(_advice(fields) if name == "advice" else text)

    def say(self, text: str) -> None:
        """A line to be kept as it is."""
        self._print(printable(text), whole=True)

    def settle(self) -> None:
        """Leaves the last view standing; what comes now is written below it."""
        if self._over:
            return
        if self._scene is None:  # it never began: all that there is to keep is what was noticed
            for notice in self._notices:
                self._print(f"{notice.at} {notice.text}")
            self._rewrite([], [])
        elif self._plain:
            rows = ("".join(text for text, _ in row).rstrip() for row in self._rows(self._size()))
            self._stream.write("".join(f"{row}\n" for row in rows))
        else:
            self._draw()
        self._over, self._drawn = True, []

    # the view

    def _notice(self, text: str) -> None:
        self._notices.append(Notice(time.strftime("%H:%M:%S"), text))
        if len(self._notices) > MOST_NOTICES:
            oldest = self._notices.popleft()
            self._print(f"{oldest.at} {oldest.text}")
        else:
            self._draw()

    def _rows(self, size: Size) -> list[Row]:
        """The last column stays free: in some terminals what is written there breaks the line."""
        columns, lines = size
        return view(self._scene, News(self._newest, tuple(self._notices)), columns - 1, lines - 1, self._glyphs)

    def _draw(self, above: Sequence[str] = ()) -> None:
        if self._over:
            return
        size = self._size()
        rows = self._rows(size)
        drawn = [self._colored(row) for row in rows]
        if above or drawn != self._shown or size != self._at:
            self._rewrite(drawn, [_columns(row) for row in rows], above, size)

    def _rewrite(self, drawn: list[str], columns: list[int], above: Sequence[str] = (), size: Size = SIZE) -> None:
        if self._plain:
            return
        up, afresh = self._height(size[0]), bool(above) or size != self._at
        parts = [BEGIN, f"{ESCAPE}{up}A" if up else "", f"{ESCAPE}{size[1]}M" if afresh else ""]
        if above:
            parts += [f"{ESCAPE}?7h", *(f"{line}\r\n" for line in above), f"{ESCAPE}?7l"]
        for index, row in enumerate(drawn):
            shorter = not afresh and index < len(self._drawn) and columns[index] < self._drawn[index]
            parts.append(f"{ANEW if shorter else ''}{row}{ESCAPE}K\r\n")
        self._shown, self._drawn, self._at = drawn, columns, size
        self._stream.write("".join([*parts, END]))
        self._stream.flush()

    def _height(self, columns: int) -> int:
        """Lines that the view takes now: a terminal that became narrower has broken what was too wide for it."""
        return sum(max(1, -(-drawn // max(columns, 1))) for drawn in self._drawn)

    def _print(self, text: str, *, whole: bool = False) -> None:
        """Above the view while there is one. whole: broken by the terminal alone, so that it can be copied."""
        if self._plain:
            self._stream.write(f"{text}\n")
            self._stream.flush()
            return
        columns = self._size()[0] - 1
        lines = text.split("\n") if whole else wrapped(text, max(columns, 8), len(text))
        if self._over:
            self._stream.write("".join(f"{line}\r\n" for line in lines))
            self._stream.flush()
        else:
            self._draw(lines)

    def _colored(self, row: Row) -> str:
        return "".join(text.join(self._code(style)) for text, style in row if text).rstrip()

    def _code(self, style: str) -> tuple[str, str]:
        """What goes before a text of this style and after it, as this terminal and NO_COLOR have it."""
        if style not in self._codes:
            from rich.console import Console as Styles
            from rich.text import Text

            self._styles = self._styles or Styles(file=io.StringIO(), force_terminal=True, legacy_windows=False)
            with self._styles.capture() as got:
                self._styles.print(Text("x", style), end="")
            before, _, after = got.get().partition("x")
            self._codes[style] = before, after
        return self._codes[style]

    def _asked(self) -> Size:
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):  # no terminal after all
            return SIZE
        return columns or SIZE[0], lines or SIZE[1]


class Lines(io.TextIOBase):
    """A text stream for what others write while there is a view, handed on as whole lines."""

    def __init__(self, take: Callable[[str], object]) -> None:
        super().__init__()
        self._take, self._begun = take, ""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._take(line.expandtabs())  # printable() would take a tab for a control character
        return len(text)

    def finish(self) -> None:
        """Hands on a line that was not ended."""
        if self._begun:
            self._take(self._begun.expandtabs())
            self._begun = ""


def _columns(row: Row) -> int:
    from rich.cells import cell_len

    return cell_len("".join(text for text, _ in row).rstrip())


def _advice(fields: Mapping[str, object]) -> str:
    return printable(f"{fields.get('text', '')} ({fields.get('setting', '')})")


def _line(scene: Scene) -> str:
    """A run in one line."""
    summary = scene.summary
    target = "" if summary.return_target is None else f" of {summary.return_target:g}"
    reached = "none yet" if summary.return_mean is None else f"{mean(summary.return_mean)}{target}"
    rate = f"{count(summary.env_steps)} steps, {count(summary.env_steps_per_s)}/s"
    return f"{duration(summary.wall_s)}: return {reached}, {rate}, actors {summary.actors}"


def _can_draw(stream: IO[str]) -> bool:
    try:
        "".join(map("".join, DRAWN)).encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
