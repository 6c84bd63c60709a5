"""All draws of eight settings: ``python -m tests.learning.robustness`` measures what is not there yet.

Each run is a process of its own, two at once. Scores depend on no clock, so runs may share a machine with others.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from tests.bench.machine import ask
from tests.bench.store import Record, Store, add_options, at_once, end
from tests.learning.robustness import report
from tests.learning.robustness.draws import CASES, COUNT, DRAWS, Case, Draw
from tests.learning.robustness.report import OURS, PEER

KEPT = ("return_mean_100", "wall_s")
MEASURED = Path(__file__).parent / "measured"  # the lines behind what is published, kept beside it


def play(case: Case, draw: int, system: str) -> Record:
    """One run. Its seed is the draw's number."""
    drawn = DRAWS[draw]
    try:
        answer = _ask(case, drawn, draw, system)
    except SystemExit as failed:  # of a draw that its training does not survive
        answer = {"return_mean_100": None, "wall_s": None, "failed": str(failed)}
    return drawn.plain | {name: answer[name] for name in (*KEPT, "failed") if name in answer}


def _ask(case: Case, drawn: Draw, draw: int, system: str) -> Record:
    if system == OURS:
        settings = [f"run.until_steps={case.steps}", *drawn.farflung]
        return ask(["tests.learning.defaults.ours", case.task, str(draw), *settings])
    settings = ["--steps", str(case.steps), "--set", json.dumps(drawn.stable_baselines)]
    return ask(["tests.learning.defaults.peer", "ppo", case.task, str(draw), *settings])


def main() -> int:
    """What is asked for. Exit code 75: runs are left; 1: the bar is missed."""
    parser = argparse.ArgumentParser("python -m tests.learning.robustness", description=__doc__)
    names = [case.task for case in CASES]
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--draws", type=int, default=COUNT, metavar="N", help="the first so many")
    parser.add_argument("--at-once", type=int, default=2, metavar="N")
    add_options(parser, MEASURED)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.tasks) - set(names)):
        parser.error(f"no such task: {', '.join(unknown)}")
    store = Store(asked.results, "draws", end(asked.minutes))
    draws = range(0 if asked.report else min(asked.draws, COUNT))
    runs = [
        ({"system": system, "task": case.task, "draw": draw}, partial(play, case, draw, system))
        for draw in draws
        for case in CASES
        if case.task in (asked.tasks or names)
        for system in (OURS, PEER)
    ]
    left = at_once(store, runs, asked.at_once)
    held = report.write(store.read(), Path(__file__).parent if asked.results == MEASURED else asked.results)
    return 75 if left else 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
