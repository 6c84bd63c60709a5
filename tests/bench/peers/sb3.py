"""One run of Stable-Baselines3 in a process of its own.

``python -m tests.bench.peers.sb3 ALGORITHM ENV SEED LIMIT [RATE]``: ALGORITHM is ppo or a2c. With RATE the learning
rate is constant at it, and PPO's clip too.

Settings follow rl-baselines3-zoo, annealed over the limit of the run. One torch thread, which is fastest for networks
of this size. Prints one JSON object: the clock starts with ``learn`` and stops with the target, as for Farflung.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import Any

import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

CURVE_S = 0.25  # between points of the learning curve
TARGETS = {"CartPole-v1": 475.0, "LunarLander-v3": 200.0}
ENVS = {"CartPole-v1": 8, "LunarLander-v3": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.0,
        "learning_rate": lambda left: 0.001 * left,
        "clip_range": lambda left: 0.2 * left,
    },
    "LunarLander-v3": {
        "n_steps": 1024,
        "batch_size": 64,
        "gae_lambda": 0.98,
        "gamma": 0.999,
        "n_epochs": 4,
        "ent_coef": 0.01,
    },
}


class Watch(BaseCallback):
    """Stops at the target. solved_s: seconds from ``began`` to it. curve: (steps, seconds, mean of 100 episodes)."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.began = time.perf_counter()
        self.solved_s: float | None = None
        self.curve: list[tuple[int, float, float]] = []
        self._target = target
        self._scores: deque[float] = deque(maxlen=100)
        self._next_s = 0.0

    def _on_step(self) -> bool:
        self._scores.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        if len(self._scores) < 100:
            return True
        mean, now_s = sum(self._scores) / 100, time.perf_counter() - self.began
        solved = mean >= self._target
        if solved or now_s >= self._next_s:
            self.curve.append((self.num_timesteps, now_s, mean))
            self._next_s = now_s + CURVE_S
        if solved:
            self.solved_s = now_s
        return not solved


def make(algorithm: str, env_id: str, seed: int, rate: float | None) -> Any:
    """A model that has learnt nothing yet."""
    env = make_vec_env(env_id, n_envs=ENVS[env_id], seed=seed)
    settings = dict(SETTINGS[env_id]) if algorithm == "ppo" else {}
    if rate is not None:
        settings |= {"learning_rate": rate}
        settings |= {"clip_range": 0.2} if algorithm == "ppo" else {}
    return {"ppo": PPO, "a2c": A2C}[algorithm]("MlpPolicy", env, seed=seed, device="cpu", **settings)


def run(algorithm: str, env_id: str, seed: int, limit: int, rate: float | None = None) -> dict[str, Any]:
    """Trains until the target or ``limit`` environment steps."""
    torch.set_num_threads(1)
    model = make(algorithm, env_id, seed, rate)
    watch = Watch(TARGETS[env_id])
    watch.began = time.perf_counter()
    model.learn(limit, callback=watch)
    spent_s = time.perf_counter() - watch.began
    return {
        "solved": watch.solved_s is not None,
        "wall_s": watch.solved_s or spent_s,
        "env_steps": model.num_timesteps,
        "return_mean_100": watch.curve[-1][2] if watch.curve else None,
        "curve": watch.curve,
    }


if __name__ == "__main__":
    chosen, environment, number, steps, *rates = sys.argv[1:]
    print(json.dumps(run(chosen, environment, int(number), int(steps), float(rates[0]) if rates else None)))
