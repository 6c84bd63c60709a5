"""The way between Gymnasium's spaces and a network's arrays. Pure. Knows Gymnasium's spaces; no registry.

A network sees one array and gives one array. Images (Box of uint8 with three axes) stay as they are; every other
observation becomes one float32 vector: a Box is flattened, Discrete and MultiDiscrete are one-hot, Dict and Tuple are
the concatenation of their parts, in the order of ``gymnasium.spaces.utils.flatten``. What shape the parts had, and
which of them are images, is remembered: a grey image, one of floats, or one beside other numbers. Actions are numbers
from 0, or for a Box of floats the numbers that the policy draws: along an axis with two finite bounds -1 and 1 stand
for them. Of a Dict or Tuple all choices come first and then all real numbers, each in the order of ``flatten``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from actor.spaces import ActionArray, ActionKind, Actions, Part, Spaces, sides_of
from protocol.errors import SettingError, UserError

MOST_VALUES = 256  # of one number of a Box of whole numbers; of more no policy would try each
MOST_LOGITS = 65_536  # of such a Box
EXACT = 1 << 53  # whole numbers up to here are exact as float64
LEAST_GREY = 7  # pixels of each side of bytes that have no axis of channels


def spaces_of(env_id: str, observations: Space[Any], actions: Space[Any]) -> Spaces:
    """Raises SettingError naming the space that no network here can see or choose from."""
    if _is_image(observations):
        assert observations.shape is not None
        shape = tuple(int(size) for size in observations.shape)
        return Spaces(shape, "uint8", actions_of(env_id, actions))
    width, actions_ = _width(env_id, observations), actions_of(env_id, actions)
    return Spaces((width,), "float32", actions_, tuple(_choices(observations)), _parts_of(observations))


def _is_image(space: Space[Any]) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _parts_of(space: Space[Any]) -> tuple[Part, ...]:
    """Spaces.parts."""
    parts, first = [], 0
    for name, leaf in _leaves(space):
        width = _width("", leaf)
        shape = tuple(map(int, leaf.shape)) if isinstance(leaf, Box | MultiBinary) and leaf.shape else (width,)
        kind = "uint8" if leaf.dtype == np.uint8 else "float32"
        parts.append(Part(name, first, shape, kind, _image_scale(leaf)))
        first += width
    plain = isinstance(space, Dict | Tuple) or len(parts[0].shape) > 1
    return tuple(parts) if plain else ()


def _leaves(space: Space[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Space[Any]]]:
    """Every array of an observation, in the order of the vector, by its keys and places."""
    if isinstance(space, Dict | Tuple):
        named = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for name, part in named:
            yield from _leaves(part, (*path, str(name)))
    else:
        yield ".".join(path), space


def _image_scale(space: Space[Any]) -> float:
    """Part.scale. Bytes of two axes are an image unless they are a few rows, which are rather vectors on top of each
    other; floats are one where they have three axes and one range from 0 to 1 or 255.
    """
    if not isinstance(space, Box) or len(space.shape) not in (2, 3) or space.low.any():
        return 0.0
    sides, high = sides_of(space.shape), float(space.high.max())
    if sides is None or high <= 0.0:
        return 0.0
    if space.dtype == np.uint8:
        return 1.0 / high if len(space.shape) == 3 or sides[0] >= LEAST_GREY else 0.0
    alike = high in (1.0, 255.0) and bool((space.high == high).all())
    return 1.0 / high if alike and len(space.shape) == 3 and np.issubdtype(space.dtype, np.floating) else 0.0


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


def actions_of(env_id: str, space: Space[Any]) -> Actions:
    """What a policy chooses for this space. Raises SettingError naming one that no policy here can choose from."""
    if not isinstance(space, Dict | Tuple):
        return _one_array(env_id, space)
    parts = list(_action_parts(env_id, space, ()))
    found = [actions for _, actions in parts]
    places, columns = _columns(found)
    kinds = {actions.kind for actions in found}
    reals = sum(len(actions.low) for actions in found)
    kind: ActionKind = "box" if kinds == {"box"} else "mixed" if reals else "multi_discrete"

    def in_order(numbers: list[float]) -> tuple[float, ...]:
        return tuple(numbers[place] for place in places)

    return Actions(
        kind="discrete" if len(parts) == 1 and kinds == {"discrete"} else kind,
        sizes=tuple(int(size) for size in in_order([size for actions in found for size in actions.sizes])),
        offset=in_order([number for actions in found for number in actions.offset]),
        scale=in_order([number for actions in found for number in actions.scale]),
        low=tuple(number for actions in found for number in actions.low),
        high=tuple(number for actions in found for number in actions.high),
        arrays=tuple(
            ActionArray(path, own, actions.shape, actions.type)
            for (path, actions), own in zip(parts, columns, strict=True)
        ),
    )


def _columns(parts: Sequence[Actions]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Where each of a policy's numbers stands in all parts' numbers one after the other: choices first, then real ones.
    And for each part the policy's numbers that are its own.
    """
    real = [bool(actions.low) for actions in parts for _ in actions.sizes]
    places = sorted(range(len(real)), key=real.__getitem__)
    column = {place: number for number, place in enumerate(places)}
    ends = np.cumsum([actions.width for actions in parts]).tolist()
    own = [
        tuple(column[place] for place in range(end - actions.width, end))
        for actions, end in zip(parts, ends, strict=True)
    ]
    return places, own


