"""Observations as a policy gets them: normalised, hidden in part. Pure. Knows moments; no simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.config import ActorSettings
from actor.networks.policy import BYTE_SCALE, Policy
from actor.spaces import Spaces, normalized_columns, normalized_size, resolved
from protocol.moments import Moments

Floats = NDArray[np.float32]
NEAR = 0.25  # deviations, and of the logarithm of a scale: what lies nearer can be learnt from together
FAR = 3.0  # deviations, at least 3: numbers whose mean is further from 0 are seen from there
SMALL = 0.1  # root mean square: smaller numbers are seen as of this size, and those above 1 as of 1
CONSTANT = 2e-4  # root mean square: what is no larger has hardly been seen to change (``Moments.scale``'s epsilon)
NORMAL_CLIP = 10.0  # standard deviations; what lies further out is a glitch, and would own the gradient


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Numbers are seen as clip((number - mean) * scale). mean, scale: float32 [D]; scale is 1 / deviation.

    columns: int64 [D], where these numbers are in a longer vector, of which the others stay; None: it is all of them.
    """

    mean: Floats
    scale: Floats
    columns: NDArray[np.intp] | None = None

    def apply(self, raw: Floats, out: Floats) -> None:
        """raw, out: float32 [..., D], or as long as the vector."""
        if self.columns is None:
            self._apply(raw, out)
            return
        numbers = raw[..., self.columns]
        self._apply(numbers, numbers)
        out[..., self.columns] = numbers

    def _apply(self, raw: Floats, out: Floats) -> None:
        np.subtract(raw, self.mean, out=out)
        np.multiply(out, self.scale, out=out)
        np.maximum(out, -NORMAL_CLIP, out=out)
        np.minimum(out, NORMAL_CLIP, out=out)


class ObservationTransform:
    """Observations as the policy gets them.

    plain: whether the policy sees what the simulators show, untouched but for the order of an image's bytes. Those
    stay bytes, and the first layer normalises them.
    """

    def __init__(self, settings: ActorSettings, policy: Policy) -> None:
        self._normalizer: Normalizer | None = None
        self._policy, self._prepare = policy, policy.prepare
        self._normalizes = bool(settings.normalize_observations) and not policy.sees_bytes
        self._hidden = list(settings.hidden_observations)
        self.plain = not (self._normalizes or self._hidden)

    @property
    def normalizer(self) -> Normalizer | None:
        """May be set at any time; used where settings ask for it."""
        return self._normalizer

    @normalizer.setter
    def normalizer(self, normalizer: Normalizer | None) -> None:
        self._normalizer = normalizer
        if self._policy.sees_bytes:
            mean, scale = (0.0, BYTE_SCALE) if normalizer is None else (normalizer.mean[0], normalizer.scale[0])
            self._policy.set_pixel_normalization(float(mean), float(scale))

    def __call__(self, raw: NDArray[Any]) -> NDArray[Any]:
        """raw: [N, *shape]. Returns [N, *input_shape], the same array where nothing is to be done."""
        if self.plain:
            return self._prepare(raw)
        out = raw.copy()
        if self.normalizer is not None and self._normalizes:
            self.normalizer.apply(raw, out)
        if self._hidden:
            out[:, self._hidden] = 0.0
        return out


def normalization(settings: ActorSettings, spaces: Spaces, moments: Moments) -> tuple[Normalizer | None, float]:
    """What the merged statistics make of observations, and what they multiply rewards by. Choices stay 0 and 1: how
    rarely one is made is no reason to see it ten times as large.

    The moments hold the observation's numbers (one, of all pixels, for an image), where settings normalise them, and
    then the discounted return.
    """
    mean, scale = moments.mean.astype(np.float32), moments.scale(1e-8)
    of_returns = int(settings.normalize_returns)
    normalizer = None
    if settings.normalize_observations:
        size = len(mean) - of_returns
        columns = columns_of(settings, spaces)
        seen = Normalizer(mean[:size], scale[:size].copy(), columns)
        if settings.normalize_observations == "auto":
            seen = _of_the_order_of_one(seen)
        for first, count in spaces.choices if settings.defaults > 1 else ():
            at = first if columns is None else int(np.searchsorted(columns, first))
            seen.mean[at : at + count], seen.scale[at : at + count] = 0.0, 1.0
        normalizer = seen
    return normalizer, float(scale[-1]) if of_returns else 1.0


def _of_the_order_of_one(whole: Normalizer) -> Normalizer:
    """Of statistics that would make all numbers alike, what is needed. Numbers of about 1 stay what they are, since
    each change of their mean and deviation would be one of the policy that sees them. So does a flag that is set once
    in a hundred steps or more often.
    """
    deviation = 1.0 / whole.scale
    centred = np.abs(whole.mean) > FAR * np.maximum(1.0, deviation)
    mean = np.where(centred, whole.mean, np.float32(0.0))
    size = np.hypot(deviation, np.where(centred, np.float32(0.0), whole.mean))
    size = np.where(size > CONSTANT, size, np.float32(1.0))
    return Normalizer(mean, (np.clip(size, SMALL, 1.0) / size).astype(np.float32), whole.columns)


def alike(before: tuple[Normalizer | None, float], now: tuple[Normalizer | None, float]) -> bool:
    """Whether what was normalised by the one can be learnt from together with what is by the other: scales are within
    NEAR of each other, and means within as much of a deviation.
    """
    (first, first_returns), (second, second_returns) = before, now
    if first is None or second is None:
        return first is second and _near(first_returns, second_returns)
    shift = np.abs(second.mean - first.mean) * second.scale
    return bool(_near(first_returns, second_returns) and _near(first.scale, second.scale) and (shift <= NEAR).all())


def _near(before: float | NDArray[np.float32], now: float | NDArray[np.float32]) -> bool:
    return bool(np.all(np.abs(np.log(now) - np.log(before)) <= NEAR))


def moments_size(settings: ActorSettings, spaces: Spaces) -> int:
    """D of the moments that these settings keep, 0 for none."""
    settings = resolved(settings, spaces)
    size = normalized_size(settings, spaces) if settings.normalize_observations else 0
    return size + int(settings.normalize_returns)


def columns_of(settings: ActorSettings, spaces: Spaces) -> NDArray[np.intp] | None:
    """``normalized_columns`` as an index."""
    columns = normalized_columns(settings, spaces)
    return None if columns is None else np.array(columns, np.intp)
