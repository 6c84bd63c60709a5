"""Which part of the run's environment steps each actor collects. Pure. ``now`` is an argument.

An actor that knows its share collects as much between two policies as keeps all actors together near what one would
(``actor/algorithms/portion.py``). Rates follow from the steps that gradients report, which the run counts anyway. A
slow actor has a small share and is not waited for.

An actor with a small share uses fewer environments and steps each of them more slowly. A share that followed rates
alone would follow itself, and who was slow once would stay small for good. So half of what is told is an equal share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

MEMORY_S = 10.0  # over which a rate is averaged: many rollouts of a fleet, some of a lone actor
TELLING = 1.25  # a share that has changed by this factor is told at once
LOOKING = 1.02  # all shares are looked at when the whole has changed by this factor
LEAST = 0.25  # of an equal share, that each has at least: who reports more steps than it takes starves nobody


@dataclass(slots=True)
class _Rate:
    """Of one session. joined: when. at: its last report. steps, seconds: faded sums of what was reported, and of the
    time it took.
    """

    joined: float
    at: float | None = None
    steps: float = 0.0
    seconds: float = 0.0
    rate: float | None = None  # environment steps a second; None until two reports told

    def record(self, steps: int, now: float) -> None:
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.at = now if self.at is None else max(now, self.at)
        if not passed and not self.seconds:
            return  # nobody knows how long these took
        kept = math.exp(-passed / MEMORY_S)
        self.steps, self.seconds = self.steps * kept + steps, self.seconds * kept + passed
        self.rate = self.steps / self.seconds

    def wane(self, now: float) -> None:
        """Nothing was heard for longer than all that is remembered: the rate is at most what that leaves."""
        silent_s = now - (self.joined if self.at is None else self.at)
        if self.rate is None and silent_s > MEMORY_S:
            self.rate = 0.0
        elif self.rate is not None and self.at is not None and silent_s > self.seconds:
            self.rate = self.steps / silent_s


def differs(share: float, told: float) -> bool:
    """Whether it is so far from what was told that waiting for the next heartbeat would cost."""
    return _apart(share, told, TELLING)


def _apart(one: float, other: float, factor: float) -> bool:
    return max(one, other) > factor * min(one, other)


class Shares:
    """Of all sessions that train."""

    def __init__(self) -> None:
        self._rates: dict[int, _Rate] = {}
        self._average: float | None = None  # of the rates that are known, 0 where none is; None: one has changed
        self._changed: dict[int, None] = {}  # whose rates did since the last look, in order
        self._looked = (0, 0.0)  # how many took part when all were looked at, and their rate

    def join(self, session: int, now: float) -> None:
        """It takes part from now on. Until its rate is known it counts as the average actor, unless that takes long."""
        self._rates[session] = _Rate(now)

    def leave(self, session: int) -> None:
        """It takes part no more."""
        self._rates.pop(session, None)
        self._changed.pop(session, None)
        self._average = None

    def record(self, session: int, steps: int, now: float) -> None:
        """It reports so many environment steps."""
        held = self._rates.get(session)
        if held is not None:
            held.record(steps, now)
            self._changed[session] = None
            self._average = None

    def tick(self, now: float) -> None:
        """Time passed; who says nothing for long counts for less."""
        for session, held in self._rates.items():
            before = held.rate
            held.wane(now)
            if held.rate != before:
                self._changed[session] = None
                self._average = None

    def changed(self) -> list[int]:
        """Whose shares are another since the last look: who reported, or all where the whole is another.

        So a look costs what was reported, however many take part.
        """
        changed, count = self._changed, len(self._rates)
        self._changed = {}
        if not changed and count == self._looked[0]:
            return []
        rate = count * self._mean()
        if not _apart(count, self._looked[0], LOOKING) and not _apart(rate, self._looked[1], LOOKING):
            return list(changed)
        self._looked = count, rate
        return list(self._rates)

    def of(self, session: int) -> float:
        """0 < share <= 1, at least LEAST of an equal one; 0 for who does not take part."""
        held, count = self._rates.get(session), len(self._rates)
        if held is None:
            return 0.0
        average = self._mean()
        if not average:
            return 1.0 / count
        rate = average if held.rate is None else held.rate
        return min(1.0, max(rate / (average * count), LEAST / count))

    def told(self, session: int) -> float:
        """What the actor is to heed: the mean of its share and of an equal one; 0 for who does not take part."""
        return 0.5 * (self.of(session) + 1.0 / len(self._rates)) if session in self._rates else 0.0

    def __iter__(self) -> Iterator[int]:
        """The sessions that take part."""
        return iter(self._rates)

    def _mean(self) -> float:
        """Found anew from all: what a liar reports would leave its rounding in a running sum."""
        if self._average is None:
            known = [held.rate for held in self._rates.values() if held.rate is not None]
            self._average = math.fsum(known) / len(known) if known else 0.0
        return self._average
