"""Shipped tasks whose simulators wait, as a slow one would, while a core is free for others. Knows Gymnasium."""

from __future__ import annotations

import time
from typing import Any

import gymnasium

STEP_S = 1e-3
TASKS = {"cartpole": "CartPole-v1", "lunarlander": "LunarLander-v3"}


class Sleeping(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A step takes STEP_S longer."""

    def step(self, action: Any) -> Any:
        """Env.step."""
        time.sleep(STEP_S)
        return self.env.step(action)


def make(env: str) -> gymnasium.Env[Any, Any]:
    """The task, which waits."""
    return Sleeping(gymnasium.make(env))


for _name, _env in TASKS.items():
    gymnasium.register(f"Sleeping-{_name}-v0", entry_point=f"{__name__}:make", kwargs={"env": _env})
