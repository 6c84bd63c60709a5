"""A network of a user's own: made from the run's seed, and looked at once before it is used. Knows torch and its maker.

Two small batches tell which of the two forms it has, and whether it is what the rest relies on: numbers that are
finite, the same for the same observations, whose gradient reaches every parameter. docs/networks.md is the contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actor.config import ActorSettings
from actor.networks.contract import Factory, NetworkSpec, spec_of
from actor.networks.policy import BYTE_SCALE
from actor.spaces import Spaces
from protocol.errors import SettingError
from protocol.frames import MAX_FRAME_BYTES
from protocol.layout import MAX_ENTRIES
from protocol.process.modules import raised

LOOKS = (1, 3)  # rows of the batches that it is looked at with
ALIKE = 1e-3  # by which sums in another order may differ, of a number and beside it
Seen = Tensor | dict[str, Tensor]


class OwnNetwork(nn.Module):
    """A user's network in the place of an encoder. whole: whether it has heads of its own. width: of features, else 0.

    Raises SettingError for one that is not what docs/networks.md asks for.
    """

    def __init__(self, factory: Factory, settings: ActorSettings, spaces: Spaces, seed: int) -> None:
        super().__init__()
        self._parts, self.input_shape = spaces.parts, spaces.observation_shape
        self._planes = len(self.input_shape) == 3 and self.input_shape[0] < self.input_shape[2]
        self.pixel_normalization = 0.0, BYTE_SCALE
        spec = spec_of(settings, spaces)
        with torch.random.fork_rng(devices=[]):  # what others draw does not depend on it
            torch.default_generator.manual_seed(seed)
            self.network = _made(factory, spec, settings)
            look = _Look(self, spec, settings)
            self.width = look.width
        self.whole = not self.width
        if self.whole and settings.memory != "none":
            heads = f"{settings.network} gives outputs and values itself, and a memory goes between features and heads"
            raise SettingError("actor.memory", settings.memory, f"must be 'none': {heads}")

    def set_pixel_normalization(self, mean: float, scale: float) -> None:
        """Policy.set_pixel_normalization."""
        self.pixel_normalization = mean, scale

    def prepare(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Nothing is to be done."""
        return observations

    def weights_changed(self) -> None:
        """Nothing is kept."""

    def seen(self, rows: Tensor) -> Seen:
        """Observations as the user's network gets them: float32 [N, *shape], or by the names of their parts.

        rows: [N, *input_shape].
        """
        if rows.dtype == torch.uint8:
            mean, scale = self.pixel_normalization
            # In place, since an image is large and fresh memory dear. Where a gradient follows, channels lie last in
            # memory, the shape as it was: the way back through convolutions then takes half as long.
            lie = torch.channels_last if self._planes and torch.is_grad_enabled() else torch.preserve_format
            return rows.to(torch.float32, memory_format=lie).sub_(mean).mul_(scale)
        if not self._parts:
            return rows
        parts = {}
        for part in self._parts:
            numbers = rows[:, part.first : part.first + part.size].reshape(len(rows), *part.shape)
            parts[part.name] = numbers * part.scale if part.scale else numbers
        return parts.get("", parts)

    def forward(self, rows: Tensor) -> Any:
        """What the user's network gives: features [N, width], or outputs [N, K] and values [N]."""
        return self.network(self.seen(rows))


def _made(factory: Factory, spec: NetworkSpec, settings: ActorSettings) -> nn.Module:
    try:
        network = factory(spec, **settings.network_options)
    except Exception as error:  # whatever a user's code does
        options = f" with {settings.network_options}" if settings.network_options else ""
        raise SettingError("actor.network", settings.network, f"making it{options} {raised(error)}") from error
    if not isinstance(network, nn.Module):
        said = f"must make a torch.nn.Module, and made {_described(network)}"
        raise SettingError("actor.network", settings.network, said)
    return network


