"""Networks and a method as users write them, for a policy that is loaded or written. Knows torch and our methods."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from actor.algorithms.methods import ActorCritic
from actor.traits import Traits

MODULE = "tests.actor.evaluation.nets"


class Normed(nn.Module):
    """An encoder of vectors: a residual block with a norm."""

    def __init__(self, spec: Any, width: int = 7) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(spec.observation_shape[0], width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, seen: Tensor) -> Tensor:
        features = self.first(seen)
        return torch.add(features, nn.functional.silu(self.inner(self.norm(features))))


class Attentive(nn.Module):
    """A whole network: attention over the numbers of a vector."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.tokens = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.outputs, self.values = nn.Linear(8, spec.outputs), nn.Linear(8, 1)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.tokens(seen.unsqueeze(2))
        features = self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)
        return self.outputs(features), self.values(features).squeeze(1)


class Places(nn.Module):
    """An encoder of a Dict: an image, a vector within a Tuple, and a choice."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.eye = nn.Conv2d(spec.observation_shape["image"][2], 4, 3, 2)
        self.rest = nn.LazyLinear(9)

    def forward(self, seen: dict[str, Tensor]) -> Tensor:
        image = self.eye(seen["image"].permute(0, 3, 1, 2)).flatten(1)
        return torch.tanh(self.rest(torch.cat([image, seen["more.0"], seen["place"]], 1)))


class Flat(nn.Module):
    """An encoder of an image of bytes."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.inner = nn.Conv2d(spec.observation_shape[2], 5, 3)

    def forward(self, seen: Tensor) -> Tensor:
        return nn.functional.gelu(self.inner(seen.permute(0, 3, 1, 2))).flatten(1)


class Fickle(nn.Module):
    """An encoder whose way depends on what it sees, which a trace cannot hold."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.inner = nn.Linear(spec.observation_shape[0], 5)

    def forward(self, seen: Tensor) -> Tensor:
        features: Tensor = self.inner(seen)
        return features if len(seen) < 5 else -features


class Plain(ActorCritic):
    """A method of a user's own."""

    traits = Traits(ignores=("clip",))
