"""Stable-Baselines3 at its defaults: ``python -m tests.learning.defaults.peer ppo|a2c TASK SEED`` prints JSON.

``--set`` takes keyword arguments of its method as a JSON object, ``--steps`` others than the task's.
Imports nothing of Farflung's. Images of a few pixels are flattened, which is what its MlpPolicy does with them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor

from tests.learning.defaults.tasks import MODULE, TASKS

WINDOW = 100  # episodes in a mean


class Scores(BaseCallback):
    """Keeps the returns of the last training episodes."""

    def __init__(self) -> None:
        super().__init__()
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.episodes = 0

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.recent.append(float(info["episode"]["r"]))
                self.episodes += 1
        return True


def main(algorithm: str, name: str, seed: int, steps: int | None, settings: dict[str, Any]) -> dict[str, Any]:
    """One run. settings: over the method's defaults."""
    task = TASKS[name]
    torch.set_num_threads(1)
    if task.own:
        import_module(MODULE)
    env = Monitor(gymnasium.make(task.env, **task.options))
    method = {"ppo": PPO, "a2c": A2C}[algorithm]
    scores, began = Scores(), time.perf_counter()
    method("MlpPolicy", env, seed=seed, device="cpu", **settings).learn(steps or task.steps, callback=scores)
    mean = float(np.mean(scores.recent)) if scores.recent else None
    return {"return_mean_100": mean, "episodes": scores.episodes, "wall_s": time.perf_counter() - began}


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.learning.defaults.peer", description=__doc__)
    parser.add_argument("algorithm", choices=("ppo", "a2c"))
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--set", type=json.loads, default={}, metavar="JSON")
    asked = parser.parse_args()
    print(json.dumps(main(asked.algorithm, asked.task, asked.seed, asked.steps, asked.set)))
