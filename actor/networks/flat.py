"""A network's parameters and gradients as two flat vectors. Pure. Knows numpy and the layout; no loss, no wire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actor.networks.policy import Network
from protocol.layout import Entry, Layout

Floats = NDArray[np.float32]


class FlatParameters:
    """Owns ``theta`` and ``gradient``, float32 [P] each; the network's parameters and their gradients are views.

    So loading weights is one copy, and a gradient needs no gathering.
    """

    def __init__(self, network: Network) -> None:
        given = network.arrays()
        self._layout = Layout(tuple(Entry(name, array.shape) for name, array in given.items()))
        self.theta: Floats = np.empty(self._layout.length, np.float32)
        self.gradient: Floats = np.zeros(self._layout.length, np.float32)
        parameters, gradients = self._views(self.theta), self._views(self.gradient)
        for name, array in given.items():
            parameters[name][...] = array
        network.adopt(parameters, gradients)

    def _views(self, vector: Floats) -> dict[str, Floats]:
        runs = self._layout.slices()
        return {entry.name: vector[runs[entry.name]].reshape(entry.shape) for entry in self._layout.entries}

    def layout(self) -> Layout:
        """Names and shapes of the runs of θ, in order."""
        return self._layout

    def load(self, vector: Floats) -> None:
        """Take ``vector``, float32 [P], as θ. It is copied."""
        if vector.shape != self.theta.shape:
            raise ValueError(f"θ has shape {self.theta.shape}, got {vector.shape}")
        self.theta[...] = vector

    def vector(self) -> Floats:
        """A copy of θ, float32 [P]."""
        return self.theta.copy()