class _Look:
    """One look at a network. width: of the features of an encoder; 0 for a whole network. Raises SettingError."""

    def __init__(self, own: OwnNetwork, spec: NetworkSpec, settings: ActorSettings) -> None:
        self._own, self._network, self._spec, self._name = own, own.network, spec, settings.network
        self._check_buffers()
        (self.width, *others), (alone, beside) = zip(*map(self._look, LOOKS), strict=True)
        if others != [self.width]:
            self._refuse(f"gives features of another width for another number of observations: {[self.width, *others]}")
        if any(not torch.allclose(one[:1], many[:1], ALIKE, ALIKE) for one, many in zip(alone, beside, strict=True)):
            self._refuse(
                "gives an observation other numbers beside others than alone: rows of a batch must not see each other "
                "(layers of transformers need batch_first=True, and BatchNorm is none for this)"
            )
        self._check_size()

    def _refuse(self, why: str) -> NoReturn:
        raise SettingError("actor.network", self._name, f"its network {why}")

    def _check_buffers(self) -> None:
        held = self._network.state_dict(keep_vars=True)  # without what is said not to last
        for name, buffer in self._network.named_buffers():
            if name in held and buffer.is_floating_point():
                self._refuse(
                    f"has the buffer {name}, which no actor would send: actors send gradients of parameters and "
                    "nothing else, so use layers without running statistics (LayerNorm, GroupNorm), and "
                    "register_buffer(..., persistent=False) for a constant"
                )

    def _look(self, count: int) -> tuple[int, list[Tensor]]:
        """With so many rows, the first of which is always the same. Returns the width of the features, 0 for a whole
        network, and what it gave.
        """
        drawn = np.random.default_rng(0).random((count, *self._own.input_shape), np.float32)
        kept = {name: buffer.clone() for name, buffer in self._network.named_buffers()}
        answer, again = self._forward(drawn), self._forward(drawn)
        self._check_parameters()
        ends = self._ends(answer, count)
        if any(not torch.equal(end, twin) for end, twin in zip(ends, self._ends(again, count), strict=True)):
            self._refuse(
                "gives other numbers for the same observations when it is asked again; dropout, noise and what a "
                "module remembers from call to call cannot be learnt from twice"
            )
        if any(not torch.equal(buffer, kept[name]) for name, buffer in self._network.named_buffers() if name in kept):
            self._refuse("changes a buffer in forward, which no actor would send")
        self._check_gradient(ends)
        return 0 if isinstance(answer, tuple) else int(answer.shape[1]), [end.detach() for end in ends]

    def _forward(self, drawn: NDArray[np.float32]) -> Any:
        rows = torch.from_numpy(drawn.copy())
        seen = self._own.seen(rows)
        before = {name: part.clone() for name, part in _parts(seen)}
        try:
            answer = self._network(seen)
        except Exception as error:  # whatever a user's code does
            raise SettingError(
                "actor.network", self._name, f"its forward of {_described(seen)} {raised(error)}"
            ) from error
        if any(not torch.equal(part, before[name]) for name, part in _parts(seen)):
            self._refuse("changes its observations in place, which are the actor's; work on a copy")
        return answer

    def _ends(self, answer: Any, count: int) -> list[Tensor]:
        """What the gradient begins at. Raises SettingError where the answer is not of one of the two forms."""
        outputs, spec = self._spec.outputs, self._spec
        if isinstance(answer, Tensor):
            if answer.ndim != 2 or len(answer) != count or not answer.shape[1]:
                self._misses(f"features float32 [{count}, W]", answer)
            return self._checked("features", answer)
        wanted = f"outputs float32 [{count}, {outputs}] and {f'values float32 [{count}]' if spec.values else 'None'}"
        if not isinstance(answer, tuple) or len(answer) != 2:
            self._misses(f"features float32 [{count}, W], or a pair: {wanted}", answer)
        first, values = answer
        if not isinstance(first, Tensor) or first.shape != (count, outputs):
            self._misses(f"a pair: {wanted}", answer)
        if (values is not None) if not spec.values else not isinstance(values, Tensor) or values.shape != (count,):
            self._misses(f"a pair: {wanted}", answer)
        return self._checked("outputs", first) + ([] if values is None else self._checked("values", values))

    def _misses(self, expected: str, answer: object) -> NoReturn:
        self._refuse(f"must give {expected}, and gives {_described(answer)}")

    def _checked(self, what: str, end: Tensor) -> list[Tensor]:
        if end.dtype != torch.float32 or end.device.type != "cpu":
            self._misses(f"{what} in float32 on the CPU", end)
        if not bool(torch.isfinite(end).all()):
            self._refuse(f"gives {what} that are not finite for observations between 0 and 1")
        if not end.requires_grad:
            self._refuse(f"gives {what} without a gradient; is something detached, or under no_grad?")
        return [end]

    def _check_parameters(self) -> None:
        """After the first forward pass, which makes those of lazy modules."""
        found = list(self._network.named_parameters())
        if not found:
            self._refuse("has no parameters to learn")
        for name, parameter in found:
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                self._refuse(f"has the parameter {name} of {_described(parameter)}; all must be float32 on the CPU")
            if not parameter.numel() or len(name) > MOST_LETTERS:
                self._refuse(f"has the parameter {name[:80]} of {_described(parameter)}, which no layout can hold")
        frozen = [name for name, parameter in found if not parameter.requires_grad]
        if frozen:
            self._refuse(
                f"holds still {_listed(frozen)} (requires_grad is false): what nobody learns is no parameter; keep it "
                "by register_buffer(..., persistent=False)"
            )
        if len(found) > MAX_ENTRIES - HEADS:
            self._refuse(f"has {len(found):,} parameter arrays; at most {MAX_ENTRIES - HEADS:,} fit a layout")

    def _check_size(self) -> None:
        """Once it is known that there are parameters."""
        count = sum(parameter.numel() for parameter in self._network.parameters())
        if 4 * count > MAX_FRAME_BYTES:
            self._refuse(f"has {count:,} parameters; at most {MAX_FRAME_BYTES // 4:,} fit a message")

    def _check_gradient(self, ends: list[Tensor]) -> None:
        """Of a sum whose derivative by every number of the ends is another."""
        names, parameters = zip(*self._network.named_parameters(), strict=True)
        slopes = [torch.linspace(0.5, 1.5, end.numel()).reshape(end.shape) for end in ends]
        found = torch.autograd.grad(ends, parameters, slopes, allow_unused=True)
        unused = [name for name, gradient in zip(names, found, strict=True) if gradient is None]
        if unused:
            self._refuse(f"has parameters that no gradient reaches, since forward does not use them: {_listed(unused)}")
        for name, gradient in zip(names, found, strict=True):
            if not bool(torch.isfinite(gradient).all()):
                self._refuse(f"has a gradient by {name} that is not finite")


MOST_LETTERS = 150  # of a parameter's name; a layout holds 200, and ours begins before it
HEADS = 16  # arrays that come to a user's own, at most: heads and a memory
SHOWN = 5  # names in one sentence


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _parts(seen: Seen) -> Iterator[tuple[str, Tensor]]:
    yield from seen.items() if isinstance(seen, dict) else [("", seen)]


def _described(value: object) -> str:
    """Type and shape, never the numbers."""
    if isinstance(value, Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device.type}"
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{where}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_described(part)}' for name, part in value.items())}}}"
    if isinstance(value, tuple | list) and value:
        return f"{type(value).__name__} of {', '.join(map(_described, value[:3]))}"
    return "None" if value is None else type(value).__name__
