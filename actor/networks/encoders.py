"""What turns observations into features: convolutions, and layers. Pure. Knows torch; no simulator, no loss.

Convolutions run in bfloat16 where the CPU multiplies it, with channels last: 2.5 to 3.4 times faster than plain
float32. Parameters and their gradients stay float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from actor.config import ActorSettings
from actor.networks.policy import BYTE_SCALE, IMAGE_NETWORKS
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
        self.layers.append(linear(channels * height * width, self.width, math.sqrt(2.0), generator))
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

    def gathered(self, images: Tensor) -> Tensor:
        """What ``prepare`` makes of bytes, of any numbers: [N, H, W, C], channels last -> [N, *input_shape]."""
        rows, columns = self._used
        return _fold(images[:, :rows, :columns], self._folds[0])

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
    """Fully connected layers, the activation behind every one: float32 [N, sizes[0]] -> [N, sizes[-1]].

    norms: whether a LayerNorm stands before each activation (Ba, Kiros and Hinton 2016).
    """

    def __init__(self, sizes: Sequence[int], activation: str, generator: torch.Generator, *, norms: bool) -> None:
        super().__init__()
        self._arrays_each = 4 if norms else 2
        self._activate = torch.tanh if activation == "tanh" else torch.relu
        for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            weight = nn.Parameter(torch.empty(outputs, inputs))
            nn.init.orthogonal_(weight, math.sqrt(2.0), generator)
            self.register_parameter(f"weight{index}", weight)
            self.register_parameter(f"bias{index}", nn.Parameter(torch.zeros(outputs)))
            if norms:
                self.register_parameter(f"norm_weight{index}", nn.Parameter(torch.ones(outputs)))
                self.register_parameter(f"norm_bias{index}", nn.Parameter(torch.zeros(outputs)))

    def forward(self, rows: Tensor) -> Tensor:
        """rows: float32 [N, sizes[0]]."""
        parameters = list(self.parameters())
        for first in range(0, len(parameters), self._arrays_each):
            weight, bias, *norm = parameters[first : first + self._arrays_each]
            rows = functional.linear(rows, weight, bias)
            if norm:
                rows = functional.layer_norm(rows, rows.shape[1:], norm[0], norm[1])
            rows = self._activate(rows)
        return rows


class Layers(nn.Module):
    """Vectors to features through the hidden layers of an mlp, every one with its activation."""

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: Sequence[int],
        activation: str,
        generator: torch.Generator,
        *,
        norms: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = shape
        sizes = [math.prod(shape), *hidden]
        self.trunk = Trunk(sizes, activation, generator, norms=norms) if len(sizes) > 1 else None
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


class ImagesInVectors(nn.Module):
    """Vectors that hold images: convolutions see each image. What they give, with the numbers beside the images, goes
    through the hidden layers of an mlp; without such numbers it is the answer. float32 [N, D] -> [N, width].
    """

    def __init__(
        self, settings: ActorSettings, spaces: Spaces, precision: torch.dtype, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.input_shape, self.pixel_normalization = spaces.observation_shape, (0.0, BYTE_SCALE)
        self._parts = spaces.images
        self.images = nn.ModuleList()
        for part in self._parts:
            last = _last_shape(part.shape)
            convolutions = Convolutions(settings.network, last, precision, generator)
            convolutions.set_pixel_normalization(0.0, part.scale)
            self.images.append(convolutions)
        pixels = {number for part in self._parts for number in range(part.first, part.first + part.size)}
        self._beside = torch.tensor([n for n in range(spaces.observation_size) if n not in pixels], dtype=torch.long)
        sizes = [sum(int(each.width) for each in self._convolutions()) + len(self._beside), *settings.hidden]
        deep = len(self._beside) > 0 and len(sizes) > 1
        self.trunk = Trunk(sizes, settings.activation, generator, norms=False) if deep else None
        self.width = sizes[-1] if deep else sizes[0]

    def _convolutions(self) -> Iterator[Convolutions]:
        for each in self.images:
            assert isinstance(each, Convolutions)
            yield each

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """Policy.set_pixel_normalization: of images that are bytes, and here is none."""
        self.pixel_normalization = mean, scale

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Nothing is to be done."""
        return observations

    def weights_changed(self) -> None:
        """Forgets the converted weights."""
        for each in self._convolutions():
            each.weights_changed()

    def forward(self, rows: Tensor) -> Tensor:
        """rows: float32 [N, D]."""
        features = []
        for part, convolutions in zip(self._parts, self._convolutions(), strict=True):
            image = rows[:, part.first : part.first + part.size].reshape(len(rows), *part.shape)
            if image.ndim == 3:
                image = image.unsqueeze(3)
            elif _channels_first(part.shape):
                image = image.permute(0, 2, 3, 1)
            features.append(convolutions(convolutions.gathered(image)))
        if len(self._beside):
            features.append(rows[:, self._beside])
        joined = torch.cat(features, 1)
        return joined if self.trunk is None else self.trunk(joined)


def _channels_first(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] < shape[2]


def _last_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Height, width, channels."""
    if len(shape) == 2:
        return (*shape, 1)
    return (*shape[1:], shape[0]) if _channels_first(shape) else tuple(shape)


def linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
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
