"""The way between Gymnasium's spaces and a network's arrays. Pure. Knows Gymnasium's spaces; no registry.

A network sees one array and gives one array. Images (Box of uint8 with three axes) stay as they are; every other
observation becomes one float32 vector: a Box is flattened, Discrete and MultiDiscrete are one-hot, Dict and Tuple are
the concatenation of their parts, in the order of ``gymnasium.spaces.utils.flatten``. Actions are numbers from 0, or for
a Box the numbers that the policy draws: along an axis with two finite bounds -1 and 1 stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from actor.spaces import Actions, Spaces
from protocol.errors import SettingError, UserError


def spaces_of(env_id: str, observations: Space[Any], actions: Space[Any]) -> Spaces:
    """Raises SettingError naming the space that no network here can see or choose from."""
    if _is_image(observations):
        assert observations.shape is not None
        shape = tuple(int(size) for size in observations.shape)
        return Spaces(shape, "uint8", _actions(env_id, actions))
    width, actions_ = _width(env_id, observations), _actions(env_id, actions)
    return Spaces((width,), "float32", actions_, tuple(_choices(observations)))


def _is_image(space: Space[Any]) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _width(env_id: str, space: Space[Any]) -> int:
    """Numbers in the vector that an observation becomes."""
    if isinstance(space, Box | MultiBinary):
        return math.prod(space.shape)
    if isinstance(space, Discrete):
        return int(space.n)
    if isinstance(space, MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, Dict):
        return sum(_width(env_id, part) for part in space.spaces.values())
    if isinstance(space, Tuple):
        return sum(_width(env_id, part) for part in space.spaces)
    kinds = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these"
    raise SettingError("actor.env", env_id, f"observations must be {kinds}, and these hold {space}")


def _choices(space: Space[Any], first: int = 0) -> list[tuple[int, int]]:
    """Spaces.choices; first: where the space's numbers begin."""
    if isinstance(space, Dict | Tuple):
        found = []
        for part in space.spaces.values() if isinstance(space, Dict) else space.spaces:
            found += _choices(part, first)
            first += _width("", part)
        return found
    return [] if isinstance(space, Box) else [(first, _width("", space))]


def _actions(env_id: str, space: Space[Any]) -> Actions:
    if isinstance(space, Discrete):
        return Actions("discrete", (int(space.n),), (float(space.start),), (1.0,), type=str(space.dtype))
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
        sizes = tuple(int(n) for n in space.nvec)
        start = tuple(float(first) for first in space.start)
        ones = (1.0,) * len(sizes)
        return Actions("multi_discrete", sizes, start, ones, shape=space.shape, type=str(space.dtype))
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        return _box_actions(space)
    kinds = "Discrete, MultiDiscrete or a Box of floats"
    raise SettingError("actor.env", env_id, f"actions must be {kinds}, and these are {space}")


def _box_actions(space: Box) -> Actions:
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    both = np.isfinite(low) & np.isfinite(high) & (high > low)
    floor, roof = np.where(both, low, 0.0) / 2.0, np.where(both, high, 0.0) / 2.0  # halved first: no overflow
    offset, scale = floor + roof, np.where(both, roof - floor, 1.0)
    step = 2.0 * np.spacing(np.maximum(np.abs(floor), np.abs(roof)))
    while (outside := both & ((offset + scale > high) | (offset - scale < low))).any():
        scale = np.where(outside, scale - step, scale)  # inside by a rounding error rather than outside by one
    return Actions(
        kind="box",
        sizes=(1,) * len(low),
        offset=tuple(offset.tolist()),
        scale=tuple(scale.tolist()),
        low=tuple(np.where(both, -1.0, low).tolist()),
        high=tuple(np.where(both, 1.0, high).tolist()),
        shape=space.shape,
        type=str(space.dtype),
    )


class ActionConverter:
    """From a policy's actions to a simulator's. chosen: int64 or float32 [B, width]."""

    def __init__(self, actions: Actions) -> None:
        self._actions, self._type = actions, np.dtype(actions.type)
        self._offset, self._scale = np.array(actions.offset), np.array(actions.scale)
        self._plain = actions.kind == "discrete" and not self._offset.any() and self._type == np.int64
        if actions.kind == "box":
            self._low, self._high = (self._offset + self._scale * np.array(b) for b in (actions.low, actions.high))

    def __call__(self, chosen: NDArray[Any]) -> NDArray[Any]:
        """The simulators' actions, [B, *shape]; along a bounded axis never outside the bounds, not even by rounding."""
        if self._plain:
            return chosen[:, 0]
        spoken = self._offset + self._scale * chosen
        if self._actions.kind == "box":
            np.clip(spoken, self._low, self._high, out=spoken)
        converted: NDArray[Any] = spoken.astype(self._type).reshape(len(chosen), *self._actions.shape)
        return converted


def first_of(converted: Any) -> Any:
    """The first action of a batch of them, in the environment's own form."""
    if isinstance(converted, dict):
        return {name: first_of(part) for name, part in converted.items()}
    return tuple(map(first_of, converted)) if isinstance(converted, tuple) else converted[0]


