"""What an actor tells of its link and its worker with each heartbeat. Pure; times are arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator

from actor.events import Ticked
from protocol.messages import Fault, Heartbeat

FADING = 0.9  # of running means, for each value


class Pulse:
    """Round trips and work since the last heartbeat.

    round_trip_s: running mean of the answered, 0 before the first. worker: what it did in its life, as last told.
    """

    def __init__(self) -> None:
        self.round_trip_s, self.worker = 0.0, Ticked(0)
        self._beat_at = 0.0
        self._made = 0
        self._session = 0
        self._excused: dict[str, int] = {}  # faults that were told in earlier sessions
        self._told: dict[str, int] = {}  # all of them so far
        self._since: tuple[float, float] | None = None  # when the last heartbeat was, and what had been waited by then

    def made(self) -> None:
        """A gradient was made."""
        self._made += 1

    def answered(self, round_trip_s: float) -> None:
        """A gradient that was sent once is answered."""
        self.round_trip_s = faded(self.round_trip_s or None, round_trip_s)

    def due(self, now: float, heartbeat_s: float) -> bool:
        """Whether the last heartbeat is that long ago, or something went wrong in a way that it has not before."""
        new = any(fault.kind not in self._told for fault in self.worker.faults)
        return new or now - self._beat_at >= heartbeat_s

    def beat(self, now: float, session: int, version: int) -> Heartbeat:
        """The heartbeat that is due: WIRE.md, section 3. version: of the newest weights held, 0 before the first."""
        worker, self._beat_at = self.worker, now
        age = round(worker.residual_age) if math.isfinite(worker.residual_age) else 0
        times = (worker.collect_s, worker.learn_s, worker.compress_s, worker.wait_s)
        collect_ms, learn_ms, compress_ms, wait_ms = (int(1e3 * seconds) for seconds in times)
        work_s, faults = self._work(now, worker.wait_s), tuple(self._of_session(worker.faults, session))
        told = (self.round_trip_s, work_s, collect_ms, learn_ms, compress_ms, wait_ms, age, faults)
        return Heartbeat(session, worker.env_steps, version, *told)

    def _of_session(self, faults: tuple[Fault, ...], session: int) -> Iterator[Fault]:
        """Those counted since the session's first heartbeat; a count that fell is that of a new worker."""
        if session != self._session:
            self._session, self._excused = session, self._told
        self._told = {fault.kind: fault.count for fault in faults}
        for fault in faults:
            before = self._excused.get(fault.kind, 0)
            count = fault.count - before if fault.count >= before else fault.count
            if count:
                yield Fault(fault.kind, count, fault.detail)

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
