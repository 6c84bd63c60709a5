"""A network of one's own: residual blocks, each of which begins as nothing. Knows torch alone."""

from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)

    def forward(self, features):
        return features + self.outer(nn.functional.silu(self.inner(self.norm(features))))


class Residual(nn.Module):
    """An encoder: observations [N, D] -> features [N, width]. Farflung puts the heads behind it."""

    def __init__(self, spec, width=64, blocks=2):
        super().__init__()
        (size,) = spec.observation_shape
        self.first = nn.Linear(size, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))

    def forward(self, observations):
        return self.blocks(self.first(observations))


class TwoTowers(nn.Module):
    """A whole network: observations [N, D] -> outputs [N, K] and values [N], from layers of their own."""

    def __init__(self, spec, width=64):
        super().__init__()
        (size,) = spec.observation_shape
        self.policy = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, spec.outputs))
        self.value = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, 1)) if spec.values else None

    def forward(self, observations):
        values = None if self.value is None else self.value(observations).squeeze(1)
        return self.policy(observations), values
