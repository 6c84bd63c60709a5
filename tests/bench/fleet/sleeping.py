"""Shipped tasks whose simulators wait, as a slow one would, while a core is free for others. Knows Gymnasium."""

from __future__ import annotations

import time
from typing import Any

import gymnasium

STEP_MS = 10.0
TASKS = {"cartpole": "CartPole-v1", "lunarlander": "LunarLander-v3"}


class Sleeping(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A step takes so many milliseconds longer."""

    def __init__(self, env: gymnasium.Env[Any, Any], step_ms: float) -> None:
        super().__init__(env)
        self._step_s = step_ms / 1e3

    def step(self, action: Any) -> Any:
        """Env.step."""
        time.sleep(self._step_s)
        return self.env.step(action)


def make(env: str, step_ms: float = STEP_MS) -> gymnasium.Env[Any, Any]:
    """The task, which waits."""
    return Sleeping(gymnasium.make(env), step_ms)


for _name, _env in TASKS.items():
    gymnasium.register(f"Sleeping-{_name}-v0", entry_point=f"{__name__}:make", kwargs={"env": _env})
