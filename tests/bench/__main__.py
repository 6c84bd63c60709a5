"""The command ``python -m tests.bench``: runs the parts asked for and writes the report. Knows the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.bench import report, training
from tests.bench.machine import ROOT
from tests.bench.rates import actor_rate, learner_rate, share
from tests.bench.store import Store

PARTS = (*(task.part for task in training.TASKS), "share", "actor", "learner", "report")


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one or more of {', '.join(PARTS)}; default: all")
    parser.add_argument("--only", action="append", choices=PARTS, help="the same as naming a part")
    parser.add_argument(
        "--quick", action="store_true", help="some minutes' smoke test; its report stays in the results"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what the parts asked for measured before")
    parser.add_argument("--peer-seeds", type=int, metavar="N", help="runs of Stable-Baselines3, where fewer will do")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", metavar="DIR", help="where lines go")
    asked = parser.parse_args()
    asked.parts = [*asked.parts, *(asked.only or [])] or list(PARTS)
    if unknown := sorted(set(asked.parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return asked


def main() -> None:
    """Each part in turn; a part whose measurements all exist takes no time."""
    asked = arguments()
    folder = asked.results / "quick" if asked.quick else asked.results
    for part in [part for part in PARTS if part in asked.parts]:
        if part == "report":
            report.write(folder, folder if asked.quick else Path(__file__).parent)
            continue
        store = Store(folder, part)
        if asked.fresh:
            store.path.unlink(missing_ok=True)
        _measure(part, store, asked.quick, asked.peer_seeds)


def _measure(part: str, store: Store, quick: bool, peer_seeds: int | None) -> None:
    if part == "share":
        share.measure(store, quick=quick)
    elif part == "actor":
        actor_rate.measure(store, quick=quick)
    elif part == "learner":
        learner_rate.measure(store, quick=quick)
    else:
        task = next(task for task in training.TASKS if task.part == part)
        training.measure(task, store, quick=quick, peer_seeds=peer_seeds)


if __name__ == "__main__":
    main()
