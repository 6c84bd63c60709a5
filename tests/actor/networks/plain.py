"""The small networks as torch has them, which takes their gradients: what the numpy passes are held to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from actor.networks.flat import FlatParameters


class PlainPerceptrons:
    """A copy of these parameters, and the network that their names describe."""

    def __init__(self, flat: FlatParameters, activation: str) -> None:
        runs = flat.layout().slices()
        shapes = {entry.name: entry.shape for entry in flat.layout().entries}
        self.parameters = {
            name: torch.tensor(flat.theta[runs[name]].reshape(shape), requires_grad=True)
            for name, shape in shapes.items()
        }
        self._activate = torch.tanh if activation == "tanh" else torch.relu

    def __call__(self, observations: np.ndarray) -> tuple[Tensor, Tensor]:
        """observations: float32 [N, D]. Returns (outputs [N, K], values [N], empty where there are none)."""
        rows = torch.from_numpy(observations)
        outputs = self._trunk("policy.", rows)
        if (log_deviations := self.parameters.get("log_deviations")) is not None:
            outputs = torch.cat([outputs, log_deviations.expand_as(outputs)], 1)
        return outputs, self._trunk("value.", rows).squeeze(1) if "value.weight0" in self.parameters else torch.empty(0)

    def _trunk(self, prefix: str, rows: Tensor) -> Tensor:
        for index in range(sum(name.startswith(f"{prefix}weight") for name in self.parameters)):
            weight, bias = self.parameters[f"{prefix}weight{index}"], self.parameters[f"{prefix}bias{index}"]
            rows = functional.linear(self._activate(rows) if index else rows, weight, bias)
        return rows

    def gradient(self) -> np.ndarray:
        """All gradients, flat in the order of the layout."""
        found = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        assert len(found) == len(self.parameters)
        return torch.cat([gradient.flatten() for gradient in found]).numpy()
