"""What a person or a log sees of a run: a live table on a terminal, else JSON lines. Knows streams, and late, rich.

Nobody has to look: what a reader does not take is dropped, and training never waits (protocol/process/outlet.py).

Names come from peers, so nothing is printed that could move a terminal's cursor.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import IO, TYPE_CHECKING

from learner.monitoring.progress_interval import of_a_log
from learner.monitoring.summary import RunSummary, rounded
from protocol.process.outlet import LIMIT, Outlet, unbuffered
from protocol.process.stdio import json_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

RESULT_SHOWN = ("env", "solved", "return_mean_100", "env_steps", "version", "wall_s", "total_s", "compression")
PARTINGS = frozenset({"dismissed", "learner_lost"})  # of local actors when the run is over: on a terminal, no news


class Console:
    """Prints events and progress. ``close`` leaves the last table standing."""

    def __init__(self, json: bool, stream: IO[str] | None = None, limit: int = LIMIT) -> None:
        self._stream = unbuffered(stream or sys.stdout)
        self._live = None if json or not self._stream.isatty() else _live(self._stream)
        self._outlet = Outlet(self._lost, limit)
        self._pace = of_a_log()  # of progress lines
        self._newest: RunSummary | None = None
        self._due = self._over = False  # a table of the newest summary waits for the terminal; the run has finished
        if self._live is not None:
            self._outlet.submit(self._live.start)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """One thing that happened."""
        self._outlet.submit(partial(self._write, name, fields))

    def say(self, text: str) -> None:
        """A line for people alone."""
        if self._live is not None:
            self._outlet.submit(partial(self._print, text))

    def refresh(self, summary: RunSummary, learnt: Mapping[str, object] | None = None) -> None:
        """Shows the present state; to be called a few times per second. On a slow terminal only the newest.

        learnt: what a progress line says beside the summary.
        """
        if self._live is not None:
            self._newest = summary
            if not self._due:
                self._due = True  # before the thread can say that it is not
                if not self._outlet.submit(self._show):
                    self._due = False
        elif self._pace.due(summary.env_steps, summary.now_s):
            self.event("progress", {"wall_s": round(summary.wall_s, 3), **summary.fields(), **(learnt or {})})

    def close(self) -> None:
        """Gives the terminal back, if it takes anything."""
        self._outlet.close(last=None if self._live is None else self._live.stop)

    # the outlet's thread

    def _write(self, name: str, fields: Mapping[str, object]) -> None:
        if self._live is None:
            self._stream.write(json_line({"event": name, **fields}).decode())
            self._stream.flush()
        elif not (self._over and name in PARTINGS):
            self._over |= name == "finished"
            self._print(format_event(name, fields))

    def _print(self, text: str) -> None:
        assert self._live is not None
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _lost(self, count: int) -> None:
        self._write("output_lost", {"lines": count})

    def _show(self) -> None:
        self._due = False  # before the newest is read: one that comes now is shown again
        assert self._live is not None
        assert self._newest is not None
        self._live.update(table(self._newest), refresh=True)


def format_event(name: str, fields: Mapping[str, object]) -> str:
    """An event as a line for people, safe to print, and more for a traceback. Of the summary, what they ask first."""
    shown = {key: fields[key] for key in RESULT_SHOWN if key in fields} if name == "finished" else dict(fields)
    below = str(shown.pop("traceback", "")).splitlines()
    details = "  ".join(f"{key}={rounded(value)}" for key, value in shown.items())
    return "\n".join(map(printable, [f"{name.replace('_', ' ')}  {details}".rstrip(), *below]))


def printable(text: str) -> str:
    """Text without control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def rows(summary: RunSummary) -> list[tuple[str, str]]:
    """The table's names and values."""
    target = "" if summary.return_target is None else f" of {summary.return_target:g}"
    mean = "none yet" if summary.return_mean is None else f"{summary.return_mean:.1f}{target}"
    size = "none yet" if summary.bytes_per_gradient is None else f"{summary.bytes_per_gradient:,.0f}"
    evaluated = "none yet" if summary.evaluated_best_mean is None else f"{summary.evaluated_best_mean:.1f}"
    scores = [("evaluated, best mean", f"{evaluated} of {summary.evaluations:,}")] if summary.evaluations else []
    useful = "" if summary.useful_actors is None else f", {summary.useful_actors:,} would be useful"
    failure = summary.journal_failure
    failing = [("journal", f"fails, so a crash loses what is applied: {printable(failure)}")] if failure else []
    return [
        *failing,
        ("return, mean of 100", mean),
        *scores,
        ("environment steps", f"{summary.env_steps:,} ({summary.env_steps_per_s:,.0f}/s)"),
        ("episodes", f"{summary.episodes:,}"),
        ("version", f"{summary.version:,} ({summary.updates_per_s:,.0f} updates/s)"),
        ("lag, mean", f"{summary.lag_mean_updates:.1f} updates"),
        ("refused", f"{summary.refused:,}"),
        ("bytes per gradient", size),
        ("actors", f"{summary.actors}{useful}"),
        ("time", f"{summary.wall_s:.0f} s, {summary.stage}"),
    ]


def table(summary: RunSummary) -> Table:
    """``rows`` as a rich table."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for name, value in rows(summary):
        grid.add_row(name, value)
    return grid


def _live(stream: IO[str]) -> Live:
    from rich.console import Console as Terminal
    from rich.live import Live

    return Live(console=Terminal(file=stream), auto_refresh=False, redirect_stdout=False, redirect_stderr=True)
