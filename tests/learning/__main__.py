"""The command ``python -m tests.learning``: trains every task on every seed and writes the evidence. Knows processes.

A run that is finished is not repeated (``bench-results/``), so a long session may be interrupted. Exit code 1 where a
bar of a task or a study is missed, of those that were asked for or measured before; 75 where ``--minutes`` were over.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Collection
from functools import partial
from pathlib import Path

from tests.bench.farflung import annealing, train
from tests.bench.machine import ROOT
from tests.bench.store import OutOfTime, Record, Store, end
from tests.learning import beyond, codecs, lag, momentum, pixels, pong_thin, report, thin
from tests.learning.robustness import rates
from tests.learning.tasks import TASKS, Task

STUDIES = {
    "robustness": rates.measure,
    "pixels": pixels.measure,
    "lag": lag.measure,
    "codecs": codecs.measure,
    "momentum": momentum.measure,
    "thin": thin.measure,
    "pong_thin": pong_thin.measure,
    "beyond": beyond.measure,
}
PARTS = (*(task.name for task in TASKS), *STUDIES)
ALL_TASKS = "tasks"  # that are no minutes of pixels each
KEPT = ("solved", "wall_s", "env_steps", "return_mean_100", "compression", "version", "lag_mean_updates", "rulings")


def main() -> int:
    """Runs what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser("python -m tests.learning", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join((ALL_TASKS, *PARTS))}; default: all")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", metavar="DIR", help="where lines go")
    parser.add_argument("--quick", action="store_true", help="studies: a smoke test that judges no bar")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report from what is there")
    parser.add_argument("--only", action="append", choices=beyond.CASES, help="beyond: of this experiment (repeatable)")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no run after so long; run again to go on")
    asked = parser.parse_args()
    if ALL_TASKS in asked.parts:
        named = [task.name for task in TASKS if task.name != "pong"]
        asked.parts = [*named, *(part for part in asked.parts if part != ALL_TASKS)]
    if unknown := sorted(set(asked.parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}")
    parts = () if asked.report else asked.parts or PARTS
    results = asked.results / "quick" if asked.quick else asked.results  # a smoke test's lines are no evidence
    try:
        measure(parts, results, asked)
    except OutOfTime:
        print("runs are left: run the same command again to go on")
        left = True
    else:
        left = False
    report.write(results, results if asked.quick else Path(__file__).parents[1] / "bench")
    missed = report.missed(report.read(results), asked.parts if asked.report else parts)
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 75 if left else 1 if missed and not asked.quick else 0


def measure(parts: Collection[str], results: Path, asked: argparse.Namespace) -> None:
    """Everything of these parts that is not there yet. Raises OutOfTime."""
    ends = end(asked.minutes)
    store = Store(results, "learning", ends)
    for task in [task for task in TASKS if task.name in parts]:
        for seed in task.each_seed:
            store.once({"task": task.name, "seed": seed}, partial(run, task, seed))
    for name in [name for name in STUDIES if name in parts]:
        only = {"only": asked.only or ()} if name == "beyond" else {}
        STUDIES[name](Store(results, name, ends), quick=asked.quick, **only)


def run(task: Task, seed: int) -> Record:
    """One training run, as a user types it."""
    folder = Path(tempfile.mkdtemp(prefix="farflung-learn-"))
    limits = ("--until-steps", str(task.steps), "--seed", str(seed), "--until-return", str(task.target))
    shipped = [word for setting in annealing(task.arguments[0]) for word in ("--set", setting)]
    try:
        trained = train([*task.arguments, *limits, *shipped], folder / "run", task.seconds)
    finally:
        shutil.rmtree(folder)
    best = max((mean for _, _, mean in trained.curve), default=None)
    kept = {name: trained.result[name] for name in KEPT}
    return kept | {"best": best, "total_s": trained.total_s, "curve": trained.curve}


if __name__ == "__main__":
    raise SystemExit(main())
