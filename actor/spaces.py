"""What a network sees and what it chooses, as plain data. Pure. No Gymnasium; see environments/conversion."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

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


class Spaces(msgspec.Struct, frozen=True):
    """What a network needs to know. observation_type: ``float32`` or, for images, ``uint8``."""

    observation_shape: tuple[int, ...]
    observation_type: Literal["float32", "uint8"]
    actions: Actions

    @property
    def observation_size(self) -> int:
        """D, numbers in one observation."""
        return math.prod(self.observation_shape)

    @property
    def normalized_size(self) -> int:
        """Numbers that have statistics of their own: every one of a vector, and for an image one for all its pixels."""
        return 1 if self.observation_type == "uint8" else self.observation_size
