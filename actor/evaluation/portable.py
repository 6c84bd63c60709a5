"""A policy as a file for other programs, ONNX or TorchScript. Knows torch and files; no simulator, no loss.

The file's one function takes raw observations and holds everything that happens to them: normalisation, hidden numbers,
the network, the best action in the environment's own numbers. It computes in float32. A memory's state goes in and
comes out; before an episode's first step it is zeros.

| | name | what |
|---|---|---|
| input | `observation` | float32 `[N, D]`; uint8 `[N, *shape]` for images |
| input | `state` | float32 `[N, S]`, with a memory |
| output | `action` | `[N, *shape]`, of the environment's type |
| output | `logits` | float32 `[N, K]`, of choices; those of several lie side by side |
| output | `action_values` | float32 `[N, K]`, of a value method, in the place of logits |
| output | `mean`, `log_deviation` | float32 `[N, A]`, for a Box; -1 and 1 stand for bounds that are finite |
| output | `next_state` | float32 `[N, S]`, with a memory |
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from actor.algorithms.distributions import LOG_DEVIATIONS
from actor.algorithms.normalization import NORMAL_CLIP, Normalizer
from actor.config import ActorSettings
from actor.networks.encoders import Convolutions
from actor.networks.mlp import Perceptrons
from actor.networks.policy import Policy
from actor.networks.torch_policy import TorchPolicy
from actor.spaces import Actions, Spaces, normalized_size
from protocol.errors import UserError

EXAMPLES = 2  # rows of what is traced: with one, its size would be taken for fixed


class Seen(nn.Module):
    """Raw observations as the network gets them: ``ObservationTransform`` in torch."""

    shown: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, normalizer: Normalizer | None, hidden: tuple[int, ...]) -> None:
        super().__init__()
        shown = np.ones(size, np.bool_)
        shown[list(hidden)] = False
        self.normalizes, self.hides = normalizer is not None, bool(hidden)
        self.register_buffer("shown", torch.from_numpy(shown))
        self.register_buffer("mean", torch.zeros(size) if normalizer is None else torch.from_numpy(normalizer.mean))
        self.register_buffer("scale", torch.ones(size) if normalizer is None else torch.from_numpy(normalizer.scale))

    def forward(self, raw: Tensor) -> Tensor:
        """raw: float32 [N, D]; images pass as they are."""
        if self.normalizes:
            raw = ((raw - self.mean) * self.scale).clamp(-NORMAL_CLIP, NORMAL_CLIP)
        return torch.where(self.shown, raw, 0.0) if self.hides else raw


class Layers(nn.Module):
    """The policy of ``Perceptrons`` in torch; no state, and no value function."""

    def __init__(self, network: Perceptrons) -> None:
        super().__init__()
        trunk = network.policy
        self.activate = torch.tanh if trunk.activation == "tanh" else torch.relu
        self.pixels = network.pixel_normalization if network.sees_bytes else None
        self.weights = nn.ParameterList(torch.from_numpy(weight.copy()) for weight, _ in trunk.layers)
        self.biases = nn.ParameterList(torch.from_numpy(bias.copy()) for _, bias in trunk.layers)
        deviations = network.arrays().get("log_deviations")
        self.log_deviations = None if deviations is None else nn.Parameter(torch.from_numpy(deviations.copy()))

    def forward(self, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [N, K] and the state, as ``Shared``."""
        rows = seen.flatten(1)
        if self.pixels is not None:
            rows = (rows.float() - self.pixels[0]) * self.pixels[1]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = functional.linear(self.activate(rows) if index else rows, weight, bias)
        if self.log_deviations is not None:
            rows = torch.cat([rows, self.log_deviations.expand_as(rows)], 1)
        return rows, state


