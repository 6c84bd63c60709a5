"""Networks whose gradients torch takes: convolutions, and memories. Pure. Knows torch; no simulator, no loss.

    observations -> encoder (layers, or convolutions) -> memory, if there is one -> heads: outputs and a value

Convolutions run in bfloat16 where the CPU multiplies it, with channels last: 2.5 to 3.4 times faster than plain
float32. Parameters, their gradients and everything after the encoder stay float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from actor.config import ActorSettings
from actor.networks.policy import BYTE_SCALE, IMAGE_NETWORKS, POLICY_GAIN, VALUE_GAIN, Array, Inputs, State
from actor.spaces import Spaces


def precision_of(setting: str) -> torch.dtype:
    """The type that convolutions run in. ``auto``: bfloat16 where the CPU has instructions for it."""
    if setting == "auto":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if setting == "bf16" else torch.float32


class Convolutions(nn.Module):
    """Images to features: uint8 [N, C, H, W] or [N, H, W, C] -> float32 [N, width], rectified throughout.

    A convolution whose stride divides its kernel is one of stride 1 over pixels gathered in squares of the stride
    (space to depth): the same sums over a deeper, smaller image, which the CPU does in half the time. The first
    gathering moves bytes and is done once for each observation, by ``prepare``.
    """

    def __init__(self, name: str, shape: Sequence[int], precision: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self._precision = precision
        self._last = shape[2] < shape[0]  # channels are the shorter end
        channels, height, width = (shape[2], shape[0], shape[1]) if self._last else tuple(shape)
        convolutions, self.width = IMAGE_NETWORKS[name]
        self.layers = nn.ModuleList()
        self._folds: list[int] = []  # the stride, where the layer gathers squares of it; else 1
        self._strides: list[int] = []  # that is left
        for index, (filters, kernel, stride) in enumerate(convolutions):
            self.layers.append(_convolution(channels, filters, kernel, stride, generator))
            self._folds.append(stride if kernel % stride == 0 else 1)
            self._strides.append(1 if kernel % stride == 0 else stride)
            rows, columns = _used(height, kernel, stride), _used(width, kernel, stride)
            if index == 0:
                self._used = rows, columns
                self.input_shape = (rows // stride, columns // stride, stride * stride * channels)
            channels, height, width = filters, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.layers.append(_linear(channels * height * width, self.width, math.sqrt(2.0), generator))
        self._kept: list[tuple[Tensor, Tensor]] | None = None
        self.pixel_normalization = 0.0, BYTE_SCALE

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """Policy.set_pixel_normalization. Costs nothing: it goes into the first layer's converted weights."""
        self.pixel_normalization, self._kept = (mean, scale), None

    def prepare(self, images: NDArray[Any]) -> NDArray[Any]:
        """[N, *shape] -> [N, *input_shape], bytes gathered in squares of the first stride; see ``_fold_kernel``."""
        count, (rows, columns), fold = len(images), self._used, self._folds[0]
        high, wide = rows // fold, columns // fold
        if self._last:
            squares = images[:, :rows, :columns].reshape(count, high, fold, wide, -1).transpose(0, 1, 3, 2, 4)
        else:  # the bytes of a square's row stay together, as one number
            row = np.dtype(f"V{fold}")
            lines = np.ascontiguousarray(images[:, :, :rows, :columns]).view(row)
            squares = lines.reshape(count, -1, high, fold, wide).transpose(0, 2, 4, 1, 3)
        seen: NDArray[Any] = np.ascontiguousarray(squares).view(np.uint8).reshape(count, *self.input_shape)
        return seen

    def weights_changed(self) -> None:
        """Forgets the converted weights."""
        self._kept = None

    def forward(self, seen: Tensor) -> Tensor:
        """seen: uint8 [N, *input_shape]. Acting converts the weights once after each ``weights_changed``."""
        weights = self._converted() if torch.is_grad_enabled() else self._acting()
        features = seen.to(self._precision)  # [N, rows, columns, depth] throughout
        for index, (weight, bias) in enumerate(weights[:-1]):
            fold = self._folds[index]
            if index and fold > 1:
                size = fold * (features.shape[1] // fold), fold * (features.shape[2] // fold)
                features = _fold(features[:, : size[0], : size[1]], fold)
            planes = functional.conv2d(features.permute(0, 3, 1, 2), weight, bias, self._strides[index])
            features = functional.relu(planes).permute(0, 2, 3, 1)
        weight, bias = weights[-1]
        return functional.relu(functional.linear(features.flatten(1), weight, bias)).float()

    def _acting(self) -> list[tuple[Tensor, Tensor]]:
        if self._kept is None:
            self._kept = self._converted()
        return self._kept

    def _converted(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer, folded as its input is and in the precision of this machine.

        W · (bytes − mean) · scale is (W · scale) · bytes − W · scale · mean. The last layer's columns are already in
        the order of what it sees (rows, columns, depth): to reorder them would cost two passes over θ a gradient.
        """
        parameters: list[Tensor] = list(self.layers.parameters())
        pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
        converted: list[tuple[Tensor, Tensor]] = []
        mean, scale = self.pixel_normalization
        for index, (weight, bias) in enumerate(pairs[:-1]):
            if index == 0:
                weight = weight * scale  # noqa: PLW2901 - the same weight, for bytes
                bias = bias - mean * weight.sum((1, 2, 3))  # noqa: PLW2901
            folded = _fold_kernel(weight, self._folds[index], channels_first=index == 0 and not self._last)
            converted.append((folded.to(self._precision, memory_format=torch.channels_last), bias.to(self._precision)))
        weight, bias = pairs[-1]
        converted.append((weight.to(self._precision), bias.to(self._precision)))
        return converted


def _used(size: int, kernel: int, stride: int) -> int:
    """Pixels of a side that a convolution looks at, as a multiple of its stride where that divides its kernel."""
    return (size - kernel) // stride * stride + kernel


def _fold(planes: Tensor, stride: int) -> Tensor:
    """[N, H, W, C] -> [N, H / stride, W / stride, stride · stride · C]: row in the square, column in it, channel."""
    count, height, width, channels = planes.shape
    squares = planes.reshape(count, height // stride, stride, width // stride, stride, channels)
    return squares.permute(0, 1, 3, 2, 4, 5).reshape(count, height // stride, width // stride, -1)


def _fold_kernel(weight: Tensor, stride: int, *, channels_first: bool) -> Tensor:
    """[O, C, K, K] -> [O, stride · stride · C, K / stride, K / stride].

    The new channels are row in the square, column in it, channel; or, channels first, channel, row, column.
    """
    if stride == 1:
        return weight
    filters, channels, kernel, _ = weight.shape
    cells = kernel // stride
    squares = weight.view(filters, channels, cells, stride, cells, stride)
    order = (0, 1, 3, 5, 2, 4) if channels_first else (0, 3, 5, 1, 2, 4)
    return squares.permute(order).reshape(filters, stride * stride * channels, cells, cells)


class Trunk(nn.Module):
    """Fully connected layers, the activation behind every one: float32 [N, sizes[0]] -> [N, sizes[-1]]."""

    def __init__(self, sizes: Sequence[int], activation: str, generator: torch.Generator) -> None:
        super().__init__()
        self._activate = torch.tanh if activation == "tanh" else torch.relu
        for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            weight = nn.Parameter(torch.empty(outputs, inputs))
            nn.init.orthogonal_(weight, math.sqrt(2.0), generator)
            self.register_parameter(f"weight{index}", weight)
            self.register_parameter(f"bias{index}", nn.Parameter(torch.zeros(outputs)))

    def forward(self, rows: Tensor) -> Tensor:
        """rows: float32 [N, sizes[0]]."""
        parameters = list(self.parameters())
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            rows = self._activate(functional.linear(rows, weight, bias))
        return rows


class Layers(nn.Module):
    """Vectors to features through the hidden layers of an mlp, every one with its activation."""

    def __init__(
        self, shape: tuple[int, ...], hidden: Sequence[int], activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.input_shape = shape
        sizes = [math.prod(shape), *hidden]
        self.trunk = Trunk(sizes, activation, generator) if len(sizes) > 1 else None
        self.width = sizes[-1]
        self.pixel_normalization = 0.0, BYTE_SCALE

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """Policy.set_pixel_normalization."""
        self.pixel_normalization = mean, scale

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Nothing is to be done."""
        return observations

    def weights_changed(self) -> None:
        """Nothing is kept."""

    def forward(self, observations: Tensor) -> Tensor:
        """observations: [N, *shape]."""
        rows = observations.flatten(1)
        rows = (
            (rows.float() - self.pixel_normalization[0]) * self.pixel_normalization[1]
            if rows.dtype == torch.uint8
            else rows
        )
        return rows if self.trunk is None else self.trunk(rows)


class GraphEnds(NamedTuple):
    """The ends of the graph that the backward pass begins at."""

    outputs: Tensor
    values: Tensor | None


class TorchPolicy(nn.Module):
    """``Policy`` by autograd. The encoder and the memory are shared by both heads."""

    def __init__(self, settings: ActorSettings, spaces: Spaces, seed: int) -> None:
        super().__init__()
        generator, actions = torch.Generator().manual_seed(seed), spaces.actions
        self.outputs = actions.outputs
        self.has_values = self.values_while_acting = settings.algorithm == "a3c"
        self.encoder = _encoder(settings, spaces, generator)
        self.input_shape = self.encoder.input_shape
        self.sees_bytes = spaces.observation_type == "uint8"
        width = self.encoder.width
        self.memory: nn.LSTMCell | nn.GRUCell | None = None
        self.state_size = 0
        if settings.memory != "none":
            self.memory = _memory(settings.memory, width, settings.memory_size, generator)
            self.state_size = (2 if settings.memory == "lstm" else 1) * settings.memory_size
            width = settings.memory_size
        gaussian = actions.kind == "box"
        heads = actions.width if gaussian else actions.outputs
        gain = POLICY_GAIN if self.has_values else VALUE_GAIN
        self.policy = _linear(width, heads, gain, generator)
        self.value = _linear(width, 1, VALUE_GAIN, generator) if self.has_values else None
        self.log_deviations = nn.Parameter(torch.full((actions.width,), settings.log_deviation)) if gaussian else None

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
        outputs, values = self.heads(features)
        return outputs.numpy(), None if values is None else values.numpy()

    def values(self, observations: NDArray[Any], state: State) -> Array:
        """Policy.values."""
        _, values = self.act(observations, state.copy())
        assert values is not None
        return values

    def forward_pass(self, inputs: Inputs) -> tuple[Array, Array | None, GraphEnds]:
        """Policy.forward_pass."""
        observations = torch.from_numpy(inputs.observations)
        if self.memory is None:
            outputs, values = self.heads(self.encoder(observations))
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

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs [N, K] and values [N] of features [N, width]."""
        outputs: Tensor = self.policy(features)
        if self.log_deviations is not None:
            outputs = torch.cat([outputs, self.log_deviations.expand_as(outputs)], 1)
        return outputs, None if self.value is None else self.value(features).squeeze(1)

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

    def recall(self, features: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads see of features [N, width], and what the memory holds then, [N, S]; without one, the same."""
        if self.memory is None:
            return features, held
        held = self._remember(features, held)
        return self._read(held), held

    def _remember(self, features: Tensor, held: Tensor) -> Tensor:
        """The state after one row: float32 [B, S]; an lstm's is its hidden numbers, then its cells."""
        if isinstance(self.memory, nn.LSTMCell):
            hidden, cells = held.chunk(2, 1)
            return torch.cat(self.memory(features, (hidden, cells)), 1)
        assert self.memory is not None
        return torch.as_tensor(self.memory(features, held))

    def _read(self, held: Tensor) -> Tensor:
        return held.chunk(2, 1)[0] if isinstance(self.memory, nn.LSTMCell) else held


def _encoder(settings: ActorSettings, spaces: Spaces, generator: torch.Generator) -> Convolutions | Layers:
    if settings.network == "mlp":
        return Layers(spaces.observation_shape, settings.hidden, settings.activation, generator)
    precision = precision_of(settings.precision)
    return Convolutions(settings.network, spaces.observation_shape, precision, generator)


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


def _linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    _orthogonal(layer, gain, generator)
    return layer


def _convolution(inputs: int, filters: int, kernel: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inputs, filters, kernel, stride)  # type: ignore[no-untyped-call]
    _orthogonal(layer, math.sqrt(2.0), generator)
    return layer


def _orthogonal(layer: nn.Linear | nn.Conv2d, gain: float, generator: torch.Generator) -> None:
    assert layer.bias is not None
    nn.init.orthogonal_(layer.weight, gain, generator)
    nn.init.zeros_(layer.bias)
