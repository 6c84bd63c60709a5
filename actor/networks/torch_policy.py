"""Networks whose gradients torch takes: convolutions, memories, and users' own. Knows torch; no simulator, no loss.

    observations -> encoder (layers, convolutions, or a user's) -> memory, if there is one -> heads: outputs and a value

A user's network may also be the whole of it. Everything after the encoder is float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actor.config import ActorSettings
from actor.networks.contract import Factory
from actor.networks.encoders import Convolutions, ImagesInVectors, Layers, linear, precision_of
from actor.networks.own import OwnNetwork
from actor.networks.policy import POLICY_GAIN, VALUE_GAIN, Array, Inputs, State
from actor.spaces import Spaces


class GraphEnds(NamedTuple):
    """The ends of the graph that the backward pass begins at."""

    outputs: Tensor
    values: Tensor | None


class TorchPolicy(nn.Module):
    """``Policy`` by autograd. Both heads share the encoder and the memory; those of an mlp without one have their own.

    factory: what makes a user's own network. Raises what ``OwnNetwork`` raises.
    """

    def __init__(self, settings: ActorSettings, spaces: Spaces, seed: int, factory: Factory | None = None) -> None:
        super().__init__()
        generator, actions = torch.Generator().manual_seed(seed), spaces.actions
        self.outputs = actions.outputs
        self.has_values = self.values_while_acting = settings.traits.has_values
        self.encoder = _encoder(settings, spaces, generator, factory and OwnNetwork(factory, settings, spaces, seed))
        self.input_shape = self.encoder.input_shape
        self.sees_bytes = spaces.observation_type == "uint8"
        width = self.encoder.width
        self.value_encoder: Layers | None = None
        if settings.network == "mlp" and settings.memory == "none" and self.has_values and not settings.shared_trunk:
            self.value_encoder, self.values_while_acting = _layers(settings, spaces, generator), False
        self.memory: nn.LSTMCell | nn.GRUCell | None = None
        self.policy: nn.Linear | None = None
        self.value: nn.Linear | None = None
        self.log_deviations: nn.Parameter | None = None
        self.state_size = 0
        if not width:  # a whole network, with heads of its own
            return
        if settings.memory != "none":
            self.memory = _memory(settings.memory, width, settings.memory_size, generator)
            self.state_size = (2 if settings.memory == "lstm" else 1) * settings.memory_size
            width = settings.memory_size
        reals = len(actions.low)
        heads = actions.outputs - reals
        gain = POLICY_GAIN if settings.traits.stochastic else VALUE_GAIN
        self.policy = linear(width, heads, gain, generator)
        self.value = linear(width, 1, VALUE_GAIN, generator) if self.has_values else None
        if reals:
            self.log_deviations = nn.Parameter(torch.full((reals,), settings.log_deviation))

    def arrays(self) -> dict[str, Array]:
        """Policy.arrays."""
        return {name: parameter.detach().numpy() for name, parameter in self.named_parameters()}

    def adopt(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Policy.adopt."""
        for name, parameter in self.named_parameters():
            parameter.data, parameter.grad = torch.from_numpy(parameters[name]), torch.from_numpy(gradients[name])

    @property
    def pixel_normalization(self) -> tuple[float, float]:
        """Policy.pixel_normalization."""
        return self.encoder.pixel_normalization

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """Policy.set_pixel_normalization."""
        self.encoder.set_pixel_normalization(mean, scale)
        if self.value_encoder is not None:
            self.value_encoder.set_pixel_normalization(mean, scale)

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Policy.prepare."""
        return self.encoder.prepare(observations)

    def weights_changed(self) -> None:
        """Policy.weights_changed."""
        self.encoder.weights_changed()

    @torch.no_grad()
    def act(self, observations: NDArray[Any], state: State) -> tuple[Array, Array | None]:
        """Policy.act."""
        features = self.encoder(torch.from_numpy(observations))
        if self.memory is not None:
            held = self._remember(features, torch.from_numpy(state))
            state[...] = held.numpy()
            features = self._read(held)
        if self.value_encoder is not None:  # the values of a whole rollout are one batch at its end
            return self._outputs(features).numpy(), None
        outputs, values = self.heads(features)
        return outputs.numpy(), None if values is None else values.numpy()

    @torch.no_grad()
    def values(self, observations: NDArray[Any], state: State) -> Array:
        """Policy.values."""
        if self.value_encoder is not None:
            assert self.value is not None
            valued: Tensor = self.value(self.value_encoder(torch.from_numpy(observations)))
            return valued.squeeze(1).numpy()
        _, values = self.act(observations, state.copy())
        assert values is not None
        return values

    def forward_pass(self, inputs: Inputs) -> tuple[Array, Array | None, GraphEnds]:
        """Policy.forward_pass."""
        observations = torch.from_numpy(inputs.observations)
        if self.memory is None:
            apart = None if self.value_encoder is None else self.value_encoder(observations)
            outputs, values = self.heads(self.encoder(observations), apart)
        else:
            outputs, values = self.heads(self._sequence(observations, inputs))
        tape = GraphEnds(outputs, values)
        return outputs.detach().numpy(), None if values is None else values.detach().numpy(), tape

    @torch.no_grad()
    def infer(self, inputs: Inputs) -> tuple[Array, Array | None]:
        """Policy.infer."""
        return self.forward_pass(inputs)[:2]

    def backward_pass(self, tape: GraphEnds, output_gradients: Array, value_gradients: Array | None) -> None:
        """Policy.backward_pass."""
        for parameter in self.parameters():
            assert parameter.grad is not None  # what adopt put there, which must stay
            parameter.grad.zero_()
        ends, end_gradients = [tape.outputs], [torch.from_numpy(output_gradients)]
        if tape.values is not None and value_gradients is not None:
            ends.append(tape.values)
            end_gradients.append(torch.from_numpy(value_gradients))
        torch.autograd.backward(ends, end_gradients)

    def heads(self, features: Any, value_features: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Outputs [N, K] and values [N] of features [N, width]; a whole network has given them already.

        value_features: of the value function, where it has an encoder of its own.
        """
        if self.policy is None:
            outputs, values = features
            return outputs, values
        outputs = self._outputs(features)
        if self.value is None:
            return outputs, None
        return outputs, self.value(features if value_features is None else value_features).squeeze(1)

    def _outputs(self, features: Tensor) -> Tensor:
        assert self.policy is not None
        outputs: Tensor = self.policy(features)
        if self.log_deviations is not None:
            outputs = torch.cat([outputs, self.log_deviations.expand(len(outputs), -1)], 1)
        return outputs

    def _sequence(self, observations: Tensor, inputs: Inputs) -> Tensor:
        """Features [T·b, width] of whole sequences, the memory emptied where an episode starts."""
        assert inputs.state is not None
        assert inputs.starts is not None
        features = self.encoder(observations.flatten(0, 1)).unflatten(0, observations.shape[:2])
        held = torch.from_numpy(inputs.state)
        keep = torch.from_numpy(~inputs.starts).float().unsqueeze(2)
        read = []
        for t in range(len(features)):
            held = self._remember(features[t], held * keep[t])
            read.append(self._read(held))
        return torch.cat(read)

    def _remember(self, features: Tensor, held: Tensor) -> Tensor:
        """The state after one row: float32 [B, S]; an lstm's is its hidden numbers, then its cells."""
        if isinstance(self.memory, nn.LSTMCell):
            hidden, cells = held.chunk(2, 1)
            return torch.cat(self.memory(features, (hidden, cells)), 1)
        assert self.memory is not None
        return torch.as_tensor(self.memory(features, held))

    def _read(self, held: Tensor) -> Tensor:
        return held.chunk(2, 1)[0] if isinstance(self.memory, nn.LSTMCell) else held


