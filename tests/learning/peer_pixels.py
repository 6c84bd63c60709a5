"""Stable-Baselines3 A2C on Pong for a while: ``python -m tests.learning.peer_pixels STEPS``. Prints one JSON object.

Standard preprocessing, eight environments in the process, both cores for torch: its fastest way here.
"""

from __future__ import annotations

import json
import sys
import time

import ale_py
import gymnasium
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack


def main(steps: int) -> None:
    """Trains for so many agent steps and prints how many there were a second."""
    gymnasium.register_envs(ale_py)
    torch.set_num_threads(2)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=8, seed=0), 4)
    model = A2C("CnnPolicy", env, device="cpu")
    began = time.perf_counter()
    model.learn(steps)
    print(json.dumps({"steps_per_s": model.num_timesteps / (time.perf_counter() - began)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
