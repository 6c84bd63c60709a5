"""How many bytes a gradient may take on one actor's link, and what fits into them. Pure; times are arguments.

A fixed budget is bytes a second, divided by the gradients a second that the actor makes. Without one the link is felt:
a gradient's round trip beyond the shortest seen is time that it spent behind its own bytes. As long as that is a small
part of the time between two gradients, more is sent; where it is not, less. Additive in nothing: bytes change by
factors, up slowly and down at once, and every step down makes the next step up wait twice as long (hysteresis).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from actor.compression.compressor import Compressor
from actor.compression.running_mean import running_mean
from actor.compression.selection import Density, Everything, Largest, Selection
from protocol.codecs.budget import LEAST_COORDINATES, LEVEL_BYTES, THIN, Fit, fit

FIRST_BYTES = 2_000  # before anything is known: nothing on any link, and 0.05 % of the largest network
UP, DOWN, LEAST_DOWN = 1.5, 0.5, 0.02  # factors; down by more where more is too much
SMALL, LARGE = 0.25, 1.0  # of the time between two gradients: below, more may be sent; above, less
NOISE_S = 0.004  # what a scheduler or a batch at the learner may cost without a link to blame
LATE = 4  # answers in a row that are late before less is sent: a single stall is no thin link
PATIENCE, MOST_PATIENCE = 16, 1024  # quick answers before more is sent
FORGET_S, GROWTH = 30.0, 1.25  # after so long the shortest round trip may rise by so much: a route can change
PAUSE = 4.0  # a longer interval than so many means is a pause, and counts as this


class UplinkBudget:
    """One link as its actor feels it. allowed_bytes: of the next gradient's payload.

    kbps: kilobits a second that gradients may take; "auto": as many as do not make them late.
    """

    def __init__(self, length: int, kbps: float | Literal["auto"]) -> None:
        self._kbps, self._most_bytes = kbps, 4.0 * length
        self.allowed_bytes = float(FIRST_BYTES)
        self._interval_s: float | None = None  # between two gradients, running mean
        self._work_s: float | None = None  # of that, not spent waiting for permits
        self._made: tuple[float, float] | None = None  # when the last was, and what had been waited by then
        self._changed_at = -math.inf  # when the bytes last changed
        self._shortest_s, self._shortest_at = math.inf, -math.inf
        self._quick, self._patience = 0, PATIENCE
        self._late_s: list[float] = []  # excesses in a row that were too long

    def record_gradient(self, now: float, waited_s: float = 0.0) -> None:
        """A gradient is about to be sent. waited_s: for permits, since the beginning.

        A link is judged by the work: an actor that waits for its link makes fewer gradients, which must not look like
        time that they may take. A budget is of all time; one long pause is no reason to send as much at once.
        """
        if self._made is not None:
            interval_s, waited_s_since = now - self._made[0], waited_s - self._made[1]
            most_s = math.inf if self._interval_s is None else PAUSE * self._interval_s
            self._interval_s = running_mean(self._interval_s, min(interval_s, most_s))
            self._work_s = running_mean(self._work_s, min(max(0.0, interval_s - waited_s_since), most_s))
            if self._kbps != "auto":
                self.allowed_bytes = min(self._most_bytes, self._kbps * 125.0 * self._interval_s)
        self._made = now, waited_s

    @property
    def bytes_per_s(self) -> float:
        """What gradients may take: the budget, or as much as was felt to be borne; no bound before anything was."""
        if self._kbps != "auto":
            return self._kbps * 125.0
        return self.allowed_bytes / self._interval_s if self._interval_s else math.inf

    def record_round_trip(self, round_trip_s: float, now: float) -> None:
        """A gradient's verdict came. round_trip_s: from its sending."""
        if self._kbps != "auto" or self._work_s is None:
            return
        if round_trip_s <= self._shortest_s:
            self._shortest_s, self._shortest_at = round_trip_s, now
        elif now - self._shortest_at > FORGET_S:
            self._shortest_s, self._shortest_at = min(round_trip_s, GROWTH * self._shortest_s), now
        if now - round_trip_s < self._changed_at:
            return  # it was sent with other bytes
        excess_s = round_trip_s - self._shortest_s
        if excess_s > LARGE * self._work_s + NOISE_S:
            self._late(excess_s, self._work_s, now)
            return
        self._late_s.clear()
        quick = excess_s < SMALL * self._work_s + NOISE_S
        self._quick = self._quick + 1 if quick else max(0, self._quick - 1)
        if self._quick >= self._patience:
            self._scale_bytes(UP, now)

    def _late(self, excess_s: float, work_s: float, now: float) -> None:
        self._quick = 0
        self._late_s.append(excess_s)
        if len(self._late_s) == LATE:
            fitting = (SMALL * work_s + NOISE_S) / min(self._late_s)
            self._patience = min(MOST_PATIENCE, 2 * self._patience)
            self._scale_bytes(min(DOWN, max(LEAST_DOWN, fitting)), now)

    def _scale_bytes(self, factor: float, now: float) -> None:
        """What is felt next is felt with other bytes."""
        self.allowed_bytes = min(self._most_bytes, max(LEAST_COORDINATES * LEVEL_BYTES, factor * self.allowed_bytes))
        self._changed_at, self._quick = now, 0
        self._late_s.clear()


LEAVING_S = 1.0  # of an actor's last gradient on its link, half of what it waits for


class BandwidthFit:
    """Keeps a compressor within what its link allows."""

    def __init__(self, uplink: UplinkBudget, length: int) -> None:
        self.uplink, self._length = uplink, length
        self._fit: Fit | None = None
        self._density = Density(length, 1.0, 0)
        self._selections = {THIN: Largest(length, self._density)}

    def update(self, compressor: Compressor, round_trips_s: Sequence[float], now: float, waited_s: float = 0.0) -> None:
        """Before each gradient. round_trips_s: of the answers since the last. waited_s: for permits, in all."""
        for round_trip_s in round_trips_s:
            self.uplink.record_round_trip(round_trip_s, now)
        self.uplink.record_gradient(now, waited_s)
        wanted = fit(self.uplink.allowed_bytes, self._length)
        if wanted != self._fit:
            self._fit, self._density.share = wanted, wanted.density
            compressor.set_codec(wanted.codec, self._selections.get(wanted.codec, Everything()))

    def for_residual(self) -> tuple[str, Selection]:
        """How an actor that leaves says what it holds back: all of it, or what the link bears in LEAVING_S."""
        wanted = fit(min(self.uplink.bytes_per_s * LEAVING_S, 4.0 * self._length - 1.0), self._length)
        self._density.share = wanted.density
        return wanted.codec, self._selections.get(wanted.codec, Everything())
