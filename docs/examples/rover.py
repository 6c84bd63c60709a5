"""A rover that looks and feels: a camera sees on which side a mark lies, a wheel tells its speed. Two inputs.

Knows Gymnasium and torch alone.
"""

import gymnasium
import numpy
import torch
from torch import nn


class Rover(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict(
        {
            "camera": gymnasium.spaces.Box(0, 255, (12, 12, 1), numpy.uint8),
            "wheel": gymnasium.spaces.Box(-1.0, 1.0, (1,), numpy.float32),
        }
    )
    action_space = gymnasium.spaces.Discrete(2)  # to the left, to the right; reversed where the wheel turns backwards

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def look(self):
        self.right, self.forwards = self.np_random.integers(2, size=2)
        image = numpy.zeros((12, 12, 1), numpy.uint8)
        image[self.np_random.integers(12), 6 * self.right + self.np_random.integers(6)] = 255
        return {"camera": image, "wheel": numpy.float32([2 * self.forwards - 1])}

    def step(self, action):
        paid = float((action == self.right) == self.forwards)
        return self.look(), paid, False, False, {}


class TwoInputs(nn.Module):
    """An encoder that gets a dict of tensors: camera [N, 12, 12, 1], scaled, and wheel [N, 1]."""

    def __init__(self, spec, width=64):
        super().__init__()
        pixels = numpy.prod(spec.observation_shape["camera"])
        self.eye = nn.Sequential(nn.Flatten(), nn.Linear(int(pixels), width), nn.ReLU())
        self.both = nn.Sequential(nn.Linear(width + 1, width), nn.ReLU())

    def forward(self, seen):
        return self.both(torch.cat([self.eye(seen["camera"]), seen["wheel"]], 1))


gymnasium.register("Rover-v0", entry_point=Rover, max_episode_steps=20)