class ObservationConverter:
    """From observations as an environment gives them to what a network sees. Unlike ``flatten`` it checks them: they
    come from programs of other people.
    """

    def __init__(self, space: Space[Any]) -> None:
        self.space = space

    def one(self, observed: Any) -> NDArray[Any]:
        """One observation as a batch of one, [1, *shape]. Raises UserError saying what does not fit."""
        for place, space, part in _leaves(self.space, observed):
            _check(place, space, part, ())
        return flatten_one(self.space, observed)[None]

    def batch(self, observed: Any) -> NDArray[Any]:
        """Observations of B environments as Gymnasium's vectors give them, [B, *shape]. Raises UserError likewise."""
        leaves = list(_leaves(self.space, observed))
        count = len(leaves[0][2]) if leaves[0][2].ndim else 0
        if not count:
            raise UserError("batch=True takes the observations of one environment or more, and these are none")
        for place, space, part in leaves:
            _check(place, space, part, (count,))
        return flatten(self.space, observed, count)


def _leaves(space: Space[Any], observed: Any, place: str = "observation") -> Iterator[tuple[str, Space[Any], Any]]:
    """(where it is, its space, the array) of each part of an observation. Raises UserError where one is missing."""
    if isinstance(space, Dict):
        if not isinstance(observed, Mapping) or not space.spaces.keys() <= observed.keys():
            raise UserError(f"{place} must be a dict with {', '.join(map(repr, space.spaces))}, not {_short(observed)}")
        for name, inner in space.spaces.items():
            yield from _leaves(inner, observed[name], f"{place}[{name!r}]")
    elif isinstance(space, Tuple):
        if not isinstance(observed, tuple | list) or len(observed) != len(space.spaces):
            raise UserError(f"{place} must be a tuple of {len(space.spaces)}, not {_short(observed)}")
        for index, (inner, seen) in enumerate(zip(space.spaces, observed, strict=True)):
            yield from _leaves(inner, seen, f"{place}[{index}]")
    else:
        try:
            yield place, space, np.asarray(observed)
        except ValueError:
            raise UserError(f"{place} must be one array, not {_short(observed)}") from None


def _check(place: str, space: Space[Any], part: NDArray[Any], lead: tuple[int, ...]) -> None:
    assert space.shape is not None
    if part.shape != (expected := (*lead, *space.shape)):
        raise UserError(f"{place} must have the shape {list(expected)}, and it has {list(part.shape)}")
    if part.dtype.kind not in "biuf" or (_is_image(space) and part.dtype != np.uint8):
        raise UserError(f"{place} must hold numbers of the type {space.dtype}, and it holds {part.dtype}")
    if isinstance(space, Discrete | MultiDiscrete):
        sizes = space.n if isinstance(space, Discrete) else space.nvec
        if part.dtype.kind == "f" or not ((part >= space.start) & (part < space.start + sizes)).all():
            raise UserError(f"{place} must be one of the numbers of {space}, not {_short(part)}")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def flatten(space: Space[Any], observed: Any, count: int) -> NDArray[Any]:
    """A batch of ``count`` observations of ``space`` as float32 [count, D], or as it stands for images."""
    if _is_image(space):
        images: NDArray[Any] = np.asarray(observed)
        return images
    if isinstance(space, Box):  # nearly all of them, without a copy where they are float32 already
        rows: NDArray[Any] = np.asarray(observed, np.float32).reshape(count, -1)
        return rows
    return np.concatenate(list(_parts(space, observed, count)), 1)


def flatten_one(space: Space[Any], observed: Any) -> NDArray[Any]:
    """One observation, outside a batch, as float32 [D], or as it stands for images."""
    one: NDArray[Any] = flatten(space, _batch_of_one(space, observed), 1)[0]
    return one


def _batch_of_one(space: Space[Any], observed: Any) -> Any:
    if isinstance(space, Dict):
        return {name: _batch_of_one(inner, observed[name]) for name, inner in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_batch_of_one(inner, seen) for inner, seen in zip(space.spaces, observed, strict=True))
    return np.asarray(observed)[None]


def _parts(space: Space[Any], observed: Any, count: int) -> Sequence[NDArray[np.float32]]:
    """The vectors that make up a batch of observations, float32 [count, part] each."""
    if isinstance(space, Dict):
        return [part for name, inner in space.spaces.items() for part in _parts(inner, observed[name], count)]
    if isinstance(space, Tuple):
        pairs = zip(space.spaces, observed, strict=True)
        return [part for inner, seen in pairs for part in _parts(inner, seen, count)]
    if isinstance(space, Discrete):
        return [_one_hot(np.asarray(observed).reshape(count) - space.start, int(space.n))]
    if isinstance(space, MultiDiscrete):
        digits = (np.asarray(observed) - space.start).reshape(count, -1)
        return [_one_hot(digits[:, i], int(n)) for i, n in enumerate(space.nvec.reshape(-1))]
    return [np.asarray(observed, np.float32).reshape(count, -1)]


def _one_hot(numbers: NDArray[Any], size: int) -> NDArray[np.float32]:
    hot = np.zeros((len(numbers), size), np.float32)
    hot[np.arange(len(numbers)), numbers] = 1.0
    return hot
