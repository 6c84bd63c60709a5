"""What a network sees and what it chooses, as plain data. Pure. No Gymnasium; see environments/conversion."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from actor.config import ActorSettings
from protocol.moments import MAX_OBSERVATION

LEAST_SIDES = {"grid": 4, "small": 9, "a3c": 36, "nature": 36}  # pixels on the shorter side that convolutions need
MOST_GRID = 16  # pixels on the longer side of an image whose every pixel is looked at
ENTROPY_WEIGHT = 0.01  # of a choice from a list; a Gaussian policy explores by its deviations

ActionKind = Literal["discrete", "multi_discrete", "box"]


class Actions(msgspec.Struct, frozen=True):
    """What a policy chooses.

    kind: one of sizes[0] numbers; one number for each of sizes; or len(sizes) real numbers
    sizes: discrete, multi_discrete: how many values each part has; box: 1 for each axis
    offset, scale: by axis; what the simulator gets is offset + scale * number
    low, high: by axis, in the policy's numbers; infinite where there is no bound; box only
    shape: of the simulator's action; type: its numpy name
    """

    kind: ActionKind
    sizes: tuple[int, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    type: str = "int64"

    @property
    def outputs(self) -> int:
        """K, how many numbers a network must give for one observation: logits, or a mean and a log-deviation each."""
        return 2 * len(self.sizes) if self.kind == "box" else sum(self.sizes)

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
    def normalized_size(self) -> int:
        """Numbers that have statistics of their own: every one of a vector, and for an image one for all its pixels."""
        return 1 if self.observation_type == "uint8" else self.observation_size

    @property
    def image_sides(self) -> tuple[int, int] | None:
        """The shorter and the longer side in pixels; None where there is no image, or where its channels, first or
        last, are not fewer than pixels: then nobody knows which numbers lie beside each other.
        """
        if self.observation_type != "uint8":
            return None
        first, *_, last = self.observation_shape
        channels, *sides = sorted(self.observation_shape)
        fits = channels < sides[0] and channels == min(first, last) and first != last
        return (sides[0], sides[1]) if fits else None


def resolved(settings: ActorSettings, spaces: Spaces) -> ActorSettings:
    """The same settings with what "auto" comes to where observations and actions decide it."""
    found: dict[str, object] = {}
    if settings.network == "auto":
        found["network"] = _network(spaces.image_sides)
    if settings.entropy_weight == "auto":
        found["entropy_weight"] = 0.0 if spaces.actions.kind == "box" else ENTROPY_WEIGHT
    if settings.normalize_observations == "auto" and not _has_units(spaces):
        found["normalize_observations"] = False
    return msgspec.structs.replace(settings, **found)


def _network(sides: tuple[int, int] | None) -> str:
    """For an image with these sides, or for what is none."""
    if sides is None:
        return "mlp"
    usual = ("a3c", "grid") if sides[1] <= MOST_GRID else ("a3c", "small")
    return next((name for name in usual if sides[0] >= LEAST_SIDES[name]), "mlp")


def _has_units(spaces: Spaces) -> bool:
    """Whether there is anything to normalise, and its statistics fit a message."""
    all_chosen = sum(count for _, count in spaces.choices) == spaces.observation_size
    return spaces.normalized_size < MAX_OBSERVATION and not all_chosen
