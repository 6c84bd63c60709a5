"""Fully connected layers in both directions. Pure. Knows torch and numpy; no simulator, no loss, no global generator.

``Trunk.forward`` defines the layers, in torch. What acting and learning run are the same two directions written out in
numpy, held to that definition by the tests: at these sizes torch's cost per operation is most of its time. Acting on
16 observations took a quarter of torch's time, and both directions over 256 samples 0.45 of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from actor.networks.policy import Array

Layers = list[tuple[Array, Array]]  # weight [out, in] and bias [out]


def _tanh(inputs: Array) -> None:
    np.tanh(inputs, out=inputs)


def _tanh_backward(gradients: Array, outputs: Array) -> None:
    local = np.square(outputs)
    np.subtract(1.0, local, out=local)
    gradients *= local


def _relu(inputs: Array) -> None:
    np.maximum(inputs, 0.0, out=inputs)


def _relu_backward(gradients: Array, outputs: Array) -> None:
    gradients *= outputs > 0.0


ACTIVATIONS = {"tanh": (_tanh, _tanh_backward), "relu": (_relu, _relu_backward)}  # both in place


def run_layers(layers: Layers, activation: str, inputs: Array) -> list[Array]:
    """Every layer's output with the inputs first; the last, without activation, is the answer.

    inputs: float32 [N, layers[0] in].
    """
    activate = ACTIVATIONS[activation][0]
    outputs = [inputs]
    for index, (weight, bias) in enumerate(layers):
        if index:
            activate(outputs[-1])
        outputs.append(np.matmul(outputs[-1], weight.T))
        outputs[-1] += bias
    return outputs


def run_back(layers: Layers, gradients: Layers, activation: str, outputs: list[Array], output_gradients: Array) -> None:
    """Overwrites ``gradients`` with the loss's derivatives.

    outputs: what run_layers gave. output_gradients: float32 [N, out], the loss's derivative by the answer.
    """
    step_back = ACTIVATIONS[activation][1]
    ones = np.ones(len(output_gradients), output_gradients.dtype)  # a product with it sums columns faster than np.sum
    for index in range(len(layers) - 1, -1, -1):
        np.matmul(output_gradients.T, outputs[index], out=gradients[index][0])
        np.matmul(ones, output_gradients, out=gradients[index][1])
        if index:
            output_gradients = np.matmul(output_gradients, layers[index][0])
            step_back(output_gradients, outputs[index])


def _pairs(arrays: Sequence[Array]) -> Layers:
    return list(zip(arrays[::2], arrays[1::2], strict=True))


class Trunk(nn.Module):
    """A multilayer perceptron: float32 [N, sizes[0]] -> [N, sizes[-1]], the activation between layers only."""

    def __init__(self, sizes: Sequence[int], activation: str, head_gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.activation = activation
        shapes = list(itertools.pairwise(sizes))
        gains = [math.sqrt(2.0)] * (len(shapes) - 1) + [head_gain]
        for index, ((inputs, outputs), gain) in enumerate(zip(shapes, gains, strict=True)):
            weight = nn.Parameter(torch.empty(outputs, inputs))
            nn.init.orthogonal_(weight, gain, generator)
            self.register_parameter(f"weight{index}", weight)
            self.register_parameter(f"bias{index}", nn.Parameter(torch.zeros(outputs)))
        self._first = next(self.parameters())
        self._layers: Layers = []
        self._gradients: Layers = []
        self._layers_at = self._gradients_at = 0  # address of the first array when the lists were made

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: float32 [N, sizes[0]]."""
        activate = torch.tanh if self.activation == "tanh" else torch.relu
        parameters = list(self.parameters())
        for index in range(0, len(parameters), 2):
            inputs = functional.linear(activate(inputs) if index else inputs, parameters[index], parameters[index + 1])
        return inputs

    def layers(self) -> Layers:
        """The parameters as arrays that share their memory."""
        where = self._first.data_ptr()
        if where != self._layers_at:  # building them costs as much as a small layer, and they move only once
            self._layers = _pairs([parameter.detach().numpy() for parameter in self.parameters()])
            self._layers_at = where
        return self._layers

    def gradients(self) -> Layers:
        """The parameters' ``.grad`` as arrays that share their memory; FlatModule must have put them there."""
        assert self._first.grad is not None
        where = self._first.grad.data_ptr()
        if where != self._gradients_at:
            arrays = [parameter.grad.numpy() for parameter in self.parameters() if parameter.grad is not None]
            self._gradients = _pairs(arrays)
            self._gradients_at = where
        return self._gradients
