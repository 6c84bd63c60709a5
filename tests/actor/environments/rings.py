"""Walks around a ring of states, whose values are known in closed form, as one environment and as a vector of its own.

The state is where the walk is and how many steps its episode has left; the action changes nothing. An episode that is
truncated is worth what the endless walk is worth, V(x) = r(x) + γ V(x + 1); one that ends is worth its own steps. The
rewards of a whole round are nought together, so that the endless walk has a value without a discount as well.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

REWARDS = np.array([0.0, 0.1, 0.2, 0.3, -0.6])
SIZE = len(REWARDS)
MODES = {"next": AutoresetMode.NEXT_STEP, "same": AutoresetMode.SAME_STEP}


def values(length: int, kind: str, discount: float) -> np.ndarray:
    """V of each state, float32 [SIZE * (length + 1)]; of a terminal one a number that nobody may look at."""
    if discount < 1.0:
        endless = np.linalg.solve(np.eye(SIZE) - discount * np.roll(np.eye(SIZE), 1, 1), REWARDS)
    else:
        endless = REWARDS - np.cumsum(REWARDS)
    table = np.tile(endless, (length + 1, 1))
    if kind != "truncated":
        table[0] = 0.0
        for left in range(1, length + 1):
            table[left] = REWARDS + discount * np.roll(table[left - 1], -1)
        table[0] = 7.0
    return table.reshape(-1).astype(np.float32)


def state(x: Any, left: Any) -> Any:
    return left * SIZE + x


class Ring(gymnasium.Env[Any, Any]):
    """length: steps of an episode. kind: how it ends: terminated, truncated, or both at once."""

    def __init__(self, length: int = 3, kind: str = "truncated") -> None:
        self.observation_space, self.action_space = Discrete(SIZE * (length + 1)), Discrete(2)
        self._length, self._kind = length, kind

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._x, self._left = int(self.np_random.integers(SIZE)), self._length
        return state(self._x, self._left), {}

    def step(self, action: Any) -> Any:
        reward = float(REWARDS[self._x])
        self._x, self._left = (self._x + 1) % SIZE, self._left - 1
        over = self._left == 0
        return (
            state(self._x, self._left),
            reward,
            over and self._kind != "truncated",
            over and self._kind != "terminated",
            {},
        )


class RingVector(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """The same, many at once. mode: of autoreset. finals: where the last observation stands. flags: their type."""

    KEYS: ClassVar[dict[str, str]] = {"rows": "final_obs", "dense": "final_obs", "old": "final_observation"}

    def __init__(
        self,
        num_envs: int = 1,
        length: int = 3,
        kind: str = "truncated",
        mode: str = "next",
        finals: str = "rows",
        flags: str = "bool",
    ) -> None:
        self.num_envs, self._length, self._kind = num_envs, length, kind
        self._mode, self._finals, self._flags = mode, finals, flags
        self.metadata = {"autoreset_mode": MODES[mode]}
        self.single_observation_space, self.single_action_space = Discrete(SIZE * (length + 1)), Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._random = np.random.default_rng(seed)
        self._x, self._left = np.zeros((2, self.num_envs), np.int64)
        self._pending = np.zeros(self.num_envs, np.bool_)
        self._begin(~self._pending)
        return state(self._x, self._left), {}

    def _begin(self, rows: np.ndarray) -> None:
        self._x[rows] = self._random.integers(SIZE, size=np.count_nonzero(rows))
        self._left[rows] = self._length

    def step(self, actions: Any) -> Any:
        walks = ~self._pending
        rewards = np.where(walks, REWARDS[self._x], 0.0)
        self._x[walks] = (self._x[walks] + 1) % SIZE
        self._left[walks] -= 1
        self._begin(self._pending)
        over, info = walks & (self._left == 0), dict[str, Any]()
        if self._mode == "next":
            self._pending, info = over, {"final_obs": "of its own"}
        elif over.any():
            info = self._told(state(self._x, self._left), over)
            self._begin(over)
        flags = [(over & (self._kind != other)).astype(self._flags) for other in ("truncated", "terminated")]
        return state(self._x, self._left), rewards, *flags, info

    def _told(self, last: np.ndarray, over: np.ndarray) -> dict[str, Any]:
        if self._finals not in self.KEYS:
            return {}
        rows = np.empty(self.num_envs, object)
        rows[over] = [np.int64(seen) for seen in last[over]]
        key = self.KEYS[self._finals]
        return {key: last.copy() if self._finals == "dense" else rows, f"_{key}": over}


gymnasium.register("Ring-v0", f"{__name__}:Ring")
gymnasium.register("RingVector-v0", f"{__name__}:Ring", vector_entry_point=f"{__name__}:RingVector")
