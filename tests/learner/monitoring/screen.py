"""A terminal for tests: what a program that writes there leaves on the screen. Knows pseudo-terminals and processes.

``Screen`` understands what the live view may say, and raises for all else. ``Session`` runs a command on a real one.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len

from tests.loopback.system import DEADLINE_S, ROOT

TOKEN = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])|[^\x1b]")
MODES = {"7", "25", "2026"}  # line breaking, the cursor, drawing at once
OWN_TERMINAL = (  # the terminal of the process, so that its Ctrl-C is one
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
)


class Screen:
    """rows: of the screen, and in ``kept`` what scrolled off it. frames: drawings so far. on: modes that are set."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self.rows, self.kept = [""], list[str]()
        self.row = self.column = 0
        self.on = {"7", "25"}
        self.styled = False
        self.frames = self.broken = 0  # broken: lines that the terminal broke
        self.widest = 0  # columns of what was drawn while it might not

    def feed(self, text: str) -> None:
        """What a program writes."""
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found, f"unknown: {text[at : at + 12]!r}"
            at = found.end()
            if found[3] is None:
                self._put(found[0])
            else:
                self._control(found[1], found[2], found[3])

    def resize(self, columns: int, lines: int) -> None:
        """As most terminals do: what is too wide is broken, and the cursor stays with its text."""
        broken: list[str] = []
        for index, row in enumerate(self.rows):
            if index == self.row:
                at = len(broken)
            broken += [row[start : start + columns] for start in range(0, max(len(row), 1), columns)]
        self.columns, self.lines, self.rows, self.row, self.column = columns, lines, broken, at, 0
        self._scroll()

    @property
    def shown(self) -> list[str]:
        """The rows without what is empty at their ends, and at the screen's."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n").split("\n")

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            self._scroll()
        else:
            assert character.isprintable(), f"a control character: {character!r}"
            size = cell_len(character)
            if self.column + size > self.columns:
                assert "7" in self.on, f"a row of the view is too wide: {self.rows[self.row]!r}"
                self.broken += 1
                self.row, self.column = self.row + 1, 0
                self._scroll()
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
            self.column += size
            self.widest = self.widest if "7" in self.on else max(self.widest, self.column)

    def _scroll(self) -> None:
        while self.row >= len(self.rows):
            self.rows.append("")
        while len(self.rows) > self.lines:
            if self.row < len(self.rows) - 1 and not self.rows[-1]:
                self.rows.pop()
            else:
                self.kept.append(self.rows.pop(0).rstrip())
                self.row -= 1

    def _control(self, private: str, number: str, letter: str) -> None:
        count = int(number or 1)
        if private:
            assert number in MODES
            self.frames += (number, letter) == ("2026", "h")
            (self.on.add if letter == "h" else self.on.discard)(number)
        elif letter == "A":
            self.row = max(0, self.row - count)
        elif letter == "K":
            row = self.rows[self.row]  # what was ever written still counts for its width, as in tmux
            self.rows[self.row] = row[: self.column] + " " * (len(row) - self.column)
        elif letter == "J":
            self.rows[self.row :] = [self.rows[self.row][: self.column]]
        elif letter == "M":
            self.rows[self.row : self.row + count] = []
            self.rows += [""] * (self.row + 1 - len(self.rows))
        elif letter == "L":
            self.rows.insert(self.row, "")
        else:
            assert letter == "m", f"unknown: {letter}"
            self.styled |= number not in {"", "0"}


class Session:
    """A command on a terminal of its own. screen: what is seen there. Leaving it kills what is left."""

    def __init__(self, arguments: Sequence[object], folder: Path, columns: int, lines: int, **environment: str) -> None:
        self.screen = Screen(columns, lines)
        self.said = ""  # all that came
        self._master, terminal = os.openpty()
        self._shape(columns, lines)
        self._process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, sys.executable, "-m", *map(str, arguments)],
            cwd=folder,
            env={**_settings(), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self._decoder, self._rest = codecs.getincrementaldecoder("utf-8")(), ""  # rest: of a sequence that was cut

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._master)

    def until(self, seen: Callable[[Screen], bool]) -> None:
        """Reads on until the screen is as asked for; looked at between two drawings."""
        until = time.monotonic() + DEADLINE_S
        while not ("2026" not in self.screen.on and seen(self.screen)):
            assert time.monotonic() < until, "\n".join(self.screen.shown)
            assert self._read(), "it ended:\n" + "\n".join(self.screen.shown)

    def press(self, keys: bytes) -> None:
        """Types."""
        os.write(self._master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Another size, of which nothing is told but by the terminal."""
        while select.select([self._master], [], [], 0.0)[0] or "2026" in self.screen.on:
            self._read()
        self._shape(columns, lines)
        self.screen.resize(columns, lines)

    def end(self) -> int:
        """Its exit code, once all that it wrote was read."""
        while self._read():
            pass
        return self._process.wait(DEADLINE_S)

    def _shape(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> bool:
        if not select.select([self._master], [], [], DEADLINE_S)[0]:
            raise AssertionError("\n".join(self.screen.shown))
        try:
            text = self._rest + self._decoder.decode(os.read(self._master, 1 << 16))
        except OSError:  # nobody has it open any more
            return False
        begun = text.rfind("\x1b")
        whole = begun if begun >= 0 and not TOKEN.match(text, begun) else len(text)
        text, self._rest = text[:whole], text[whole:]
        self.said += text
        self.screen.feed(text)
        return True


def _settings() -> Mapping[str, str]:
    hidden = ("FARFLUNG_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
