"""A policy as a file for other programs, ONNX or TorchScript. Knows torch and files; no simulator, no loss.

The file's one function takes raw observations and holds everything that happens to them: normalisation, hidden numbers,
the network, the best action in the environment's own numbers. It computes in float32. A memory's state goes in and
comes out; before an episode's first step it is zeros. L counts the values of all choices, R the real numbers.

| | name | what |
|---|---|---|
| input | `observation` | float32 `[N, D]`; uint8 `[N, *shape]` for images of bytes |
| input | `state` | float32 `[N, S]`, with a memory |
| input | `mask` | bool `[N, L]`, which values are allowed, where the file was asked for it |
| output | `action` | `[N, *shape]`, of the environment's type |
| output | `action.PATH` | the same for each array of a Dict or Tuple: its names and places, with dots between them |
| output | `logits` | float32 `[N, L]`, of choices; those of several lie side by side; -infinity where not allowed |
| output | `action_values` | likewise, of a value method, in the place of logits |
| output | `mean`, `log_deviation` | float32 `[N, R]`, of a Box of floats; -1 and 1 stand for bounds that are finite |
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
from actor.networks.encoders import Convolutions, ImagesInVectors
from actor.networks.mlp import Perceptrons
from actor.networks.own import OwnNetwork
from actor.networks.policy import Policy
from actor.networks.torch_policy import TorchPolicy
from actor.spaces import ActionArray, Actions, Spaces
from protocol.errors import UserError

EXAMPLES = 2  # rows of what is traced: with one, its size would be taken for fixed
TRIES = (1, 5)  # rows of what a traced network is tried with
AGREES = 1e-4  # of a network traced and the same untraced, in numbers of the order of 1
ONE_WAY = (
    "what it computes depends on the size of the batch or on the numbers in it, by a branch, a loop or len(), and a "
    "file holds one way of it"
)


class Seen(nn.Module):
    """Raw observations as the network gets them: ``ObservationTransform`` in torch. size: D of a vector, else 1."""

    shown: Tensor
    mean: Tensor
    scale: Tensor
    most: Tensor

    def __init__(self, size: int, normalizer: Normalizer | None, hidden: tuple[int, ...]) -> None:
        super().__init__()
        shown = np.ones(size, np.bool_)
        shown[list(hidden)] = False
        mean, scale = np.zeros(size, np.float32), np.ones(size, np.float32)
        most = np.full(size, np.inf, np.float32)
        if normalizer is not None:
            columns = slice(None) if normalizer.columns is None else normalizer.columns
            mean[columns], scale[columns], most[columns] = normalizer.mean, normalizer.scale, NORMAL_CLIP
        self.normalizes, self.hides = normalizer is not None, bool(hidden)
        for name, array in (("shown", shown), ("mean", mean), ("scale", scale), ("most", most)):
            self.register_buffer(name, torch.from_numpy(array))

    def forward(self, raw: Tensor) -> Tensor:
        """raw: float32 [N, D]; images of bytes pass as they are."""
        if self.normalizes:
            raw = torch.minimum(torch.maximum((raw - self.mean) * self.scale, -self.most), self.most)
        return torch.where(self.shown, raw, 0.0) if self.hides else raw


class Multilayer(nn.Module):
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
        return _beside(rows, self.log_deviations), state


def _beside(heads: Tensor, deviations: Tensor | None) -> Tensor:
    """heads: [N, H]. deviations: [R], the same for each row."""
    return heads if deviations is None else torch.cat([heads, deviations.expand(heads.shape[0], -1)], 1)


class PlainConvolutions(nn.Module):
    """``Convolutions`` over images as they are, in float32 and by operations that every program has."""

    def __init__(self, convolutions: Convolutions, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = convolutions.layers
        self.last = len(shape) == 3 and shape[2] < shape[0]  # channels are the shorter end
        self.grey = len(shape) == 2
        self.mean, self.scale = convolutions.pixel_normalization

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, *shape], of any type. Returns float32 [N, width]."""
        planes = images.permute(0, 3, 1, 2) if self.last else images.unsqueeze(1) if self.grey else images
        features = (planes.float() - self.mean) * self.scale
        for layer in self.layers[:-1]:
            features = functional.relu(layer(features))
        return functional.relu(self.layers[-1](features.permute(0, 2, 3, 1).flatten(1)))


class PlainImages(nn.Module):
    """``ImagesInVectors`` in float32: float32 [N, D] -> [N, width]."""

    numbers: Tensor

    def __init__(self, encoder: ImagesInVectors, spaces: Spaces) -> None:
        super().__init__()
        self.parts, self.trunk = spaces.images, encoder.trunk
        pairs = zip(encoder.images, self.parts, strict=True)
        self.images = nn.ModuleList(PlainConvolutions(cast(Convolutions, each), part.shape) for each, part in pairs)
        pixels = {number for part in self.parts for number in range(part.first, part.first + part.size)}
        numbers = [number for number in range(spaces.observation_size) if number not in pixels]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.long))

    def forward(self, rows: Tensor) -> Tensor:
        """rows: float32 [N, D]."""
        features = [
            convolutions(rows[:, part.first : part.first + part.size].reshape(-1, *part.shape))
            for part, convolutions in zip(self.parts, self.images, strict=True)
        ]
        if self.numbers.shape[0]:
            features.append(rows[:, self.numbers])
        joined = torch.cat(features, 1)
        return joined if self.trunk is None else cast(Tensor, self.trunk(joined))


