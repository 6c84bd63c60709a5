"""All runs of all fleets: ``python -m tests.bench.fleet.series`` measures what is not there yet and writes FLEET.md.

Each run is a process of its own; a line of a run that is finished is never measured again. Virtual
time is the same on any machine, so a series may be stopped, go on elsewhere, and share its machine with others.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.farflung import annealing
from tests.bench.fleet import report
from tests.bench.machine import ROOT, ask
from tests.bench.store import Record, Store

PART = "fleet"
SIZES = (1, 2, 4, 8, 16)  # the paper's
CROWDS = (1, 16, 64)
COUNTED = ("env_steps", "return_mean_100", "messages", "received_bytes", "lag_mean_updates", "busy_share")
KEPT = ("solved", "seconds", *COUNTED, "curve")
QUICK_STEPS = 5_000  # enough to see that everything runs
RESULTS = ROOT / "bench-results"


@dataclass(frozen=True, slots=True)
class Task:
    """A shipped experiment as it is. seeds: how many, from 0. sizes: actors of each. most_steps: of a run, after
    which it counts as one that never gets there; several times what one actor needs.
    """

    experiment: str
    seeds: int = 5
    sizes: tuple[int, ...] = CROWDS
    most_steps: int = 400_000


TASKS = (
    Task("cartpole", sizes=(*SIZES, 64)),
    Task("acrobot"),
    Task("pendulum"),
    Task("cartpole-n-step-q", 3, SIZES),
    Task("cartpole-one-step-q", 3, SIZES),
    Task("cartpole-one-step-sarsa", 3, SIZES),
    Task("lunarlander", sizes=(1, 16), most_steps=600_000),
    Task("lunarlander-continuous", 3, (1, 16), 600_000),
    Task("cartpole", 3, (256,)),
)


def measure(tasks: list[Task], store: Store, *, quick: bool) -> None:
    """Every run that is not measured yet; seed by seed, so that a series that is stopped has something of all sizes.

    As many at once as there are cores: what a run takes for real counts nowhere.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task in tasks:
            most_steps = QUICK_STEPS if quick else task.most_steps
            keys = [
                {"experiment": task.experiment, "actors": actors, "seed": seed}
                for seed in range(1 if quick else task.seeds)
                for actors in (task.sizes[:2] if quick else task.sizes)
            ]
            for _ in pool.map(lambda key, most=most_steps: store.once(key, lambda: _play(key, most)), keys):
                pass


def _play(key: Record, most_steps: int) -> Record:
    experiment = key["experiment"]
    limits = [f"run.until_steps={most_steps}", *annealing(experiment)]
    answer = ask(["tests.bench.fleet", experiment, str(key["seed"]), "--actors", str(key["actors"]), *limits])
    return {name: answer[name] for name in KEPT}


def main() -> None:
    """The series that is asked for."""
    names = [task.experiment for task in TASKS]
    parser = argparse.ArgumentParser("python -m tests.bench.fleet.series", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="EXPERIMENT", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its report stays in the results")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the report")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="where lines go; of any other, the report, too"
    )
    asked = parser.parse_args()
    if unknown := sorted(set(asked.tasks) - set(names)):
        parser.error(f"no such experiment: {', '.join(unknown)}; there are {', '.join(names)}")
    folder = asked.results / "quick" if asked.quick else asked.results
    store = Store(folder, PART)
    chosen = [task for task in TASKS if task.experiment in (asked.tasks or names)]
    if not asked.report:
        measure(chosen, store, quick=asked.quick)
    report.write(store.read(), ROOT / "tests" / "bench" if folder == RESULTS else folder)


if __name__ == "__main__":
    main()
