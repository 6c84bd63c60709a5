"""One actor's environment steps per second, on a core of its own, beside the bare sum of its parts on that core.

The policy hardly changes (the learning rate is next to nothing), so both sides step the simulators through the same
random behaviour, whatever a trained policy's episodes would cost.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.farflung import progress
from tests.bench.machine import ask, mean, start
from tests.bench.rates.live import Learner
from tests.bench.store import Record, Store

EXPERIMENTS = ("cartpole", "lunarlander")
ROUNDS, SECONDS, REAL_S = 5, 9.0, 15.0  # a progress line a second and reports by the rollout: 15 s for 1 %
QUICK_ROUNDS, QUICK_S, QUICK_REAL_S = 1, 1.0, 5.0
WARM_S = 1.5  # of the real actor's life, left out
ACTOR_CORE, LEARNER_CORE = 0, 1


def measure(store: Store, *, quick: bool) -> None:
    """Both experiments, bare and real in turns."""
    rounds, seconds, real_s = (QUICK_ROUNDS, QUICK_S, QUICK_REAL_S) if quick else (ROUNDS, SECONDS, REAL_S)
    for number in range(rounds):
        for name in EXPERIMENTS:
            key = {"experiment": name, "round": number}
            store.once(key, lambda name=name: _round(name, seconds, real_s))  # type: ignore[misc]


def _round(name: str, seconds: float, real_s: float) -> Record:
    """Bare before and after, so that a machine that changes its pace does it to both."""
    before = ask(["tests.bench.rates.actor_bare", name, str(seconds / 2)], ACTOR_CORE)
    rate = real_rate(name, real_s)
    bare = mean(before, ask(["tests.bench.rates.actor_bare", name, str(seconds / 2)], ACTOR_CORE))
    return bare | {"actor": rate, "actor_share": rate / bare["bare"]}


def real_rate(name: str, seconds: float) -> float:
    """Steps per second of ``actor run`` on one core with a ``learner run`` on another, over so many seconds."""
    with tempfile.TemporaryDirectory(prefix="farflung-bench-") as folder:
        settings = ("learner.learning_rate=1e-12", "run.until_return=1e9", "run.until_steps=1000000000")
        with Learner([name], settings, Path(folder), LEARNER_CORE) as learner:
            actor = start(["actor", "run", "--learner", learner.address], ACTOR_CORE, stderr=subprocess.DEVNULL)
            try:
                learner.await_progress(lambda line: line["wall_s"] >= seconds)
            finally:
                actor.terminate()
                actor.wait(10)
        return slope(progress(learner.run_dir))


def slope(lines: list[Record], after_s: float = WARM_S) -> float:
    """Environment steps per second by least squares: reports come by the rollout, and a line falls anywhere in one."""
    points = [(line["wall_s"], line["env_steps"]) for line in lines if line["wall_s"] >= after_s and line["actors"]]
    seconds, steps = np.array(points, np.float64).T
    return float(np.polyfit(seconds, steps, 1)[0])
