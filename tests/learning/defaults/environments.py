"""Environments that a user might bring, registered with Gymnasium. Knows Gymnasium, and minigrid where it is installed.

Each is small, and hard in one way: units (linear systems, a scaled pole), rewards that are rare (chain, deep sea), what
was seen long ago (T-maze), images of seven by seven (MiniGrid).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

Array = NDArray[np.float32]


class LinearSystem(gymnasium.Env[Array, Array]):
    """x' = A x + B u + noise, and each step costs |x|² + 0.1 |u|². A moves away from 0 by a twentieth a step.

    size: of x; controls: of u, each between -2 and 2. Observations and rewards are multiplied by what is stated.
    """

    def __init__(
        self, size: int = 3, controls: int = 1, observation_scale: float = 1.0, reward_scale: float = 1.0
    ) -> None:
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = Box(-2.0, 2.0, (controls,), np.float32)
        fixed = np.random.default_rng(size)
        self._a = 1.05 * np.linalg.qr(fixed.normal(size=(size, size)))[0]
        self._b = fixed.normal(size=(size, controls)) / np.sqrt(controls)
        self._scales = observation_scale, reward_scale
        self._x = np.zeros(size)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._x = self.np_random.uniform(-1.0, 1.0, len(self._x))
        return self._seen(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        chosen = np.asarray(action, np.float64)
        cost = float(self._x @ self._x + 0.1 * chosen @ chosen)
        self._x = self._a @ self._x + self._b @ chosen + self.np_random.normal(0.0, 0.05, len(self._x))
        return self._seen(), -cost * self._scales[1], False, False, {}

    def _seen(self) -> Array:
        return (self._scales[0] * self._x).astype(np.float32)


class Chain(gymnasium.Env[Any, Any]):
    """Rooms in a row: the last pays 1 and ends it, the first pays a hundredth each time that one stays there."""

    def __init__(self, rooms: int = 30) -> None:
        self.observation_space, self.action_space = Discrete(rooms), Discrete(2)
        self._last, self._room = rooms - 1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._room = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        before = self._room
        self._room = max(0, before + (1 if action else -1))
        arrived = self._room == self._last
        reward = 1.0 if arrived else 0.01 * (before == self._room == 0)
        return self._room, reward, arrived, False, {}


class DeepSea(gymnasium.Env[Any, Any]):
    """Osband et al. 2020: a dive of ``depth`` steps, left or right; only right all the way pays, each right costs."""

    def __init__(self, depth: int = 8) -> None:
        self.observation_space, self.action_space = Discrete(depth * depth), Discrete(2)
        self._depth, self._row, self._column = depth, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._row = self._column = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        found = bool(action) and self._column == self._depth - 1
        self._column = min(self._depth - 1, self._column + 1) if action else max(0, self._column - 1)
        self._row += 1
        done = self._row == self._depth
        reward = (1.0 if found and done else 0.0) - 0.01 / self._depth * bool(action)
        return min(self._row, self._depth - 1) * self._depth + self._column, reward, done, False, {}


class TMaze(gymnasium.Env[Any, Any]):
    """Bakker 2002: a sign at the start says which way to turn at the end of a corridor of ``delay`` steps."""

    def __init__(self, delay: int = 10) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (3,), np.float32), Discrete(3)
        self._delay, self._place, self._sign = delay, 0, 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._sign = 0, float(self.np_random.choice([-1.0, 1.0]))
        return self._seen(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        if self._place < self._delay:
            ahead = action == 0
            self._place += ahead
            return self._seen(), 0.0 if ahead else -0.1, False, False, {}
        right = (action == 1) == (self._sign > 0) and action != 0
        return self._seen(), 1.0 if right else -0.1, True, False, {}

    def _seen(self) -> Array:
        return np.array([self._sign * (self._place == 0), self._place == self._delay, 1.0], np.float32)


class OtherUnits(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The same task in other units. observation_scale, reward_scale: factors."""

    def __init__(self, env: gymnasium.Env[Any, Any], observation_scale: float, reward_scale: float) -> None:
        super().__init__(env)
        self._scales = observation_scale, reward_scale
        assert env.observation_space.shape is not None
        self.observation_space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        seen, info = self.env.reset(**options)
        return np.asarray(seen * self._scales[0], np.float32), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, terminated, truncated, info = self.env.step(action)
        scaled = np.asarray(seen * self._scales[0], np.float32)
        return scaled, float(reward) * self._scales[1], terminated, truncated, info


def pole_in_other_units() -> gymnasium.Env[Any, Any]:
    """CartPole in hundredths and thousandths."""
    return OtherUnits(CartPoleEnv(), 100.0, 1000.0)


def grid(task: str) -> gymnasium.Env[Any, Any]:
    """MiniGrid's view alone: an image of 7 x 7 x 3 small numbers."""
    import minigrid
    from minigrid.wrappers import ImgObsWrapper

    del minigrid  # importing it registered its tasks
    made: gymnasium.Env[Any, Any] = ImgObsWrapper(gymnasium.make(task))
    return made


gymnasium.register("LinearSystem-v0", entry_point=f"{__name__}:LinearSystem", max_episode_steps=50)
gymnasium.register("Chain-v0", entry_point=f"{__name__}:Chain", max_episode_steps=100)
gymnasium.register("DeepSea-v0", entry_point=f"{__name__}:DeepSea")
gymnasium.register("TMaze-v0", entry_point=f"{__name__}:TMaze", max_episode_steps=200)
gymnasium.register("PoleInOtherUnits-v0", entry_point=f"{__name__}:pole_in_other_units", max_episode_steps=500)
gymnasium.register("Grid-v0", entry_point=f"{__name__}:grid")
