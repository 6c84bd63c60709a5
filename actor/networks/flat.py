"""A network's parameters and gradients as two flat vectors. Pure. Knows torch and the layout; no loss, no wire."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from protocol.layout import Entry, Layout


class FlatModule:
    """Owns ``theta`` and ``gradient``, float32 [P] each; the module's parameters and their ``.grad`` are views.

    So loading weights is one copy, zeroing is one fill, and a gradient needs no gathering. The module must not have
    its parameters or gradients replaced afterwards (``zero_grad(set_to_none=True)`` would).
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        named = list(module.named_parameters())
        self._layout = Layout(tuple(Entry(name, tuple(parameter.shape)) for name, parameter in named))
        self.theta = torch.empty(self._layout.length, dtype=torch.float32)
        self.gradient = torch.zeros(self._layout.length, dtype=torch.float32)
        runs = self._layout.slices()
        for name, parameter in named:
            self._adopt(parameter, runs[name])
        self._theta_array: NDArray[np.float32] = self.theta.numpy()
        self._gradient_array: NDArray[np.float32] = self.gradient.numpy()

    def _adopt(self, parameter: nn.Parameter, run: slice) -> None:
        home = self.theta[run].view(parameter.shape)
        home.copy_(parameter.detach())
        parameter.data = home
        parameter.grad = self.gradient[run].view(parameter.shape)

    def layout(self) -> Layout:
        """Names and shapes of the runs of θ, in order."""
        return self._layout

    def load(self, vector: NDArray[np.float32]) -> None:
        """Take ``vector``, float32 [P], as θ. It is copied."""
        if vector.shape != self._theta_array.shape:
            raise ValueError(f"θ has shape {self._theta_array.shape}, got {vector.shape}")
        self._theta_array[...] = vector

    def vector(self) -> NDArray[np.float32]:
        """A copy of θ, float32 [P]."""
        return self._theta_array.copy()

    def gradient_vector(self) -> NDArray[np.float32]:
        """The gradient, float32 [P]: a view, which the next backward pass overwrites."""
        return self._gradient_array
