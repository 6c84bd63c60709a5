"""What a loop trains by, as one JSON object on its command line. Pure; imports nothing of Farflung's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

BETA1 = 0.9  # of Adam, as PPO has it (Schulman et al. 2017); Farflung's own is a sparse update's, and smaller


@dataclass(frozen=True, slots=True)
class Recipe:
    """PPO's settings. envs: B, of the whole loop. minibatch: samples in a gradient. epsilon: outside Adam's root."""

    env: str
    target: float
    envs: int
    rollout_steps: int
    passes: int
    minibatch: int
    learning_rate: float
    anneal_steps: int
    anneal_floor: float
    reward_scale: float
    discount: float
    gae_lambda: float
    clip: float
    value_weight: float
    entropy_weight: float
    max_gradient_norm: float
    beta2: float
    epsilon: float
    hidden: tuple[int, ...]

    @property
    def minibatches(self) -> int:
        """Gradients in one pass."""
        return self.envs * self.rollout_steps // self.minibatch

    def rate(self, env_steps: int) -> float:
        """The learning rate, which falls to its floor's share with environment steps."""
        left = max(0.0, 1.0 - env_steps / self.anneal_steps)
        return self.learning_rate * (self.anneal_floor + (1.0 - self.anneal_floor) * left)


def written(recipe: Recipe) -> str:
    """One line."""
    return json.dumps(asdict(recipe))


def read(text: str) -> Recipe:
    """What ``written`` wrote."""
    fields = json.loads(text)
    return Recipe(**fields | {"hidden": tuple(fields["hidden"])})
