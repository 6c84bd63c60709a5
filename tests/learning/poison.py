"""A minority that poisons: who sends the opposite of its gradients, ten times as long, and what a rule makes of that.

Ten actors in turns in one process, as in ``turns.py``: one gradient of each makes a group, the group one step. The
first HOSTILE of them send theirs multiplied by POISON. ``python -m tests.learning.poison SEED RULE [--hostile N]
[--poison X] [TABLE.KEY=VALUE ...]`` prints JSON. RULE is mean, trimmed_mean, median, or none: a step for each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from actor.events import Work
from learner.config import Experiment, TrimmedMean
from learner.launch.experiment_file import load
from learner.optim.aggregation import Rule, merge
from learner.optim.update import Update
from protocol.codecs.registry import Array, codec
from protocol.session import Sender
from protocol.shipped import named
from tests.learning.turns import EACH, Baton, Run, begin, train_by

ACTORS, HOSTILE = 10, 2
POISON = -10.0
SETTINGS = (  # beside those of the shipped CartPole
    "run.until_steps=200000",
    "learner.learning_rate=1e-2",  # a group makes one step of ten gradients: at 4e-3 it takes half as long again
    "learner.staleness_rule=none",
    "actor.codec=i8",
    "actor.kl_target=0.0",  # stretched updates make up for what a rule leaves out: of six medians one diverged so
    "actor.envs=4",
    *EACH,
    "actor.rollout_steps=32",
)


@dataclass
class Groups(Run):
    """A learner that makes one step of one gradient of each of its actors, who come in a fixed order."""

    rule: Rule | None = "mean"  # None: each gradient makes a step of its own
    hostile: int = HOSTILE
    poison: float = POISON
    group: list[Update] = field(default_factory=list)
    turn: int = 0

    def apply(self, work: Work, sender: Sender = "") -> int:
        """Run.apply, once the group is whole."""
        sender = self.turn % ACTORS
        sent = poisoned(work, self.poison) if sender < self.hostile else work
        self.turn += 1
        if self.rule is None:
            return super().apply(sent, sender)
        self.group.append(Update(sent.decoded, sent.codec, sent.count, sent.payload))
        if len(self.group) < ACTORS:
            return 0
        merged = merge(self.group, self.rule, TrimmedMean().aggregate_trim).written()
        self.group.clear()
        return super().apply(with_payload(work, merged.codec, merged.count, bytes(merged.payload), merged.value))


class Rotation(Baton):
    """Everybody's turn, in order."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers, 0)
        self._next = 0

    def start(self) -> None:
        """Baton.start."""
        self._gates[self._next].release()
        self._next = (self._next + 1) % len(self._gates)


def poisoned(work: Work, poison: float = POISON) -> Work:
    """What a hostile actor sends in its place."""
    value = work.decoded
    assert isinstance(value, np.ndarray)
    encoded = codec(work.codec).encode(np.float32(poison) * value)
    return with_payload(work, work.codec, encoded.count, encoded.buffer, encoded.decoded)


def with_payload(work: Work, codec_name: str, count: int, payload: bytes, decoded: Array) -> Work:
    """The same work with other numbers."""
    return replace(work, codec=codec_name, count=count, payload=payload, decoded=decoded)


def train(experiment: Experiment, rule: Rule | None, hostile: int = HOSTILE, poison: float = POISON) -> Run:
    """Until the experiment's target or its step limit."""
    baton = Rotation(ACTORS)
    make_run = partial(Groups, rule=rule, hostile=hostile, poison=poison)
    return train_by(baton, *begin(experiment, ACTORS, 0, baton, make_run))


def main(arguments: Sequence[str] | None = None) -> None:
    """One run; its end as JSON."""
    parser = argparse.ArgumentParser("python -m tests.learning.poison", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("rule", choices=("mean", "trimmed_mean", "median", "none"))
    parser.add_argument("settings", nargs="*", metavar="TABLE.KEY=VALUE")
    parser.add_argument("--hostile", type=int, default=HOSTILE)
    parser.add_argument(
        "--poison", type=float, default=POISON, metavar="X", help="what hostile ones multiply theirs by"
    )
    asked = parser.parse_intermixed_args(arguments)
    experiment = load(named("cartpole"), [*SETTINGS, *asked.settings, f"run.seed={asked.seed}"], {})
    run = train(experiment, None if asked.rule == "none" else asked.rule, asked.hostile, asked.poison)
    progress = run.progress
    answer = {
        "rule": asked.rule,
        "hostile": asked.hostile,
        "solved": progress.reached(experiment.run.until_return),
        "env_steps": progress.env_steps,
        "return_mean_100": progress.return_mean,
        "best": progress.return_best_mean if np.isfinite(progress.return_best_mean) else None,
        "versions": run.parameters.version,
        "curve": run.curve,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
