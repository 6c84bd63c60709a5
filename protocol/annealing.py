"""How a learning rate falls with a run's environment steps, as settings and as a welcome has it. Pure."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from operator import itemgetter
from typing import Annotated, ClassVar, NamedTuple

from msgspec import Meta

from protocol.errors import SettingError
from protocol.settings import Choice

MOST_POINTS = 64
COSINE_PARTS = 64  # straight ones that a cosine is told as

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
EnvSteps = Annotated[int, Meta(ge=0, lt=1 << 53)]  # counters of the wire are exact below 2**53
Points = tuple[tuple[EnvSteps, Share], ...]


class Told(NamedTuple):
    """Annealing as a welcome tells it (WIRE.md, section 3): points, or where there are none a straight line.

    anneal_steps: environment steps of the run in which the rate falls to its floor; 0: it stays
    anneal_floor: share of the first rate that it falls to
    anneal_points: (environment steps, share of the first rate), steps ascending
    """

    anneal_steps: int = 0
    anneal_floor: float = 1.0
    anneal_points: tuple[tuple[int, float], ...] = ()

    def share(self, env_steps: int) -> float:
        """What is left of the first rate after so many environment steps of the run, 0 to 1."""
        if self.anneal_points:
            return _between(self.anneal_points, env_steps)
        if not self.anneal_steps:
            return 1.0
        return self.anneal_floor + (1.0 - self.anneal_floor) * max(0.0, 1.0 - env_steps / self.anneal_steps)


def _between(points: tuple[tuple[int, float], ...], env_steps: int) -> float:
    """On the straight line between the two points beside it; before the first and after the last it is theirs."""
    following = bisect_right(points, env_steps, key=itemgetter(0))
    if following in (0, len(points)):
        return points[min(following, len(points) - 1)][1]
    (begin, before), (end, after) = points[following - 1 : following + 1]
    return before + (after - before) / (end - begin) * (env_steps - begin)


class Linear(Choice, frozen=True, tag="linear"):
    """In a straight line."""

    # Environment steps in which the rate falls to its floor. Unset: run.until_steps, if set.
    anneal_steps: Annotated[int, Meta(ge=1, lt=1 << 53)] = 300_000
    anneal_floor: Share = 0.2  # share of learning_rate that annealing ends at

    def share(self, env_steps: int) -> float:
        """What is left of the first rate after so many environment steps of the run, 0 to 1."""
        return self.told.share(env_steps)

    @property
    def told(self) -> Told:
        """What a welcome says of it."""
        return Told(self.anneal_steps, self.anneal_floor)


class Cosine(Linear, frozen=True, tag="cosine"):
    """Half a wave: Loshchilov and Hutter 2017, equation 5, without restarts."""

    def share(self, env_steps: int) -> float:
        """Linear.share."""
        left = 0.5 * (1.0 + math.cos(math.pi * min(1.0, env_steps / self.anneal_steps)))
        return self.anneal_floor + (1.0 - self.anneal_floor) * left

    @property
    def told(self) -> Told:
        """Linear.told, in straight parts, nowhere further than 1/3000 from the curve."""
        steps = sorted({self.anneal_steps * part // COSINE_PARTS for part in range(COSINE_PARTS + 1)})
        return Told(self.anneal_steps, self.anneal_floor, tuple((step, self.share(step)) for step in steps))


class Piecewise(Choice, frozen=True, tag="piecewise"):
    """Through points that are given."""

    # [environment steps of the run, share of learning_rate] each: straight between two of them, level before the first
    # and behind the last. Steps ascend. learning_rate is the largest rate, so a share is at most 1.
    anneal_points: Annotated[Points, Meta(max_length=MOST_POINTS)] = ()

    def __post_init__(self) -> None:
        given = [list(point) for point in self.anneal_points]
        if not given:
            said = "learner.anneal = 'piecewise' needs some: [[environment steps, share of learning_rate], ...]"
            raise SettingError("learner.anneal_points", given, said)
        for before, after in itertools.pairwise(step for step, _ in self.anneal_points):
            if after <= before:
                said = f"environment steps have to ascend, and {after} comes behind {before}"
                raise SettingError("learner.anneal_points", given, said)

    def share(self, env_steps: int) -> float:
        """Linear.share."""
        return self.told.share(env_steps)

    @property
    def told(self) -> Told:
        """Linear.told; who reads no points has at least the last of them right."""
        step, share = self.anneal_points[-1]
        return Told(max(1, step), share, self.anneal_points)


class Constant(Choice, frozen=True, tag="none"):
    """The rate stays."""

    told: ClassVar[Told] = Told()

    def share(self, env_steps: int) -> float:
        """Linear.share."""
        return 1.0
