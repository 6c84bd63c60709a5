"""An environment that measures itself, in ways that are right and in ways that are not."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Measuring(gymnasium.Env[np.ndarray, Any]):
    """Episodes of three steps. Each step tells its number, the last one also ``success``, 1 of every second episode.

    odd: what every reset tells beside them, which is no number.
    """

    def __init__(self, odd: bool = False) -> None:
        self.observation_space = Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = Discrete(2)
        self._odd, self._episodes, self._taken = odd, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._taken = 0
        return np.zeros(2, np.float32), {"metrics": {"odd": "no number"}} if self._odd else {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._taken += 1
        over = self._taken == 3
        measured: dict[str, Any] = {"taken": self._taken}
        if over:
            self._episodes += 1
            measured["success"] = self._episodes % 2 == 0
        return np.zeros(2, np.float32), 1.0, over, False, {"metrics": measured, "other": "text"}


gymnasium.register("Measuring-v0", f"{__name__}:Measuring")
