"""What a network sees and what it chooses, as plain data. Pure. No Gymnasium; see environments/conversion."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from actor.config import ActorSettings
from protocol.moments import MAX_OBSERVATION

LEAST_SIDES = {"grid": 4, "small": 9, "a3c": 36, "nature": 36}  # pixels on the shorter side that convolutions need
MOST_GRID = 16  # pixels on the longer side of an image whose every pixel is looked at
IMAGES_WITHIN = 3  # edition of the defaults from which on "auto" sees images within vectors
ENTROPY_WEIGHT = 0.01  # of a choice from a list; a Gaussian policy explores by its deviations

ActionKind = Literal["discrete", "multi_discrete", "box", "mixed"]


class ActionArray(msgspec.Struct, frozen=True):
    """One of the arrays in a simulator's action that is a Dict or a Tuple of them.

    path: names in Dicts and places in Tuples on the way to it. columns: its numbers' places in an action as the policy
    holds it. shape: of the array; type: its numpy name.
    """

    path: tuple[str | int, ...]
    columns: tuple[int, ...]
    shape: tuple[int, ...]
    type: str


class Actions(msgspec.Struct, frozen=True):
    """What a policy chooses.

    kind: one of sizes[0] numbers; one number for each of sizes; len(sizes) real numbers; or choices, then real numbers
    sizes: how many values each choice has; 1 for each axis of real numbers
    offset, scale: by axis; what the simulator gets is offset + scale * number
    low, high: by axis of real numbers, in the policy's numbers; infinite where there is no bound
    shape: of the simulator's action; type: its numpy name
    arrays: what a Dict or Tuple is made of; empty where the action is one array
    """

    kind: ActionKind
    sizes: tuple[int, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    type: str = "int64"
    arrays: tuple[ActionArray, ...] = ()

    @property
    def choices(self) -> tuple[int, ...]:
        """How many values each choice has; choices come before real numbers."""
        return self.sizes[: len(self.sizes) - len(self.low)]

    @property
    def logits(self) -> int:
        """L, values of all choices together; a mask has a number for each."""
        return sum(self.choices)

    @property
    def outputs(self) -> int:
        """K, how many numbers a network must give for one observation: logits, then means, then log-deviations."""
        return self.logits + 2 * len(self.low)

    @property
    def width(self) -> int:
        """Numbers in one action as the policy holds it."""
        return len(self.sizes)


class Part(msgspec.Struct, frozen=True):
    """One array of an observation that became a part of a vector.

    name: its keys in Dicts and places in Tuples, with dots between them; of a lone Box empty
    first: where its numbers begin. shape, type: of the array itself; of a choice the numbers that stand for it
    scale: of an image, what brings its numbers to between 0 and 1; 0 where it is none
    """

    name: str
    first: int
    shape: tuple[int, ...]
    type: str = "float32"
    scale: float = 0.0

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


class Spaces(msgspec.Struct, frozen=True):
    """What a network needs to know. observation_type: ``float32`` or, for images, ``uint8``.

    choices: runs (first, how many) of a vector's numbers that stand for a choice and are 0 or 1: one-hot, or bits.
    parts: of what a vector was made, in its order; none where the observation has the vector's shape itself.
    """

    observation_shape: tuple[int, ...]
    observation_type: Literal["float32", "uint8"]
    actions: Actions
    choices: tuple[tuple[int, int], ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def observation_size(self) -> int:
        """D, numbers in one observation."""
        return math.prod(self.observation_shape)

    @property
    def images(self) -> tuple[Part, ...]:
        """Parts of a vector that are images."""
        return tuple(part for part in self.parts if part.scale)

    @property
    def shows_images(self) -> bool:
        """Whether there is anything that convolutions might look at."""
        return self.observation_type == "uint8" or bool(self.images)

    @property
    def image_sides(self) -> tuple[int, int] | None:
        """The shorter and the longer side in pixels; of several images the shortest and the longest. None where there
        is no image, or where nobody knows which of its numbers lie beside each other.
        """
        if self.observation_type == "uint8":
            return sides_of(self.observation_shape)
        found = [sides for part in self.images if (sides := sides_of(part.shape))]
        return (min(min(sides) for sides in found), max(max(sides) for sides in found)) if found else None


def difference(wanted: Spaces, found: Spaces) -> str:
    """In what the second are not the first, in words: the first thing that differs."""
    before, after = _arrays(wanted), _arrays(found)
    for name in [*after, *before]:
        if before.get(name) != after.get(name):
            part = f"observation[{name!r}]" if name else "observation"
            return f"its {part} is {after.get(name, 'not there')} and was {before.get(name, 'not there')}"
    if wanted.choices != found.choices:
        return "other numbers of its observation stand for choices"
    one, other = (f"{each.actions.kind} {list(each.actions.sizes)}" for each in (wanted, found))
    return f"its action is {other} and was {one}" if one != other else "its action has other bounds, shapes or types"


def _arrays(spaces: Spaces) -> dict[str, str]:
    """What an observation is made of, in words."""
    parts = spaces.parts or (Part("", 0, spaces.observation_shape, spaces.observation_type),)
    return {part.name: f"{part.type} {list(part.shape)}{' (an image)' if part.scale else ''}" for part in parts}


def sides_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The shorter and the longer side of an image. None where the channels, first or last, are not fewer than pixels:
    then nobody knows which numbers lie beside each other.
    """
    if len(shape) == 2:
        return min(shape), max(shape)
    first, *_, last = shape
    channels, *sides = sorted(shape)
    fits = channels < sides[0] and channels == min(first, last) and first != last
    return (sides[0], sides[1]) if fits else None


