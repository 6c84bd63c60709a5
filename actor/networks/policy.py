"""The networks that an experiment can name, behind one face. Pure. Knows sizes and settings; no simulator, no loss.

A policy turns observations into outputs, whose meaning is not its business (``distributions.py``, ``methods.py``), and
into values where the method wants them. Arrays go in and come out; torch stays inside. Small fully connected networks
are numpy in both directions (``layers.py``), everything else is torch's autograd (``networks.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actor.config import ActorSettings
from actor.environments.spaces import Spaces
from actor.networks.flat import FlatModule
from actor.networks.layers import Array, Trunk, run_back, run_layers
from protocol.errors import SettingError
from protocol.frames import MAX_FRAME_BYTES

POLICY_GAIN = 0.01  # an almost uniform first policy: Andrychowicz et al. 2021, section 3.2
VALUE_GAIN = 1.0
BYTE_SCALE = 1.0 / 255.0  # of pixels without statistics
MIN_IMAGE = 36  # pixels on the shorter side that the convolutions of both image networks need

State = NDArray[np.float32]  # [B, S], what a memory holds for each environment; S = 0 without one


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a network sees of a minibatch.

    observations: [N, *seen_shape]; with a memory [T, b, *seen_shape], whole sequences
    state: float32 [b, S], the memory before the first row; starts: bool [T, b], where it is empty. None without one
    """

    observations: NDArray[Any]
    state: State | None = None
    starts: NDArray[np.bool_] | None = None


class Policy(Protocol):
    """One network. K = outputs; S = state_size, 0 without a memory; valued: whether it has a value function.

    values_while_acting: whether ``act`` gives the values too, because they share most of the work.
    seen_shape: of one observation as ``prepare`` makes it, once, for all the times that it is looked at.
    sees_bytes: whether observations are images, which stay bytes until the first layer.
    exposure: (mean, scale) of ``expose``.
    """

    outputs: int
    state_size: int
    valued: bool
    values_while_acting: bool
    seen_shape: tuple[int, ...]
    sees_bytes: bool

    @property
    def exposure(self) -> tuple[float, float]: ...

    def expose(self, mean: float, scale: float) -> None:
        """From now on a byte is seen as (byte − mean) · scale; at first, as a part of 255."""

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """observations: [N, *shape], of the simulators. Returns [N, *seen_shape], of the same type."""

    def begin(self) -> None:
        """The weights have changed: whatever acting keeps of them is made anew."""

    def act(self, observations: NDArray[Any], state: State) -> tuple[Array, Array | None]:
        """observations: [B, *seen_shape]. Returns outputs float32 [B, K] and, if they cost nothing more, values [B].

        state: float32 [B, S], overwritten with what the memory holds afterwards.
        """

    def values(self, observations: NDArray[Any], state: State) -> Array:
        """observations: [N, *seen_shape]. Returns values float32 [N]; state [N, S] stays as it is."""

    def forward_pass(self, inputs: Inputs) -> tuple[Array, Array | None, Any]:
        """Outputs float32 [N, K], values [N] and what backward_pass needs; N = T·b, row by row, with a memory."""

    def backward_pass(self, tape: Any, output_slopes: Array, value_slopes: Array | None) -> None:
        """Overwrites every parameter's ``.grad``, at the weights of the forward pass.

        output_slopes: float32 [N, K], value_slopes: float32 [N], the loss's derivatives by outputs and values.
        """


def build_policy(settings: ActorSettings, spaces: Spaces, seed: int) -> tuple[Policy, FlatModule]:
    """The network of these settings and its flat vectors; its θ₀ follows from the seed. Raises SettingError."""
    _check_size(settings, spaces)
    generator = torch.Generator().manual_seed(seed)
    module: Any
    if settings.network == "mlp" and settings.memory == "none":
        module = Perceptrons(settings, spaces, generator)
    else:
        from actor.networks.torch_policy import TorchPolicy

        module = TorchPolicy(settings, spaces, generator)
    return module, FlatModule(module)


def _check_size(settings: ActorSettings, spaces: Spaces) -> None:
    """Refuses what a network cannot see, and one whose snapshot would not fit a message, before it takes memory."""
    seen, actions = spaces.observation_shape, spaces.actions
    if settings.algorithm != "a3c" and actions.kind != "discrete":
        raise SettingError("actor.algorithm", settings.algorithm, f"a3c: the actions of {settings.env} are no Discrete")
    if settings.network != "mlp":
        sides = sorted(seen)[1:]
        if spaces.observation_type != "uint8" or min(sides) < MIN_IMAGE:
            accepted = f"mlp: {settings.env} shows no image of bytes, at least {MIN_IMAGE} pixels a side"
            raise SettingError("actor.network", settings.network, accepted)
    for name, weights in _weights(settings, spaces):
        if 4 * weights > MAX_FRAME_BYTES:
            value = getattr(settings, name)
            accepted = f"at most {MAX_FRAME_BYTES // 4:,} parameters in all, these have {weights:,}"
            raise SettingError(f"actor.{name}", list(value) if isinstance(value, tuple) else value, accepted)


