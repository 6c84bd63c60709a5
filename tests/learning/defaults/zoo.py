"""Stable-Baselines3's PPO with rl-baselines3-zoo's settings: ``python -m tests.learning.defaults.zoo TASK SEED STEPS``.

Prints JSON: seconds of learning, the mean return of the last 100 training episodes, and that of 20 played with the
most likely actions, which is what the zoo publishes. Imports nothing of Farflung's. One torch thread, which is fastest
for networks of this size.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from tests.learning.defaults.peer import Scores

EPISODES = 20
WIDE: dict[str, Any] = {
    "log_std_init": -2.0,
    "ortho_init": False,
    "activation_fn": torch.nn.ReLU,
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}
# hyperparams/ppo.yml of rl-baselines3-zoo at commit 22e3ff2. All of them normalise observations and rewards. Humanoid's
# are for ten million steps.
SETTINGS: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {
        "batch_size": 64,
        "n_steps": 512,
        "gamma": 0.98,
        "learning_rate": 2.0633e-05,
        "ent_coef": 0.000401762,
        "clip_range": 0.1,
        "n_epochs": 20,
        "gae_lambda": 0.92,
        "max_grad_norm": 0.8,
        "vf_coef": 0.58096,
        "policy_kwargs": WIDE,
    },
    "Hopper-v5": {
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.999,
        "learning_rate": 9.80828e-05,
        "ent_coef": 0.00229519,
        "clip_range": 0.2,
        "n_epochs": 5,
        "gae_lambda": 0.99,
        "max_grad_norm": 0.7,
        "vf_coef": 0.835671,
        "policy_kwargs": WIDE,
    },
    "Walker2d-v5": {
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.99,
        "learning_rate": 5.05041e-05,
        "ent_coef": 0.000585045,
        "clip_range": 0.1,
        "n_epochs": 20,
        "gae_lambda": 0.95,
        "max_grad_norm": 1.0,
        "vf_coef": 0.871923,
    },
    "Ant-v5": {},
    "Swimmer-v5": {
        "batch_size": 256,
        "n_steps": 1024,
        "gamma": 0.9999,
        "learning_rate": 6e-4,
        "gae_lambda": 0.98,
    },
    "Reacher-v5": {
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.9,
        "learning_rate": 0.000104019,
        "ent_coef": 7.52585e-08,
        "clip_range": 0.3,
        "n_epochs": 5,
        "gae_lambda": 1.0,
        "max_grad_norm": 0.9,
        "vf_coef": 0.950368,
    },
    "InvertedDoublePendulum-v5": {
        "batch_size": 512,
        "n_steps": 128,
        "gamma": 0.98,
        "learning_rate": 0.000155454,
        "ent_coef": 1.05057e-06,
        "clip_range": 0.4,
        "n_epochs": 10,
        "gae_lambda": 0.8,
        "max_grad_norm": 0.5,
        "vf_coef": 0.695929,
    },
    "Humanoid-v5": {
        "batch_size": 256,
        "n_steps": 512,
        "gamma": 0.95,
        "learning_rate": 3.56987e-05,
        "ent_coef": 0.00238306,
        "clip_range": 0.3,
        "n_epochs": 5,
        "gae_lambda": 0.9,
        "max_grad_norm": 2.0,
        "vf_coef": 0.431892,
        "policy_kwargs": WIDE,
    },
}


ENVS = {"Swimmer-v5": 4}  # others have one


def main(env: str, seed: int, steps: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    settings = SETTINGS[env]
    envs = VecNormalize(make_vec_env(env, ENVS.get(env, 1), seed=seed), gamma=settings.get("gamma", 0.99))
    model, scores = PPO("MlpPolicy", envs, seed=seed, device="cpu", **settings), Scores()
    began = time.perf_counter()
    model.learn(steps, callback=scores)
    wall_s = time.perf_counter() - began
    envs.training, envs.norm_reward = False, False
    played, _ = evaluate_policy(model, envs, EPISODES, deterministic=True)
    recent = [*scores.recent]
    mean = sum(recent) / len(recent) if recent else None
    return {
        "return_mean_100": mean,
        "played": float(np.mean(played)),
        "wall_s": wall_s,
        "env_steps": model.num_timesteps,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.learning.defaults.zoo", description=__doc__)
    parser.add_argument("env", choices=SETTINGS)
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int)
    asked = parser.parse_args()
    print(json.dumps(main(asked.env, asked.seed, asked.steps)))
