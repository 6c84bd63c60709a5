"""A simulator whose every number is known beforehand, and what tests build around it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.environments.conversion import spaces_of
from actor.environments.inprocess import InProcessEngine
from actor.environments.vector import VectorEnv
from actor.spaces import Actions, Spaces

NONE_ALLOWED: frozenset[str] = frozenset()


class Counter(gymnasium.Env[np.ndarray, Any]):
    """Observes (episode, steps taken) as [2, 1]; action ``start + n`` is rewarded with n; ends after ``length``."""

    def __init__(self, length: int = 3, terminates: bool = True, start: int = 0) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2, 1), np.float64)
        self.action_space = Discrete(4, start=start)
        self._length, self._terminates, self._start = length, terminates, start
        self._episode, self._taken = -1, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._taken = self._episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._taken += 1
        over, reward = self._taken >= self._length, float(action - self._start)
        return self._observe(), reward, over and self._terminates, over and not self._terminates, {}

    def _observe(self) -> np.ndarray:
        return np.array([[self._episode], [self._taken]], np.float64)


def simulators_of(env: SyncVectorEnv, mode: AutoresetMode) -> VectorEnv:
    """What ``actor.environments.registry`` would make of a vector environment."""
    spaces = spaces_of("Counter-v0", env.single_observation_space, env.single_action_space)
    late = mode is AutoresetMode.NEXT_STEP
    return VectorEnv(
        InProcessEngine(env, next_step_autoreset=late, on_failure=lambda *_: None), spaces, next_step_autoreset=late
    )


def counters(mode: AutoresetMode, *lengths: int, **options: Any) -> VectorEnv:
    """One Counter of each length, not yet reset."""
    makers = [lambda length=length: Counter(length, **options) for length in lengths]
    return simulators_of(SyncVectorEnv(makers, autoreset_mode=mode, copy=False), mode)


def discrete(*sizes: int) -> Actions:
    """Choices among so many values each."""
    return Actions("discrete" if len(sizes) == 1 else "multi_discrete", sizes, (0.0,) * len(sizes), (1.0,) * len(sizes))


def box(low: tuple[float, ...], high: tuple[float, ...]) -> Actions:
    """Real numbers within these bounds, in the policy's own scale."""
    width = len(low)
    return Actions("box", (1,) * width, (0.0,) * width, (1.0,) * width, low, high, (width,), "float32")


def vectors(size: int, actions: Actions) -> Spaces:
    """Observations of so many numbers."""
    return Spaces((size,), "float32", actions)
