"""Fifty draws of eight settings, and what each means to either system. Pure. Runs nothing.

Each setting is drawn log-uniformly from one decade, by itself. A decade's middle is the default of both systems where
they agree and the geometric mean of both where they do not; of the entropy's weight, which is 0 in one of them and in
the other's continuous half, it is 0.003. A draw is the same for both systems and for every environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

COUNT = 50
HALF = np.sqrt(10.0)  # of a decade, from its middle
MIDDLES = {
    "learning_rate": 5.5e-4,  # 1e-3 and 3e-4
    "rollout": 1450.0,  # steps between two policies, all environments together: 1024 and 2048
    "minibatches": 16.0,  # 8 and 32
    "passes": 10.0,
    "entropy_weight": 3e-3,
    "clip": 0.2,
    "one_minus_lambda": 0.05,
    "one_minus_discount": 0.01,
}
WHOLE = {"rollout", "minibatches", "passes"}
ENVS = 16  # actor.envs where nobody asks for something else


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw. Names as in MIDDLES; whole numbers are rounded."""

    learning_rate: float
    rollout: int
    minibatches: int
    passes: int
    entropy_weight: float
    clip: float
    one_minus_lambda: float
    one_minus_discount: float

    @property
    def farflung(self) -> list[str]:
        """TABLE.KEY=VALUE, over the defaults."""
        own = {
            "learner.learning_rate": self.learning_rate,
            "actor.rollout_steps": max(round(self.rollout / ENVS), 1),
            "actor.minibatches": self.minibatches,
            "actor.passes": self.passes,
            "actor.entropy_weight": self.entropy_weight,
            "actor.clip": self.clip,
            "actor.gae_lambda": 1.0 - self.one_minus_lambda,
            "actor.discount": 1.0 - self.one_minus_discount,
        }
        return [f"{name}={value}" for name, value in own.items()]

    @property
    def stable_baselines(self) -> dict[str, Any]:
        """Keyword arguments of its PPO, over its defaults: one environment, so a rollout is so many steps of it.

        A few more or less than drawn, or its last minibatch would be a small one.
        """
        samples = max(round(self.rollout / self.minibatches), 2)
        return {
            "learning_rate": self.learning_rate,
            "n_steps": samples * self.minibatches,
            "batch_size": samples,
            "n_epochs": self.passes,
            "ent_coef": self.entropy_weight,
            "clip_range": self.clip,
            "gae_lambda": 1.0 - self.one_minus_lambda,
            "gamma": 1.0 - self.one_minus_discount,
        }

    @property
    def plain(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def _drawn(count: int) -> tuple[Draw, ...]:
    exponents = np.random.default_rng(2026).uniform(-1.0, 1.0, (count, len(MIDDLES)))
    rows = np.array(list(MIDDLES.values())) * HALF**exponents
    return tuple(Draw(**_named(row.tolist())) for row in rows)


def _named(row: Sequence[float]) -> dict[str, Any]:
    values = dict(zip(MIDDLES, row, strict=True))
    return {name: round(value) if name in WHOLE else float(f"{value:.4g}") for name, value in values.items()}


DRAWS = _drawn(COUNT)


@dataclass(frozen=True, slots=True)
class Case:
    """An environment of the study. task: of tests.learning.defaults. worst, best: returns that score 0 and 1."""

    task: str
    steps: int
    worst: float
    best: float

    def score(self, mean_return: float) -> float:
        """Of a mean return, cut at 0: below the worst is no more to be had."""
        return max((mean_return - self.worst) / (self.best - self.worst), 0.0)


# worst: what chance has, or a little less. best: the threshold that Gymnasium names, for Pendulum, which has none, what
# tuned settings reach.
CASES = (
    Case("CartPole", 50_000, 20.0, 475.0),
    Case("LunarLander", 100_000, -200.0, 200.0),
    Case("Pendulum", 50_000, -1_200.0, -150.0),
)
