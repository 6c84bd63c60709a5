"""What an actor tells of its link with each heartbeat. Pure; times are arguments."""

from __future__ import annotations

import math

from actor.events import Ticked

FADING = 0.9  # of running means, for each value


class Pulse:
    """Round trips and work since the last heartbeat. round_trip_s: running mean of the answered, 0 before the first."""

    def __init__(self) -> None:
        self.round_trip_s = 0.0
        self._made = 0
        self._since: tuple[float, float] | None = None  # when the last heartbeat was, and what had been waited by then

    def made(self) -> None:
        """A gradient was made."""
        self._made += 1

    def answered(self, round_trip_s: float) -> None:
        """A gradient that was sent once is answered."""
        self.round_trip_s = faded(self.round_trip_s or None, round_trip_s)

    def beat(self, now: float, worker: Ticked) -> tuple[float, float, int, int, int, int, int]:
        """All that a heartbeat says behind its versions: WIRE.md, section 3."""
        age = round(worker.residual_age) if math.isfinite(worker.residual_age) else 0
        times = (worker.collect_s, worker.learn_s, worker.compress_s, worker.wait_s)
        collect_ms, learn_ms, compress_ms, wait_ms = (int(1e3 * seconds) for seconds in times)
        return self.round_trip_s, self._work(now, worker.wait_s), collect_ms, learn_ms, compress_ms, wait_ms, age

    def _work(self, now: float, waited_s: float) -> float:
        """Seconds of work for each gradient since the last call, waiting for permits not counted; 0 if unknown."""
        made, since = self._made, self._since
        self._made, self._since = 0, (now, waited_s)
        if since is None or not made:
            return 0.0
        return max(0.0, now - since[0] - (waited_s - since[1])) / made


def faded(mean: float | None, value: float) -> float:
    """The running mean with one value more. mean: None before the first."""
    return value if mean is None else FADING * mean + (1.0 - FADING) * value
