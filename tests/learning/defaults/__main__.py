"""All runs of untuned environments: ``python -m tests.learning.defaults [TASK ...]`` measures what is not there yet.

Each run is a process of its own, as many at once as asked. Returns at equal steps depend on no clock, so runs may
share a machine with others. ``--set`` and ``--development`` are for choosing defaults, and write no report.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from tests.bench.machine import ask
from tests.bench.store import Record, Store, add_options, at_once, end
from tests.learning.defaults import report
from tests.learning.defaults.report import MEASURED
from tests.learning.defaults.tasks import ASKED_FOR, DEVELOPMENT, REPORTING, TASKS

PART = "defaults"
OURS, TUNED = "farflung", "tuned"
PEERS = ("ppo", "a2c")  # Stable-Baselines3's
SEEDS = 5
DEVELOPMENT_SEEDS = (101, 102)


def play(key: Record) -> Record:
    """One run. key: task, seed, who; settings, of ours, where they are not the defaults."""
    if key["who"] == TUNED:
        return ask(["tests.learning.defaults.ours", key["task"], str(key["seed"]), "--tuned"])
    if key["who"] == OURS:
        return ask(["tests.learning.defaults.ours", key["task"], str(key["seed"]), *key.get("settings", ())])
    return ask(["tests.learning.defaults.peer", key["who"], key["task"], str(key["seed"])])


def main() -> int:
    """What is asked for. Exit code 75: runs are left."""
    parser = argparse.ArgumentParser("python -m tests.learning.defaults", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; default: all that report")
    parser.add_argument("--who", action="append", choices=(OURS, TUNED, *PEERS), help="repeatable; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="from 0")
    parser.add_argument("--development", action="store_true", help="other tasks and seeds, ours alone")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="ours, on development")
    parser.add_argument("--at-once", type=int, default=2, metavar="N")
    add_options(parser, MEASURED)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.tasks) - set(TASKS)):
        parser.error(f"no such task: {', '.join(unknown)}")
    if asked.set and not asked.development:
        parser.error("--set goes with --development: what is reported are the defaults")
    store = Store(asked.results, f"{PART}-development" if asked.development else PART, end(asked.minutes))
    seeds = DEVELOPMENT_SEEDS if asked.development else range(asked.seeds)
    names = [task.name for task in (DEVELOPMENT if asked.development else (*REPORTING, *ASKED_FOR))]
    alone = {task.name for task in ASKED_FOR}  # that no peer is given
    who = [OURS] if asked.development else asked.who or [OURS, TUNED, *PEERS]
    settings = {"settings": asked.set} if asked.development else {}
    keys = [
        {"task": task, "seed": seed, "who": each, **settings}
        for seed in seeds
        for task in asked.tasks or names
        for each in who
        if each == OURS or (TASKS[task].tuned if each == TUNED else task not in alone)
    ]
    runs = [(key, partial(play, key)) for key in keys]
    left = 0 if asked.report else at_once(store, runs, asked.at_once)
    if asked.development:
        print(report.development(store.read()))
    else:
        report.write(store.read(), Path(__file__).parent if asked.results == MEASURED else asked.results)
    return 75 if left else 0


if __name__ == "__main__":
    raise SystemExit(main())
