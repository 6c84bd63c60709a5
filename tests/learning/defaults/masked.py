"""Whether masks cost learning: ``python -m tests.learning.defaults.masked [SEEDS]`` prints a table.

CartPole-v1, the same with two more actions that a mask never allows, and the same again where these two do as their
neighbours and nobody says that they are not needed. Environment steps until the mean of the last 100 training episodes
is 475, at plain defaults, two actors, virtual time.
"""

from __future__ import annotations

import os
import sys
from statistics import median
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from learner.launch.experiment_file import load
from protocol.process.threads import limit_threads
from tests.bench.fleet.costs import Costs, Crew
from tests.reference.markdown import table

MODULE = "tests.learning.defaults.masked"
TARGET, STEPS = 475, 1_000_000
WAYS = {"as it is": "CartPole-v1", "two more, masked": f"{MODULE}:Masked-v0", "two more, open": f"{MODULE}:Open-v0"}


class Open(gymnasium.ActionWrapper[Any, Any, Any]):
    """0 and 1 push to the left, 2 and 3 to the right."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.action_space = gymnasium.spaces.Discrete(4)

    def action(self, action: Any) -> int:
        """Gymnasium's."""
        return int(action) // 2


class Masked(Open):
    """1 and 2 alone are allowed."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Gymnasium's."""
        seen, info = super().reset(seed=seed, options=options)
        return seen, {**info, "action_mask": np.array([0, 1, 1, 0], np.int8)}

    def step(self, action: Any) -> Any:
        """Gymnasium's. Raises ValueError for what is not allowed."""
        if action not in (1, 2):
            raise ValueError(f"{action} is not allowed")
        *outcome, info = super().step(action)
        return *outcome, {**info, "action_mask": np.array([0, 1, 1, 0], np.int8)}


def _masked(**_: Any) -> gymnasium.Env[Any, Any]:
    return Masked(CartPoleEnv())


def _open(**_: Any) -> gymnasium.Env[Any, Any]:
    return Open(CartPoleEnv())


for _name, _made in (("Masked-v0", _masked), ("Open-v0", _open)):
    if _name not in gymnasium.registry:  # the program is this module, and the experiment names it once more
        gymnasium.register(_name, entry_point=_made, max_episode_steps=500)


def steps_of(env: str, seed: int) -> int | None:
    """Until the target; None where it was not reached."""
    from tests.bench.fleet.world import Fleet

    asked = [f"run.until_return={TARGET}", f"run.until_steps={STEPS}", f"run.seed={seed}", f"actor.env={env}"]
    with Fleet(load(None, asked, {}), Crew(2), Costs(), frozenset({MODULE})) as fleet:
        answer = fleet.run().answer()
    return int(answer["env_steps"]) if answer["env_steps"] < STEPS else None


def main(seeds: int) -> str:
    """The table."""
    rows = []
    for way, env in WAYS.items():
        found = [steps_of(env, seed) for seed in range(seeds)]
        shown = [f"{steps / 1e3:.1f} k" if steps else "not reached" for steps in found]
        rows.append((way, f"{median(steps or STEPS for steps in found) / 1e3:.1f} k", ", ".join(shown)))
    return table(("actions", "median", "each seed"), rows)


if __name__ == "__main__":
    limit_threads(os.environ)
    print(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
