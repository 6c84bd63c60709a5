"""What training actors say of themselves in heartbeats, for whoever watches the fleet. Pure. ``now`` is an argument.

Nothing is decided on it, and it need not be true. So what one actor says moves a sum by no more than the time that has
passed, and a quantile by no more than its rank; what cannot be true is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protocol.messages import Heartbeat

PARTS = ("collect", "learn", "compress", "wait")  # of a worker's time
QUANTILES = (0.0, 0.5, 1.0)
MOST_STEPS_PER_S = 1e6  # of one actor; the fastest simulators here make some hundred thousand
FADING = 0.8  # of a rate, each RATE_S: steps are told a rollout at a time
RATE_S = 0.5  # least time that a rate is taken over: heartbeats that were held up come one behind the other
LATE_S = 10.0  # by which a sound actor's times may lead the clock: a heartbeat on its way, a rollout half collected
MOST_AGE = 1_000_000  # gradients


@dataclass(slots=True)
class ActorTelemetry:
    """One session. since: its first heartbeat, when ``first`` were the times it told, in milliseconds; ``told``: now.

    steps, at: what the rate was last taken from. rate: environment steps a second; None where it is not known yet.
    """

    since: float
    first: tuple[int, ...]
    told: tuple[int, ...]
    steps: int
    at: float
    rate: float | None = None
    round_trip_s: float = 0.0
    residual_age: int = 0


@dataclass(slots=True)
class Telemetry:
    """All sessions that train. seconds: sums of what their workers spent in this life of the learner, by PARTS."""

    seconds: list[float] = field(default_factory=lambda: [0.0] * len(PARTS))
    sessions: dict[int, ActorTelemetry] = field(default_factory=dict)

    def record(self, beat: Heartbeat, now: float) -> None:
        """One heartbeat of an actor that trains."""
        times = (beat.collect_ms, beat.learn_ms, beat.compress_ms, beat.wait_ms)
        vital = self.sessions.get(beat.session)
        if vital is None:
            vital = self.sessions[beat.session] = ActorTelemetry(now, times, times, beat.progress, now)
        self._spend(vital, times, now)
        if now - vital.at >= RATE_S:
            _pace(vital, beat.progress, now)
        if math.isfinite(beat.round_trip_s):
            vital.round_trip_s = beat.round_trip_s
        vital.residual_age = min(beat.residual_age, MOST_AGE)

    def _spend(self, vital: ActorTelemetry, times: tuple[int, ...], now: float) -> None:
        """Adds what a worker spent since it last told, unless that is more than there was time for."""
        if any(after < before for after, before in zip(times, vital.told, strict=True)):
            return
        here_s = now - vital.since
        if (sum(times) - sum(vital.first)) / 1e3 > here_s + min(here_s, LATE_S):  # nothing for who only comes and goes
            return
        for index, (after, before) in enumerate(zip(times, vital.told, strict=True)):
            self.seconds[index] += (after - before) / 1e3
        vital.told = times

    def forget(self, session: int) -> None:
        """It is over."""
        self.sessions.pop(session, None)


def _pace(vital: ActorTelemetry, steps: int, now: float) -> None:
    rate = (steps - vital.steps) / (now - vital.at)
    vital.steps, vital.at = steps, now
    if 0.0 <= rate <= MOST_STEPS_PER_S:
        vital.rate = rate if vital.rate is None else FADING * vital.rate + (1.0 - FADING) * rate


def quantiles(values: Iterable[float]) -> Sequence[float]:
    """The values at QUANTILES, each one that is there; none without values."""
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] for share in QUANTILES] if ordered else []
