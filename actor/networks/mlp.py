"""``Policy`` of small fully connected networks, in both directions. Pure. Knows numpy; no simulator, no loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actor.config import ActorSettings
from actor.networks.layers import Trunk
from actor.networks.policy import BYTE_SCALE, POLICY_GAIN, VALUE_GAIN, Array, Inputs, State
from actor.spaces import Spaces


class LayerOutputs(NamedTuple):
    """What the backward pass needs of the forward one: every layer's output, of both trunks."""

    policy: list[Array]
    value: list[Array] | None


class Perceptrons:
    """A policy and a value function in separate trunks, so that acting pays for the first alone.

    For a Gaussian policy the trunk gives the means; the log-deviations are parameters of their own.
    """

    def __init__(self, settings: ActorSettings, spaces: Spaces, generator: np.random.Generator) -> None:
        actions = spaces.actions
        self.outputs, self.state_size, self.values_while_acting = actions.outputs, 0, False
        self.has_values, self.input_shape = settings.traits.has_values, spaces.observation_shape
        self.sees_bytes = spaces.observation_type == "uint8"
        self.pixel_normalization = 0.0, BYTE_SCALE
        reals = len(actions.low)
        heads = actions.outputs - reals
        inner = [spaces.observation_size, *settings.hidden]
        gain = POLICY_GAIN if settings.traits.stochastic else VALUE_GAIN
        self.policy = Trunk([*inner, heads], settings.activation, gain, generator)
        self.value = Trunk([*inner, 1], settings.activation, VALUE_GAIN, generator) if self.has_values else None
        self._log_deviations = np.full(reals, settings.log_deviation, np.float32) if reals else None
        self._log_deviation_gradients = np.zeros(reals, np.float32)

    def arrays(self) -> dict[str, Array]:
        """Network.arrays."""
        own = {} if self._log_deviations is None else {"log_deviations": self._log_deviations}
        return own | self.policy.arrays("policy.") | ({} if self.value is None else self.value.arrays("value."))

    def adopt(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Network.adopt."""
        self.policy.adopt("policy.", parameters, gradients)
        if self.value is not None:
            self.value.adopt("value.", parameters, gradients)
        if self._log_deviations is not None:
            self._log_deviations = parameters["log_deviations"]
            self._log_deviation_gradients = gradients["log_deviations"]

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """Policy.set_pixel_normalization."""
        self.pixel_normalization = mean, scale

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Policy.prepare: nothing is to be done."""
        return observations

    def weights_changed(self) -> None:
        """Policy.weights_changed: nothing is kept of them."""

    def act(self, observations: Array, state: State) -> tuple[Array, Array | None]:
        """Policy.act; the values of a whole rollout are one batch at its end."""
        return self._spread(self.policy.forward(self._vectors(observations))[-1]), None

    def values(self, observations: Array, state: State) -> Array:
        """Policy.values."""
        assert self.value is not None
        return self.value.forward(self._vectors(observations))[-1][:, 0]

    def forward_pass(self, inputs: Inputs) -> tuple[Array, Array | None, LayerOutputs]:
        """Policy.forward_pass."""
        rows = self._vectors(inputs.observations)
        policy = self.policy.forward(rows)
        if self.value is None:
            return self._spread(policy[-1]), None, LayerOutputs(policy, None)
        value = self.value.forward(rows)
        return self._spread(policy[-1]), value[-1][:, 0], LayerOutputs(policy, value)

    def infer(self, inputs: Inputs) -> tuple[Array, Array | None]:
        """Policy.infer."""
        return self.forward_pass(inputs)[:2]

    def backward_pass(self, tape: LayerOutputs, output_gradients: Array, value_gradients: Array | None) -> None:
        """Policy.backward_pass."""
        if self._log_deviations is not None:
            heads = output_gradients.shape[1] - len(self._log_deviations)
            np.sum(output_gradients[:, heads:], 0, out=self._log_deviation_gradients)
            output_gradients = output_gradients[:, :heads]
        self.policy.backward(tape.policy, output_gradients)
        if self.value is not None and tape.value is not None and value_gradients is not None:
            self.value.backward(tape.value, value_gradients[:, None])

    def _vectors(self, observations: NDArray[Any]) -> Array:
        """Observations of any shape as float32 [N, D]."""
        rows = observations.reshape(len(observations), -1)
        if not self.sees_bytes:
            return rows
        mean, scale = self.pixel_normalization
        return (rows - np.float32(mean)) * np.float32(scale)

    def _spread(self, heads: Array) -> Array:
        """The trunk's numbers and, for a Gaussian policy, the log-deviations beside each row."""
        if self._log_deviations is None:
            return heads
        deviations = np.broadcast_to(self._log_deviations, (len(heads), len(self._log_deviations)))
        return np.concatenate([heads, deviations], 1)
