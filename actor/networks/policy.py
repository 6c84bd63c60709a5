"""What every network offers to the algorithms. Pure. Knows numpy arrays; no torch, no simulator, no loss.

A policy turns observations into outputs, whose meaning is not its business (``distributions.py``, ``methods.py``), and
into values where the method wants them. Arrays go in and come out; torch stays inside. Small fully connected networks
are numpy in both directions (``mlp.py``), everything else, and a user's own, is torch's autograd (``torch_policy.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

POLICY_GAIN = 0.01  # an almost uniform first policy: Andrychowicz et al. 2021, section 3.2
VALUE_GAIN = 1.0
BYTE_SCALE = 1.0 / 255.0  # of pixels without statistics
# Output channels, kernel, stride of each convolution, then the width of the layer behind them.
# Mnih et al. 2013 and 2016 (A3C, section 8), and Mnih et al. 2015 ("Nature", methods).
# "grid" keeps the resolution of images whose every pixel means something, as a map's squares do.
IMAGE_NETWORKS: dict[str, tuple[tuple[tuple[int, int, int], ...], int]] = {
    "grid": (((16, 2, 1), (32, 2, 1), (32, 2, 1)), 64),
    "small": (((16, 4, 2), (32, 3, 2)), 128),
    "a3c": (((16, 8, 4), (32, 4, 2)), 256),
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
}

Array = NDArray[Any]  # float32 in use; float64 where a test differentiates numerically
State = NDArray[np.float32]  # [B, S], what a memory holds for each environment; S = 0 without one


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a network sees of a minibatch.

    observations: [N, *input_shape]; with a memory [T, b, *input_shape], whole sequences
    state: float32 [b, S], the memory before the first row; starts: bool [T, b], where it is empty. None without one
    """

    observations: NDArray[Any]
    state: State | None = None
    starts: NDArray[np.bool_] | None = None


class Network(Protocol):
    """What has parameters, float32 all of them."""

    def arrays(self) -> Mapping[str, Array]:
        """Every parameter by its name, in the order of the layout."""

    def adopt(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """From now on these arrays are the parameters, and what a backward pass overwrites."""


class Policy(Network, Protocol):
    """One network. K = outputs; S = state_size, 0 without a memory; has_values: whether it has a value function.

    values_while_acting: whether ``act`` gives the values too, because they share most of the work.
    input_shape: of one observation as ``prepare`` makes it, once, for all the times that it is looked at.
    sees_bytes: whether observations are images, which stay bytes until the first layer.
    pixel_normalization: (mean, scale) of ``set_pixel_normalization``.
    """

    outputs: int
    state_size: int
    has_values: bool
    values_while_acting: bool
    input_shape: tuple[int, ...]
    sees_bytes: bool

    @property
    def pixel_normalization(self) -> tuple[float, float]: ...

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """From now on a byte is seen as (byte − mean) · scale; at first, as a part of 255."""

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """observations: [N, *shape], of the simulators. Returns [N, *input_shape], of the same type."""

    def weights_changed(self) -> None:
        """The weights have changed: whatever acting keeps of them is made anew."""

    def act(self, observations: NDArray[Any], state: State) -> tuple[Array, Array | None]:
        """observations: [B, *input_shape]. Returns outputs float32 [B, K] and, if they cost nothing more, values [B].

        state: float32 [B, S], overwritten with what the memory holds afterwards.
        """

    def values(self, observations: NDArray[Any], state: State) -> Array:
        """observations: [N, *input_shape]. Returns values float32 [N]; state [N, S] stays as it is."""

    def forward_pass(self, inputs: Inputs) -> tuple[Array, Array | None, Any]:
        """Outputs float32 [N, K], values [N] and what backward_pass needs; N = T·b, row by row, with a memory."""

    def infer(self, inputs: Inputs) -> tuple[Array, Array | None]:
        """Outputs and values as forward_pass gives them, where no backward pass follows."""

    def backward_pass(self, tape: Any, output_gradients: Array, value_gradients: Array | None) -> None:
        """Overwrites every parameter's gradient, at the weights of the forward pass; the tape can be used once.

        output_gradients: float32 [N, K], value_gradients: float32 [N], the loss's derivatives by outputs and values.
        """
