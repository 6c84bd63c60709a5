"""Whether what was learnt stays: runs go on to five times the steps of their target. Knows processes and records.

Every shipped experiment as it ships, and one whose solved policy is certain of each action; two actors and the learner
in one process, in turns. ``python -m tests.learning beyond --only EXPERIMENT`` measures some of them;
``python -m tests.learning.beyond EXPERIMENT SEED [TABLE.KEY=VALUE ...]`` prints one run as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence

from learner.config import Experiment
from learner.launch.experiment_file import load
from protocol.shipped import named
from tests.bench.machine import ask
from tests.bench.store import Record, Store
from tests.learning import turns

TIMES, LEAST_STEPS = 5, 200_000  # the steps that the target took; a quick run's fall takes longer
KEPT, FALLEN_SHARE = 0.8, 0.05  # less than so much of the target, for more than such a share of the steps, is fallen
SEEDS = 3
CERTAIN = "frozenlake-certain"
SETTINGS = {
    CERTAIN: (
        *("actor.env=FrozenLake-v1", "actor.env_options.is_slippery=false", "actor.kl_target=0.01"),
        *("run.until_return=0.95", "run.until_steps=200_000"),
    )
}  # of what no file ships
CASES = (
    *("cartpole", "cartpole-memory", "lunarlander-continuous", CERTAIN),
    *("acrobot", "cartpole-n-step-q", "cartpole-one-step-q", "cartpole-one-step-sarsa", "lunarlander", "pendulum"),
    *("bipedalwalker", "pong"),
)


def measure(store: Store, *, quick: bool, only: Collection[str] = ()) -> None:
    """Every run of those cases, or of all, that is not measured yet."""
    for name in [name for name in CASES if name in (only or CASES[: 1 if quick else None])]:
        for seed in range(1 if quick else SEEDS):
            key = {"experiment": name, "seed": seed}
            store.once(key, lambda n=name, s=seed: ask(["tests.learning.beyond", n, str(s)]))  # type: ignore[misc]


def experiment_of(name: str, seed: int, settings: Sequence[str] = ()) -> Experiment:
    """A case's experiment."""
    file = None if name in SETTINGS else named(name)
    return load(file, [*SETTINGS.get(name, ()), *settings, f"run.seed={seed}"], {})


class Beyond:
    """Whether a run is over: at TIMES the steps that its target took, LEAST_STEPS at least, or at its limit without it.

    reached_at: environment steps at which it did.
    """

    def __init__(self) -> None:
        self.reached_at: int | None = None

    def __call__(self, run: turns.Run) -> bool:
        """Asked after every turn."""
        steps, wanted = run.progress.env_steps, run.experiment.run
        if self.reached_at is None and run.progress.reached(wanted.until_return):
            self.reached_at = steps
        if self.reached_at is None:
            return wanted.until_steps is not None and steps >= wanted.until_steps
        return steps >= max(LEAST_STEPS, TIMES * self.reached_at)


def train(experiment: Experiment) -> Record:
    """One run, and what the report needs of it."""
    over = Beyond()
    run = turns.train(experiment, over=over)
    ends = {"target": experiment.run.until_return, "env_steps": run.progress.env_steps}
    return {"reached_at": over.reached_at, **ends, "curve": run.curve}


def floor(target: float) -> float:
    """The mean return below which a run has fallen; targets may be negative."""
    return target - (1.0 - KEPT) * abs(target)


def since(record: Record) -> list[float]:
    """The mean returns of 100 episodes from the target on, at even distances; none where it was not reached."""
    reached = record["reached_at"]
    return [] if reached is None else [mean for steps, mean in record["curve"] if steps >= reached]


def fallen_share(record: Record) -> float:
    """Of the steps since the target was reached, how many saw a fallen policy; all where it never was."""
    means = since(record)
    return sum(mean < floor(record["target"]) for mean in means) / len(means) if means else 1.0


def holds(records: Sequence[Record]) -> bool:
    """Whether every run of every case was made and none has fallen for long."""
    made = {(record["experiment"], record["seed"]) for record in records}
    whole = made >= {(name, seed) for name in CASES for seed in range(SEEDS)}
    return whole and all(fallen_share(record) <= FALLEN_SHARE for record in records)


def main(arguments: Sequence[str] | None = None) -> None:
    """One run as JSON."""
    parser = argparse.ArgumentParser("python -m tests.learning.beyond", description=__doc__)
    parser.add_argument("experiment", choices=CASES)
    parser.add_argument("seed", type=int)
    parser.add_argument("settings", nargs="*", metavar="TABLE.KEY=VALUE")
    asked = parser.parse_args(arguments)
    print(json.dumps(train(experiment_of(asked.experiment, asked.seed, asked.settings))))


if __name__ == "__main__":
    main()
