"""CartPole at the pace of a simulator that is in no hurry: most of its time it waits. Knows Gymnasium."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

STEP_S = 0.004
NAME = "Paced-v0"
MODULE = "tests.faults.peers.paced"
SETTINGS = (  # of actors that play it: a gradient each 0.13 s, and hardly any work
    f"actor.env={MODULE}:{NAME}",
    "actor.envs=1",
    "actor.rollout_steps=64",
    "actor.passes=2",
    "actor.minibatches=1",
)


class Paced(CartPoleEnv):
    """Sleeps STEP_S in each step."""

    def step(self, action: Any) -> Any:
        time.sleep(STEP_S)
        return super().step(action)  # type: ignore[no-untyped-call]


gymnasium.register(NAME, f"{MODULE}:Paced", max_episode_steps=500)