def _weights(settings: ActorSettings, spaces: Spaces) -> Iterator[tuple[str, int]]:
    """About how many parameters a setting asks for: that of the layers, then that of the memory behind them."""
    if settings.network == "mlp":
        sizes = (spaces.observation_size, *settings.hidden)
        trunks = 2 if settings.memory == "none" and settings.algorithm == "a3c" else 1
        yield "hidden", trunks * sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
        width = sizes[-1]
    else:
        from actor.networks.torch_policy import IMAGE_NETWORKS

        convolutions, width = IMAGE_NETWORKS[settings.network]
        sides = sorted(spaces.observation_shape)[1:]
        for _, kernel, stride in convolutions:
            sides = [(side - kernel) // stride + 1 for side in sides]
        yield "network", math.prod(sides) * convolutions[-1][0] * width
    if settings.memory != "none":
        gates = 4 if settings.memory == "lstm" else 3
        yield "memory_size", gates * settings.memory_size * (width + settings.memory_size)


class Tape(NamedTuple):
    """What the backward pass needs of the forward one: every layer's output, of both trunks."""

    policy: list[Array]
    value: list[Array] | None


class Perceptrons(nn.Module):
    """A policy and a value function in separate trunks, so that acting pays for the first alone.

    For a Gaussian policy the trunk gives the means; the log-deviations are parameters of their own.
    """

    def __init__(self, settings: ActorSettings, spaces: Spaces, generator: torch.Generator) -> None:
        super().__init__()
        actions = spaces.actions
        self.outputs, self.state_size, self.values_while_acting = actions.outputs, 0, False
        self.valued, self.seen_shape = settings.algorithm == "a3c", spaces.observation_shape
        self.sees_bytes = spaces.observation_type == "uint8"
        self.exposure = 0.0, BYTE_SCALE
        gaussian = actions.kind == "box"
        heads = actions.width if gaussian else actions.outputs
        inner = [spaces.observation_size, *settings.hidden]
        gain = POLICY_GAIN if self.valued else VALUE_GAIN
        self.policy = Trunk([*inner, heads], settings.activation, gain, generator)
        self.value = Trunk([*inner, 1], settings.activation, VALUE_GAIN, generator) if self.valued else None
        self.log_deviations = nn.Parameter(torch.full((actions.width,), settings.log_deviation)) if gaussian else None

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """observations: float32 [N, D]. Returns (outputs [N, K], values [N]); the definition that tests hold to."""
        outputs = self.policy.forward(observations)
        if self.log_deviations is not None:
            outputs = torch.cat([outputs, self.log_deviations.expand_as(outputs)], 1)
        return outputs, None if self.value is None else self.value.forward(observations).squeeze(1)

    def expose(self, mean: float, scale: float) -> None:
        """Policy.expose."""
        self.exposure = mean, scale

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Policy.prepare: nothing is to be done."""
        return observations

    def begin(self) -> None:
        """Policy.begin: the arrays share the parameters' memory."""

    def act(self, observations: Array, state: State) -> tuple[Array, Array | None]:
        """Policy.act; the values of a whole rollout are one batch at its end."""
        rows = self._vectors(observations)
        return self._spread(run_layers(self.policy.layers(), self.policy.activation, rows)[-1]), None

    def values(self, observations: Array, state: State) -> Array:
        """Policy.values."""
        assert self.value is not None
        layers = self.value.layers()
        return run_layers(layers, self.value.activation, self._vectors(observations))[-1][:, 0]

    def forward_pass(self, inputs: Inputs) -> tuple[Array, Array | None, Tape]:
        """Policy.forward_pass."""
        rows = self._vectors(inputs.observations)
        policy = run_layers(self.policy.layers(), self.policy.activation, rows)
        if self.value is None:
            return self._spread(policy[-1]), None, Tape(policy, None)
        value = run_layers(self.value.layers(), self.value.activation, rows)
        return self._spread(policy[-1]), value[-1][:, 0], Tape(policy, value)

    def backward_pass(self, tape: Tape, output_slopes: Array, value_slopes: Array | None) -> None:
        """Policy.backward_pass."""
        if self.log_deviations is not None:
            assert self.log_deviations.grad is not None
            heads = output_slopes.shape[1] // 2
            np.sum(output_slopes[:, heads:], 0, out=self.log_deviations.grad.numpy())
            output_slopes = output_slopes[:, :heads]
        _back(self.policy, tape.policy, output_slopes)
        if self.value is not None and tape.value is not None and value_slopes is not None:
            _back(self.value, tape.value, value_slopes[:, None])

    def _vectors(self, observations: NDArray[Any]) -> Array:
        """Observations of any shape as float32 [N, D]."""
        rows = observations.reshape(len(observations), -1)
        if not self.sees_bytes:
            return rows
        mean, scale = self.exposure
        return (rows - np.float32(mean)) * np.float32(scale)

    def _spread(self, heads: Array) -> Array:
        """The trunk's numbers and, for a Gaussian policy, the log-deviations beside each row."""
        if self.log_deviations is None:
            return heads
        beside = np.broadcast_to(self.log_deviations.detach().numpy(), heads.shape)
        return np.concatenate([heads, beside], 1)


def _back(trunk: Trunk, outputs: list[Array], slopes: Array) -> None:
    run_back(trunk.layers(), trunk.gradients(), trunk.activation, outputs, slopes)
