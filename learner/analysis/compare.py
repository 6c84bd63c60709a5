"""Runs side by side: the settings in which they differ, and what came of them. Knows runs that were read, and files.

On a terminal runs that differ in their seed alone share a column: each number is the mean over them, with the least and
the most. A file has a line for each run.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from learner.analysis.curves import NAN, differing
from learner.analysis.runs import Group, Run

UNSET, UNKNOWN = "unset", "-"
WIDEST = 40  # characters of a cell on a terminal; a file has all of it


@dataclass(frozen=True, slots=True)
class Table:
    """columns: what each group of runs is called. settings, results: rows, one cell for each column."""

    columns: tuple[str, ...]
    settings: dict[str, list[str]]
    results: dict[str, list[str]]


def compared(groups: Sequence[Group], names: Mapping[Path, str]) -> Table:
    """The table of these groups. names: of runs, by their directories."""
    told = differing([group.runs[0].experiment for group in groups])
    settings = {key: [UNSET if word is None else word for word in words] for key, words in told.items()}
    results = {
        "seeds": [", ".join(str(run.seed) for run in group.runs) for group in groups],
        "solved": [_solved(group.runs) for group in groups],
        **{name: [_over(group.runs, number) for group in groups] for name, number in NUMBERS.items()},
    }
    return Table(tuple(_called(group, names) for group in groups), settings, results)


def text(table: Table) -> str:
    """For people: settings above results, a column for each group."""
    same = [] if table.settings else ["their settings are the same"]
    blocks = [_block(["", *table.columns], table.settings), _block(None, table.results)]
    rows = [row for block in blocks for row in block]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns) + 1)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*same, *lines[: len(blocks[0])], "", *lines[len(blocks[0]) :]])


def write(groups: Sequence[Group], names: Mapping[Path, str], path: Path) -> None:
    """As CSV: a line for each run, its settings and bare numbers; empty where it has none. Raises OSError."""
    told = differing([group.runs[0].experiment for group in groups])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "seed", *told, "solved", *(name.replace(", ", " ") for name in NUMBERS)])
        for place, group in enumerate(groups):
            settings = [words[place] or "" for words in told.values()]
            for run in group.runs:
                solved = "" if run.result is None else str(bool(run.result.get("solved"))).lower()
                numbers = ["" if math.isnan(value := number(run)) else f"{value:.12g}" for number in NUMBERS.values()]
                writer.writerow([names[run.path], run.seed, *settings, solved, *numbers])


def _block(head: list[str] | None, rows: Mapping[str, list[str]]) -> list[list[str]]:
    cut = [[cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 3]}..." for cell in cells] for cells in rows.values()]
    return ([] if head is None else [head]) + [[name, *cells] for name, cells in zip(rows, cut, strict=True)]


def _called(group: Group, names: Mapping[Path, str]) -> str:
    more = len(group.runs) - 1
    return names[group.runs[0].path] + (f" and {more} more" if more else "")


def _solved(runs: Sequence[Run]) -> str:
    """How many reached their target, of those that had one and have ended."""
    ended = [run.result for run in runs if run.result is not None and run.target is not None]
    if not ended:
        return UNKNOWN
    return f"{sum(bool(result.get('solved')) for result in ended)} of {len(ended)}"


def _over(runs: Sequence[Run], number: Callable[[Run], float]) -> str:
    """The mean over runs that know the number, with the least and the most where there are several."""
    known = [value for value in map(number, runs) if not math.isnan(value)]
    if not known:
        return UNKNOWN
    mean = f"{sum(known) / len(known):,.6g}"
    return mean if len(known) == 1 else f"{mean} ({min(known):,.6g} to {max(known):,.6g})"


def _known_returns(run: Run) -> list[float]:
    course = run.course
    return [float(value) for value in course.return_mean[course.kept] if not math.isnan(value)]


def _per_second(run: Run) -> float:
    seconds = float(run.course.seconds[-1])
    return float(run.course.env_steps[-1]) / seconds if seconds > 0.0 else NAN


NUMBERS: dict[str, Callable[[Run], float]] = {
    "return, mean of 100": lambda run: (_known_returns(run) or [NAN])[-1],
    "return, best mean": lambda run: max(_known_returns(run), default=NAN),
    "evaluated, best mean": lambda run: max((score.mean for score in run.course.scores), default=NAN),
    "environment steps": lambda run: float(run.course.env_steps[-1]),
    "episodes": lambda run: float(run.course.episodes[-1]),
    "version": lambda run: float(run.course.version[-1]),
    "seconds": lambda run: float(run.course.seconds[-1]),
    "steps per second": _per_second,
    "bytes received": lambda run: float(run.course.received_bytes[-1]),
    "bytes sent": lambda run: float(run.course.sent_bytes[-1]),
}