def _action_parts(
    env_id: str, space: Space[Any], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Actions]]:
    """Each array in a space's actions, and the way to it."""
    if not isinstance(space, Dict | Tuple):
        yield path, _one_array(env_id, space)
        return
    named: list[tuple[str | int, Space[Any]]]
    named = list(space.spaces.items()) if isinstance(space, Dict) else list(enumerate(space.spaces))
    if not named or not all(isinstance(name, str | int) for name, _ in named):
        raise _no_actions(env_id, space)
    for name, part in named:
        yield from _action_parts(env_id, part, (*path, name))


def _one_array(env_id: str, space: Space[Any]) -> Actions:
    if isinstance(space, Discrete):
        return Actions("discrete", (int(space.n),), (float(space.start),), (1.0,), type=str(space.dtype))
    if isinstance(space, MultiDiscrete):
        return _choices_of(space, space.nvec, space.start)
    if isinstance(space, MultiBinary):
        return _choices_of(space, np.full(space.shape, 2), np.zeros(space.shape))
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        return _box_actions(space)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.integer):
        return _choices_of(space, _values(env_id, space), space.low)
    raise _no_actions(env_id, space)


def _choices_of(space: Space[Any], sizes: NDArray[Any], first: NDArray[Any]) -> Actions:
    """One choice for each number of the space's array."""
    values, offset = tuple(map(int, sizes.reshape(-1))), tuple(map(float, first.reshape(-1)))
    ones = (1.0,) * len(values)
    return Actions("multi_discrete", values, offset, ones, shape=space.shape or (), type=str(space.dtype))


def _values(env_id: str, space: Box) -> NDArray[np.int64]:
    """How many values each whole number of a Box may have."""
    bounds = [(int(low), int(high)) for low, high in zip(space.low.reshape(-1), space.high.reshape(-1), strict=True)]
    bounded = space.is_bounded() and all(-EXACT <= low <= high <= EXACT for low, high in bounds)
    most = max((high - low + 1 for low, high in bounds), default=0) if bounded else 0
    if not bounded or most > MOST_VALUES or sum(high - low + 1 for low, high in bounds) > MOST_LOGITS:
        limits = f"at most {MOST_VALUES} values to each and {MOST_LOGITS:,} in all"
        why = f"it has {most:,} values to one of {len(bounds):,}" if bounded else "its numbers have no bounds"
        said = f"a Box of whole numbers is chosen from value by value, {limits}, and of {space} {why}"
        raise SettingError("actor.env", env_id, said)
    return np.array([high - low + 1 for low, high in bounds], np.int64)


def _no_actions(env_id: str, space: Space[Any]) -> SettingError:
    kinds = "Discrete, MultiDiscrete, MultiBinary, Box, or a Dict or Tuple of these"
    return SettingError("actor.env", env_id, f"actions must be {kinds}, and these hold {space}")


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
        whole = actions.kind == "discrete" and not actions.arrays
        self._plain = whole and not self._offset.any() and self._type == np.int64
        self._reals = slice(len(actions.choices), None)
        offset, scale = self._offset[self._reals], self._scale[self._reals]
        self._low, self._high = (offset + scale * np.array(bound) for bound in (actions.low, actions.high))
        self._columns = [np.array(array.columns, np.intp) for array in actions.arrays]

    def __call__(self, chosen: NDArray[Any]) -> Any:
        """The simulators' actions, [B, *shape], or for a Dict or Tuple one of batches; along a bounded axis never
        outside the bounds, not even by rounding.
        """
        if self._plain:
            return chosen[:, 0]
        spoken = self._offset + self._scale * chosen
        if self._actions.low:
            reals = spoken[:, self._reals]
            np.clip(reals, self._low, self._high, out=reals)
        if not self._actions.arrays:
            return spoken.astype(self._type).reshape(len(chosen), *self._actions.shape)
        return composed(
            [
                (array.path, spoken[:, columns].astype(array.type).reshape(len(chosen), *array.shape))
                for array, columns in zip(self._actions.arrays, self._columns, strict=True)
            ]
        )

    def one(self, chosen: NDArray[Any]) -> Any:
        """The action of a single simulator; chosen: [1, width]."""
        return unpacked(self._actions, packed(self._actions, self(chosen)).tobytes())