def _encoder(
    settings: ActorSettings, spaces: Spaces, generator: torch.Generator, own: OwnNetwork | None
) -> Convolutions | ImagesInVectors | Layers | OwnNetwork:
    if own is not None:
        return own
    if settings.network == "mlp":
        return _layers(settings, spaces, generator)
    precision = precision_of(settings.precision)
    if spaces.images:
        return ImagesInVectors(settings, spaces, precision, generator)
    return Convolutions(settings.network, spaces.observation_shape, precision, generator)


def _layers(settings: ActorSettings, spaces: Spaces, generator: torch.Generator) -> Layers:
    shape, hidden, norms = spaces.observation_shape, settings.hidden, settings.layer_norm
    return Layers(shape, hidden, settings.activation, generator, norms=norms)


def _memory(name: str, inputs: int, size: int, generator: torch.Generator) -> nn.LSTMCell | nn.GRUCell:
    """Recurrent weights orthogonal gate by gate, so that what is remembered neither grows nor fades at first."""
    kind = nn.LSTMCell if name == "lstm" else nn.GRUCell
    cell: nn.LSTMCell | nn.GRUCell = nn.utils.skip_init(kind, inputs, size)  # type: ignore[no-untyped-call]
    for matrix in (cell.weight_ih, cell.weight_hh):
        for gate in torch.split(matrix.data, size):
            nn.init.orthogonal_(gate, 1.0, generator)
    for bias in (cell.bias_ih, cell.bias_hh):
        nn.init.zeros_(bias)
    return cell
