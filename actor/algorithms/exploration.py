"""How much a policy tries out, and how that falls: ε-greedy actions, the weight of entropy. Pure given a generator.

Knows numbers; no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.distributions import Masks, masked
from actor.config import ActorSettings

Floats = NDArray[np.float32]


def draw_final_epsilon(settings: ActorSettings, generator: np.random.Generator) -> float:
    """Where one actor's ε ends: Mnih et al. 2016, section 5.1, 0.1, 0.01 and 0.5 with odds 0.4, 0.3 and 0.3.

    Actors that differ explore differently, which is what takes the place of a replay memory.
    """
    return _pick(settings.final_epsilons, settings.final_epsilon_odds, float(generator.random()))


def _pick(values: Sequence[float], odds: Sequence[float], chance: float) -> float:
    """The value whose share of [0, 1) holds ``chance``."""
    for value, end in zip(values, np.cumsum(odds), strict=True):
        if chance < end:
            return value
    return values[-1]  # the odds may sum to a rounding error less than 1


def epsilon_at(final: float, env_steps: int, exploration_steps: int) -> float:
    """ε after so many environment steps of the run: straight down from 1 to its final value, then level."""
    share = min(1.0, env_steps / exploration_steps)
    return 1.0 + share * (final - 1.0)


def entropy_weight_at(settings: ActorSettings, env_steps: int) -> float:
    """The weight after so many environment steps of the run: level, straight down to its floor, then level.

    The return that a run is judged by includes what a stochastic policy tries out; near the end that is all it lacks.
    settings: as ``spaces.resolved`` has them.
    """
    assert settings.entropy_weight != "auto"
    first, last = settings.entropy_from, settings.entropy_steps
    if not last:
        return settings.entropy_weight
    left = min(1.0, max(0.0, (last - env_steps) / (last - first)))
    return settings.entropy_weight * (settings.entropy_floor + (1.0 - settings.entropy_floor) * left)


class EpsilonGreedy:
    """With probability ε any action, else the best. epsilon: 0 <= ε <= 1, may be set between rollouts."""

    def __init__(self, actions: int) -> None:
        self.epsilon = 1.0
        self._actions = actions

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> Floats:
        """Two uniform numbers for each draw, float32 [T, B, 2]."""
        return generator.random((steps, count, 2), np.float32)

    def draw(self, outputs: Floats, noise: Floats, masks: Masks | None = None) -> NDArray[Any]:
        """outputs: float32 [N, A], action values. noise: float32 [N, 2]. masks: bool [N, A], which may be chosen; None:
        all. Returns int64 [N, 1].
        """
        if masks is not None:
            return self._draw_allowed(outputs, noise, masks)
        anything = np.minimum((noise[:, 1] * self._actions).astype(np.int64), self._actions - 1)
        return np.where(noise[:, 0] < self.epsilon, anything, outputs.argmax(1))[:, None]

    def _draw_allowed(self, outputs: Floats, noise: Floats, masks: Masks) -> NDArray[Any]:
        allowed = np.count_nonzero(masks, 1)
        place = np.minimum((noise[:, 1] * allowed).astype(np.int64), allowed - 1)
        anything = (masks.cumsum(1) > place[:, None]).argmax(1)  # the first that has so many allowed ones before it
        chosen: NDArray[Any] = np.where(noise[:, 0] < self.epsilon, anything, masked(outputs, masks).argmax(1))[:, None]
        return chosen

    def expected(self, outputs: Floats, masks: Masks | None = None) -> Floats:
        """The mean of the action values under this policy, float32 [N]. outputs: float32 [N, A]. masks: as of draw."""
        epsilon = np.float32(self.epsilon)
        if masks is not None:
            best, even = masked(outputs, masks).max(1), outputs.mean(1, where=masks)
            allowed: Floats = best * (np.float32(1.0) - epsilon) + even * epsilon
            return allowed
        mean: Floats = outputs.max(1) * (np.float32(1.0) - epsilon) + outputs.mean(1) * epsilon
        return mean