def composed(arrays: Sequence[tuple[tuple[str | int, ...], Any]]) -> Any:
    """Dicts and tuples of these, by their paths."""
    if not arrays[0][0]:
        return arrays[0][1]
    inner: dict[str | int, list[tuple[tuple[str | int, ...], Any]]] = {}
    for (name, *rest), array in arrays:
        inner.setdefault(name, []).append((tuple(rest), array))
    made = {name: composed(parts) for name, parts in inner.items()}
    return made if isinstance(arrays[0][0][0], str) else tuple(made.values())


def _arrays(actions: Actions) -> tuple[ActionArray, ...]:
    return actions.arrays or (ActionArray((), (), actions.shape, actions.type),)


def packed(actions: Actions, spoken: Any) -> NDArray[np.uint8]:
    """The simulators' actions, as ``ActionConverter`` gives them, as bytes: uint8 [B, size]."""
    rows = []
    for array in _arrays(actions):
        batch = spoken
        for name in array.path:
            batch = batch[name]
        numbers = np.ascontiguousarray(batch, array.type)
        rows.append(numbers.reshape(len(numbers), -1).view(np.uint8))
    return rows[0] if len(rows) == 1 else np.concatenate(rows, 1)


def unpacked(actions: Actions, data: bytes) -> Any:
    """One simulator's action of its bytes: arrays that may be written to, and plain numbers where they are."""
    found, begin = [], 0
    for array in _arrays(actions):
        kind, count = np.dtype(array.type), math.prod(array.shape)
        numbers = np.frombuffer(data, kind, count, begin).reshape(array.shape).copy()
        begin += numbers.nbytes
        found.append((array.path, numbers[()]))
    return composed(found)


class ObservationConverter:
    """From observations as an environment gives them to what a network sees. Unlike ``flatten`` it checks them: they
    come from programs of other people.
    """

    def __init__(self, space: Space[Any]) -> None:
        self.space = space

    def one(self, observed: Any) -> NDArray[Any]:
        """One observation as a batch of one, [1, *shape]. Raises UserError saying what does not fit."""
        for place, space, part in _observed(self.space, observed):
            _check(place, space, part, ())
        return flatten_one(self.space, observed)[None]

    def batch(self, observed: Any) -> NDArray[Any]:
        """Observations of B environments as Gymnasium's vectors give them, [B, *shape]. Raises UserError likewise."""
        leaves = list(_observed(self.space, observed))
        count = len(leaves[0][2]) if leaves[0][2].ndim else 0
        if not count:
            raise UserError("batch=True takes the observations of one environment or more, and these are none")
        for place, space, part in leaves:
            _check(place, space, part, (count,))
        return flatten(self.space, observed, count)


def _observed(space: Space[Any], observed: Any, place: str = "observation") -> Iterator[tuple[str, Space[Any], Any]]:
    """(where it is, its space, the array) of each part of an observation. Raises UserError where one is missing."""
    if isinstance(space, Dict):
        if not isinstance(observed, Mapping) or not space.spaces.keys() <= observed.keys():
            raise UserError(f"{place} must be a dict with {', '.join(map(repr, space.spaces))}, not {_short(observed)}")
        for name, inner in space.spaces.items():
            yield from _observed(inner, observed[name], f"{place}[{name!r}]")
    elif isinstance(space, Tuple):
        if not isinstance(observed, tuple | list) or len(observed) != len(space.spaces):
            raise UserError(f"{place} must be a tuple of {len(space.spaces)}, not {_short(observed)}")
        for index, (inner, seen) in enumerate(zip(space.spaces, observed, strict=True)):
            yield from _observed(inner, seen, f"{place}[{index}]")
    else:
        try:
            yield place, space, np.asarray(observed)
        except ValueError:
            raise UserError(f"{place} must be one array, not {_short(observed)}") from None


def _check(place: str, space: Space[Any], part: NDArray[Any], lead: tuple[int, ...]) -> None:
    assert space.shape is not None
    if part.shape != (expected := (*lead, *space.shape)):
        raise UserError(f"{place} must have the shape {list(expected)}, and it has {list(part.shape)}")
    whole = isinstance(space, Box) and space.dtype == np.uint8  # 0.5 of a byte is a picture that was divided by 255
    if (
        part.dtype.kind not in "biuf"
        or (whole and part.dtype.kind == "f")
        or (_is_image(space) and part.dtype != np.uint8)
    ):
        raise UserError(f"{place} must hold numbers of the type {space.dtype}, and it holds {part.dtype}")
    if isinstance(space, Discrete | MultiDiscrete):
        sizes = space.n if isinstance(space, Discrete) else space.nvec
        if part.dtype.kind == "f" or not ((part >= space.start) & (part < space.start + sizes)).all():
            raise UserError(f"{place} must be one of the numbers of {space}, not {_short(part)}")
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        raise UserError(f"{place} must hold finite numbers, and it holds {part[~np.isfinite(part)][0]}")


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