def resolved(settings: ActorSettings, spaces: Spaces) -> ActorSettings:
    """The same settings with what "auto" comes to where observations and actions decide it."""
    found: dict[str, object] = {"network": _network(settings, spaces)}
    if settings.entropy_weight == "auto":
        found["entropy_weight"] = ENTROPY_WEIGHT if spaces.actions.choices else 0.0
    if settings.normalize_observations == "auto" and not _has_units(settings, spaces):
        found["normalize_observations"] = False
    return msgspec.structs.replace(settings, **found)


def normalized_columns(settings: ActorSettings, spaces: Spaces) -> tuple[int, ...] | None:
    """Numbers of a vector that have statistics of their own; None: all of them, or it is no vector. Pixels that are
    looked at as an image have none: what they can be is known.
    """
    if not spaces.images or _network(settings, spaces) == "mlp":
        return None
    pixels = {number for part in spaces.images for number in range(part.first, part.first + part.size)}
    return tuple(number for number in range(spaces.observation_size) if number not in pixels)


def normalized_size(settings: ActorSettings, spaces: Spaces) -> int:
    """How many numbers have statistics of their own; for an image of bytes there is one for all its pixels."""
    if spaces.observation_type == "uint8":
        return 1
    columns = normalized_columns(settings, spaces)
    return spaces.observation_size if columns is None else len(columns)


def flattens_images(settings: ActorSettings, spaces: Spaces) -> bool:
    """Whether images go into layers that do not look at them as such, and nobody asked for that."""
    chosen = settings.network == "auto" and (not spaces.images or settings.defaults >= IMAGES_WITHIN)
    return chosen and spaces.shows_images and _network(settings, spaces) == "mlp"


def _network(settings: ActorSettings, spaces: Spaces) -> str:
    """What is named, or what goes with the images that there are."""
    if settings.network != "auto":
        return settings.network
    sides = spaces.image_sides
    if sides is None or (
        spaces.images and settings.defaults < IMAGES_WITHIN
    ):  # earlier editions knew no images within vectors
        return "mlp"
    usual = ("a3c", "grid") if sides[1] <= MOST_GRID else ("a3c", "small")
    return next((name for name in usual if sides[0] >= LEAST_SIDES[name]), "mlp")


def _has_units(settings: ActorSettings, spaces: Spaces) -> bool:
    """Whether there is anything to normalise, and its statistics fit a message."""
    size = normalized_size(settings, spaces)
    return size < MAX_OBSERVATION and size != sum(count for _, count in spaces.choices)