class Users(nn.Module):
    """A user's own network, which sees what ``OwnNetwork`` shows it."""

    def __init__(self, encoder: OwnNetwork, spaces: Spaces) -> None:
        super().__init__()
        self.network, self.parts = encoder.network, spaces.parts
        self.pixels = encoder.pixel_normalization

    def forward(self, rows: Tensor) -> Any:
        """rows: [N, *input_shape]."""
        if rows.dtype == torch.uint8:
            return self.network((rows.float() - self.pixels[0]) * self.pixels[1])
        if not self.parts:
            return self.network(rows)
        seen = {}
        for part in self.parts:
            numbers = rows[:, part.first : part.first + part.size].reshape(-1, *part.shape)
            seen[part.name] = numbers * part.scale if part.scale else numbers
        return self.network(seen.get("", seen))


class Shared(nn.Module):
    """A ``TorchPolicy`` without its value."""

    def __init__(self, network: TorchPolicy, spaces: Spaces) -> None:
        super().__init__()
        self.memory, self.policy, self.log_deviations = network.memory, network.policy, network.log_deviations
        encoder: nn.Module = network.encoder
        if isinstance(encoder, Convolutions):
            encoder = PlainConvolutions(encoder, spaces.observation_shape)
        elif isinstance(encoder, ImagesInVectors):
            encoder = PlainImages(encoder, spaces)
        elif isinstance(encoder, OwnNetwork):
            encoder = Users(encoder, spaces)
        self.encoder = encoder

    def forward(self, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [N, K] and what the memory holds then, [N, S]."""
        features = self.encoder(seen)
        if self.policy is None:  # a whole network: outputs and values
            return features[0], state
        if isinstance(self.memory, nn.LSTMCell):
            hidden, cells = self.memory(features, state.chunk(2, 1))
            features, state = hidden, torch.cat([hidden, cells], 1)
        elif self.memory is not None:
            features = state = self.memory(features, state)
        return _beside(self.policy(features), self.log_deviations), state


class Chosen(nn.Module):
    """Outputs by their names, and the best action as ``ActionConverter`` has it."""

    offset: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, actions: Actions, values: bool) -> None:
        super().__init__()
        self.actions, self.named = actions, "action_values" if values else "logits"
        self.chosen = len(actions.choices)
        whole = ActionArray((), tuple(range(actions.width)), actions.shape, actions.type)
        self.arrays = {_name(array): array for array in actions.arrays or (whole,)}
        if len(self.arrays) < len(actions.arrays):
            raise UserError("parts of actions cannot be told apart in a file: dots in their names make two the same")
        for name in ("offset", "scale", "low", "high"):
            self.register_buffer(name, torch.tensor(getattr(actions, name), dtype=torch.float64))

    def forward(self, outputs: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """outputs: float32 [N, K]. mask: bool [N, L]."""
        found: dict[str, Tensor] = {}
        columns: list[Tensor] = []
        if self.chosen:
            logits = outputs[:, : self.actions.logits]
            found[self.named] = logits if mask is None else torch.where(mask, logits, -torch.inf)
            columns += self._choices(found[self.named])
        if self.actions.low:
            mean, free = outputs[:, self.actions.logits :].chunk(2, 1)
            found |= {"mean": mean, "log_deviation": free.clamp(*LOG_DEVIATIONS)}
            columns += self._numbers(mean)
        return {name: self._array(columns, array) for name, array in self.arrays.items()} | found

    def _choices(self, logits: Tensor) -> list[Tensor]:
        """The chosen values, int64 [N] each, in the environment's numbers."""
        best = [part.argmax(1) for part in torch.split(logits, list(self.actions.choices), 1)]
        return [value + int(offset) for value, offset in zip(best, self.actions.offset, strict=False)]

    def _numbers(self, mean: Tensor) -> list[Tensor]:
        """Real numbers, float64 [N] each, within the bounds, in the environment's numbers."""
        offset, scale = self.offset[self.chosen :], self.scale[self.chosen :]
        bounds = [offset + scale * bound for bound in (self.low, self.high)]
        within = torch.minimum(torch.maximum(mean.double(), self.low), self.high)
        spoken = torch.minimum(torch.maximum(offset + scale * within, bounds[0]), bounds[1])
        return list(spoken.unbind(1))

    @staticmethod
    def _array(columns: list[Tensor], array: ActionArray) -> Tensor:
        numbers = torch.stack([columns[column] for column in array.columns], 1)
        return numbers.to(getattr(torch, np.dtype(array.type).name)).reshape(-1, *array.shape)


def _name(array: ActionArray) -> str:
    return ".".join(["action", *map(str, array.path)])


class Portable(nn.Module):
    """The whole: ``forward`` takes the inputs, in the order of ``examples``, and gives outputs by their names.

    normalizer: of an observation's numbers, None for images of bytes. masks: whether it takes one. Raises UserError
    for what cannot be written.
    """

    def __init__(
        self, settings: ActorSettings, spaces: Spaces, network: Policy, normalizer: Normalizer | None, *, masks: bool
    ) -> None:
        super().__init__()
        pictures = spaces.observation_type == "uint8"
        size = 1 if pictures else spaces.observation_size
        self.seen = Seen(size, normalizer, settings.hidden_observations)
        self.body = _body(network, spaces)
        self.chosen = Chosen(spaces.actions, not settings.traits.stochastic)
        self.requires_grad_(False)
        dtype = torch.uint8 if pictures else torch.float32
        self.examples = {"observation": torch.zeros(EXAMPLES, *spaces.observation_shape, dtype=dtype)}
        if network.state_size:
            self.examples["state"] = torch.zeros(EXAMPLES, network.state_size)
        if masks:
            self.examples["mask"] = torch.ones(EXAMPLES, spaces.actions.logits, dtype=torch.bool)
        self.names = list(self.examples)[1:]

    def forward(self, observation: Tensor, *others: Tensor) -> dict[str, Tensor]:
        """observation, others: as the file's docstring says, in its order."""
        given = dict(zip(self.names, others, strict=True))
        outputs, held = self.body(self.seen(observation), given.get("state", observation))
        found: dict[str, Tensor] = self.chosen(outputs, given.get("mask"))
        return found | {"next_state": held} if "state" in given else found


def _body(network: Policy, spaces: Spaces) -> nn.Module:
    if isinstance(network, Perceptrons):
        return Multilayer(network)
    if isinstance(network, TorchPolicy):
        return Shared(network, spaces)
    raise UserError(f"a network of the class {type(network).__name__} cannot be exported: its file would not be whole")


@torch.no_grad()
def write_onnx(path: Path, portable: Portable, about: Mapping[str, str]) -> None:
    """about: what the file's metadata say beside. Raises UserError where an extra is missing or nothing can be written
    there.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} not installed: pip install 'farflung[onnx]'")
    rows = {0: torch.export.Dim("batch")}
    names, inputs = list(portable(*portable.examples.values())), tuple(portable.examples.values())
    with _quiet():
        try:
            program = torch.onnx.export(
                portable,
                inputs,
                input_names=list(portable.examples),
                dynamic_shapes=(rows, (rows,) * len(portable.names)) if portable.names else (rows,),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            why = str(error.__cause__ or error).strip().partition("\n")[0]
            raise UserError(f"torch cannot write this network as ONNX: {why}") from error
        assert program is not None
        if any(given.shape is None or isinstance(given.shape[0], int) for given in program.model.graph.inputs):
            raise UserError(f"torch cannot write this network as ONNX: {ONE_WAY}")
        _rename(program.model.graph, names)
        program.model.metadata_props.update(about)
        with _writing(path):
            program.save(path, external_data=False)


def _rename(graph: Any, outputs: list[str]) -> None:
    """Gives the graph's outputs their names. Values inside are named after operations, and one may be a ``mean``."""
    taken = {*outputs, *(given.name for given in graph.inputs)}
    for node in graph:
        for value in node.outputs:
            if value.name in taken:
                value.name = f"inner.{value.name}"
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name


@torch.no_grad()
def write_torchscript(path: Path, portable: Portable) -> None:
    """The module gives outputs by their names. Raises UserError where the network cannot be traced, and where nothing
    can be written there.
    """
    with _quiet():
        try:
            traced: Any = torch.jit.trace(portable, tuple(portable.examples.values()), strict=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever torch says of a user's code
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"torch cannot write this network as TorchScript: {why.strip()}") from error
        _try(portable, traced)
        with _writing(path):
            traced.save(str(path))


def _try(portable: Portable, traced: Any) -> None:
    """A trace holds what was computed for one batch. Raises UserError where the network computes something else for
    others.
    """
    generator = torch.Generator().manual_seed(0)
    for count in TRIES:
        inputs = [_drawn(example, count, generator) for example in portable.examples.values()]
        wanted = portable(*inputs)
        try:
            found = traced(*inputs)
        except RuntimeError:
            found = {}
        for name, tensor in wanted.items():
            if name not in found or not torch.allclose(found[name].double(), tensor.double(), rtol=AGREES, atol=AGREES):
                raise UserError(f"torch cannot write this network as TorchScript: {ONE_WAY}")


def _drawn(example: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Like the example, with so many rows, at random."""
    shape = (count, *example.shape[1:])
    if example.dtype == torch.bool:
        return torch.ones(shape, dtype=torch.bool)
    if example.dtype == torch.uint8:
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return torch.randn(shape, generator=generator)


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