class PlainConvolutions(nn.Module):
    """``Convolutions`` over images as they are, in float32 and by operations that every program has."""

    def __init__(self, convolutions: Convolutions, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = convolutions.layers
        self.last = shape[2] < shape[0]  # channels are the shorter end
        self.mean, self.scale = convolutions.pixel_normalization

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 [N, *shape]. Returns float32 [N, width]."""
        planes = images.permute(0, 3, 1, 2) if self.last else images
        features = (planes.float() - self.mean) * self.scale
        for layer in self.layers[:-1]:
            features = functional.relu(layer(features))
        return functional.relu(self.layers[-1](features.permute(0, 2, 3, 1).flatten(1)))


class Shared(nn.Module):
    """A ``TorchPolicy`` without its value. Raises UserError where its encoder sees something else than observations."""

    def __init__(self, network: TorchPolicy, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.encoder = network, cast(nn.Module, network.encoder)
        if isinstance(network.encoder, Convolutions):
            self.encoder = PlainConvolutions(network.encoder, shape)
        elif network.input_shape != shape:
            raise UserError(f"a network that begins with {type(self.encoder).__name__} cannot be exported")

    def forward(self, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [N, K] and what the memory holds then, [N, S]."""
        features, state = self.network.recall(self.encoder(seen), state)
        outputs, _ = self.network.heads(features)
        return outputs, state


class Chosen(nn.Module):
    """Outputs by their names, and the best action as ``ActionConverter`` has it."""

    offset: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, actions: Actions, values: bool) -> None:
        super().__init__()
        self.actions, self.values = actions, values
        self.dtype = torch.from_numpy(np.zeros(0, actions.type)).dtype
        for name in ("offset", "scale", "low", "high"):
            self.register_buffer(name, torch.tensor(getattr(actions, name), dtype=torch.float64))

    def forward(self, outputs: Tensor) -> dict[str, Tensor]:
        """outputs: float32 [N, K]."""
        return self._numbers(outputs) if self.actions.kind == "box" else self._choices(outputs)

    def _choices(self, outputs: Tensor) -> dict[str, Tensor]:
        parts = torch.split(outputs, list(self.actions.sizes), 1)
        best = torch.stack([part.argmax(1) for part in parts], 1) + self.offset.to(torch.int64)
        named = "action_values" if self.values else "logits"
        return {"action": self._shaped(best), named: outputs}

    def _numbers(self, outputs: Tensor) -> dict[str, Tensor]:
        mean, free = outputs.chunk(2, 1)
        bounds = [self.offset + self.scale * bound for bound in (self.low, self.high)]
        within = torch.minimum(torch.maximum(mean.double(), self.low), self.high)
        spoken = torch.minimum(torch.maximum(self.offset + self.scale * within, bounds[0]), bounds[1])
        return {"action": self._shaped(spoken), "mean": mean, "log_deviation": free.clamp(*LOG_DEVIATIONS)}

    def _shaped(self, actions: Tensor) -> Tensor:
        return actions.to(self.dtype).reshape(-1, *self.actions.shape)


class Portable(nn.Module):
    """The whole: ``forward(observation)``, or ``forward(observation, state)``, gives outputs by their names."""

    def __init__(self, settings: ActorSettings, spaces: Spaces, network: Policy, normalizer: Normalizer | None) -> None:
        """normalizer: of an observation's numbers, None for images. Raises UserError for what cannot be written."""
        super().__init__()
        if spaces.actions.kind not in ("discrete", "multi_discrete", "box"):
            raise UserError(f"actions of the kind {spaces.actions.kind} cannot be exported")
        self.seen = Seen(normalized_size(settings, spaces), normalizer, settings.hidden_observations)
        self.body = _body(network, spaces.observation_shape)
        self.chosen = Chosen(spaces.actions, not settings.traits.stochastic)
        self.requires_grad_(False)
        self.remembers = network.state_size > 0
        dtype = torch.uint8 if spaces.observation_type == "uint8" else torch.float32
        self.examples = {"observation": torch.zeros(EXAMPLES, *spaces.observation_shape, dtype=dtype)}
        if self.remembers:
            self.examples["state"] = torch.zeros(EXAMPLES, network.state_size)

    def forward(self, observation: Tensor, state: Tensor | None = None) -> dict[str, Tensor]:
        """observation: as the file's docstring says."""
        held = observation.new_zeros(()) if state is None else state
        outputs, held = self.body(self.seen(observation), held)
        found: dict[str, Tensor] = self.chosen(outputs)
        return found | {"next_state": held} if self.remembers else found


def _body(network: Policy, shape: tuple[int, ...]) -> nn.Module:
    if isinstance(network, Perceptrons):
        return Layers(network)
    if isinstance(network, TorchPolicy):
        return Shared(network, shape)
    raise UserError(f"a network of the class {type(network).__name__} cannot be exported: its file would not be whole")


@torch.no_grad()
def write_onnx(path: Path, portable: Portable, about: Mapping[str, str]) -> None:
    """about: what the file's metadata say beside. Raises UserError where an extra is missing or nothing can be written
    there.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} not installed: pip install 'farflung[onnx]'")
    batch = torch.export.Dim("batch")
    names = list(portable(*portable.examples.values()))
    with _quiet():
        try:
            program = torch.onnx.export(
                portable,
                tuple(portable.examples.values()),
                input_names=list(portable.examples),
                output_names=names,
                dynamic_shapes=tuple({0: batch} for _ in portable.examples),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            why = str(error.__cause__ or error).strip().partition("\n")[0]
            raise UserError(f"torch cannot write this network as ONNX: {why}") from error
        assert program is not None
        program.model.metadata_props.update(about)
        with _writing(path):
            program.save(path, external_data=False)


@torch.no_grad()
def write_torchscript(path: Path, portable: Portable) -> None:
    """The module gives outputs by their names. Raises UserError where nothing can be written there."""
    with _quiet():
        traced: Any = torch.jit.trace(portable, tuple(portable.examples.values()), strict=False)  # type: ignore[no-untyped-call]
        with _writing(path):
            traced.save(str(path))


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no directory {path.parent}")
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of its own insides and of torchvision, none of which a caller can change."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
