"""Environment steps per second of a whole run on two cores, beside what its parts alone do on both of them at once.

The bare side runs in two processes at the same time, because cores share caches and memory bandwidth. The run has its
two actors and the learner on the same cores. Its policy hardly changes (the learning rate is next to nothing), so both
sides step the simulators through the same random behaviour; then it runs with its own rate past its target.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.farflung import progress
from tests.bench.machine import ask_at_once, mean
from tests.bench.rates.actor_rate import WARM_S, slope
from tests.bench.rates.live import Learner
from tests.bench.store import Record, Store

EXPERIMENTS = ("cartpole", "lunarlander", "pong")
SOLVED_LATE = ("pong",)  # after half an hour: what their speed is past the target is not asked
FOR_EVER = ("run.until_return=1e9", "run.until_steps=1000000000")
UNCHANGED = "learner.learning_rate=1e-12"


@dataclass(frozen=True, slots=True)
class Effort:
    """How often and how long. past_s: of the run with its own rate, whose second half is counted."""

    rounds: int
    bare_s: float
    real_s: float
    past_s: float


WHOLE, QUICK = Effort(3, 9.0, 15.0, 60.0), Effort(1, 1.0, 6.0, 8.0)


def measure(store: Store, *, quick: bool) -> None:
    """Every experiment, bare and real in turns."""
    effort = QUICK if quick else WHOLE
    for number in range(effort.rounds):
        for name in EXPERIMENTS:
            key = {"experiment": name, "round": number}
            store.once(key, lambda name=name: _round(name, effort))  # type: ignore[misc]


def _round(name: str, effort: Effort) -> Record:
    """Bare before and after, so that a machine that changes its pace does it to both."""
    before = bare(name, effort.bare_s / 2)
    real = whole(name, effort.real_s, UNCHANGED)
    beside = mean(before, bare(name, effort.bare_s / 2))
    past = None if name in SOLVED_LATE else whole(name, effort.past_s, after_s=effort.past_s / 2)
    return beside | {"real": real, "share": real / beside["both_bare"], "past": past}


def bare(name: str, seconds: float) -> dict[str, float]:
    """Of the parts alone on two cores at once: means of what both tell, and ``both_bare``, the steps/s of the two."""
    command = ["tests.bench.rates.actor_bare", name, str(seconds)]
    first, second = ask_at_once([command, command])
    return mean(first, second) | {"both_bare": first["bare"] + second["bare"]}


def whole(name: str, seconds: float, *settings: str, after_s: float = WARM_S) -> float:
    """Steps/s of ``learner run`` with two actors that goes on for ever, from its second ``after_s`` to ``seconds``."""
    with tempfile.TemporaryDirectory(prefix="farflung-bench-") as folder:
        with Learner([name], [*FOR_EVER, *settings], Path(folder), actors=2) as learner:
            learner.await_progress(lambda line: line["wall_s"] >= seconds)
        return slope(progress(learner.run_dir), after_s)
