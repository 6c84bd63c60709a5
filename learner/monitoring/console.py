"""What a person or a log sees of a run: a live view on a terminal, else JSON lines. Knows streams.

Nobody has to look: what a reader does not take is dropped, and training never waits (protocol/process/outlet.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import IO

from learner.monitoring.live_terminal import Lines, LiveTerminal
from learner.monitoring.progress_interval import of_a_log
from learner.monitoring.scene import Scene
from learner.monitoring.summary import RunSummary
from protocol.process.outlet import LIMIT, Outlet, unbuffered
from protocol.process.stdio import json_line


class Console:
    """Prints events and progress. ``close`` leaves the last view standing. live: whether it is a terminal's."""

    def __init__(self, json: bool, stream: IO[str] | None = None, limit: int = LIMIT) -> None:
        self._stream = unbuffered(stream or sys.stdout)
        self._live = None if json or not self._stream.isatty() else LiveTerminal(self._stream)
        self.live = self._live is not None
        self._outlet = Outlet(self._lost, limit)
        self._pace = of_a_log()  # of progress lines
        self._newest: Scene | None = None
        self._due = False  # the newest scene waits for the terminal
        self._stderr = sys.stderr
        if self.live and self._stderr.isatty():  # what libraries write there would stand in the midst of the view
            sys.stderr = Lines(self.say)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """One thing that happened."""
        self._outlet.submit(partial(self._write, name, fields))

    def say(self, text: str) -> None:
        """A line for people alone."""
        if self._live is not None:
            self._outlet.submit(partial(self._live.say, text))

    def show(self, scene: Scene) -> None:
        """Shows the present state on a terminal; to be called a few times per second. Of a slow one only the newest."""
        if self._live is None:
            return
        self._newest = scene
        if not self._due:
            self._due = True  # before the thread can say that it is not
            if not self._outlet.submit(self._show):
                self._due = False

    def refresh(self, summary: RunSummary, learnt: Mapping[str, object] | None = None) -> None:
        """Tells the present state in lines; to be called a few times per second.

        learnt: what a progress line says beside the summary.
        """
        if self._live is None and self._pace.due(summary.env_steps, summary.now_s):
            self.event("progress", {"wall_s": round(summary.wall_s, 3), **summary.fields(), **(learnt or {})})

    def close(self) -> None:
        """Gives the terminal back, if it takes anything."""
        if isinstance(sys.stderr, Lines):
            sys.stderr.finish()
            sys.stderr = self._stderr
        self._outlet.close(last=None if self._live is None else self._live.settle)

    # the outlet's thread

    def _write(self, name: str, fields: Mapping[str, object]) -> None:
        if self._live is None:
            self._stream.write(json_line({"event": name, **fields}).decode())
            self._stream.flush()
        else:
            self._live.event(name, fields)

    def _lost(self, count: int) -> None:
        self._write("output_lost", {"lines": count})

    def _show(self) -> None:
        self._due = False  # before the newest is read: one that comes now is shown again
        assert self._live is not None
        assert self._newest is not None
        self._live.show(self._newest)
