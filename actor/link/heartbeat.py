"""What an actor tells of its link and its worker with each heartbeat. Pure; times are arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator

from actor.compression.running_mean import running_mean
from actor.stats import WorkerStats
from protocol.messages import Fault, Heartbeat


class HeartbeatBuilder:
    """Round trips and work since the last heartbeat.

    round_trip_s: running mean of the answered, 0 before the first. worker: what it did until the last tick.
    """

    def __init__(self) -> None:
        self.round_trip_s, self.worker = 0.0, WorkerStats()
        self._built_at = 0.0
        self._gradients = 0  # since the last heartbeat
        self._session = 0
        self._earlier: dict[str, int] = {}  # faults that were reported in earlier sessions
        self._reported: dict[str, int] = {}  # all of them so far
        self._since: tuple[float, float] | None = None  # when the last heartbeat was, and what had been waited by then

    def count_gradient(self) -> None:
        """A gradient was handed to the link."""
        self._gradients += 1

    def record_round_trip(self, round_trip_s: float) -> None:
        """A gradient that was sent once is answered."""
        self.round_trip_s = running_mean(self.round_trip_s or None, round_trip_s)

    def is_due(self, now: float, heartbeat_s: float) -> bool:
        """Whether the last heartbeat is that long ago, or something went wrong in a way that it has not before."""
        new = any(fault.kind not in self._reported for fault in self.worker.faults)
        return new or now - self._built_at >= heartbeat_s

    def build(self, now: float, session: int, version: int) -> Heartbeat:
        """The heartbeat that is due: WIRE.md, section 3. version: of the newest weights held, 0 before the first."""
        worker, self._built_at = self.worker, now
        return Heartbeat(
            session=session,
            progress=worker.env_steps,
            version=version,
            round_trip_s=self.round_trip_s,
            work_s=self._work_s(now, worker.wait_s),
            collect_ms=int(1e3 * worker.collect_s),
            learn_ms=int(1e3 * worker.learn_s),
            compress_ms=int(1e3 * worker.compress_s),
            wait_ms=int(1e3 * worker.wait_s),
            residual_age=round(worker.residual_age) if math.isfinite(worker.residual_age) else 0,
            faults=tuple(self._of_session(worker.faults, session)),
        )

    def _of_session(self, faults: tuple[Fault, ...], session: int) -> Iterator[Fault]:
        """Those counted since the session's first heartbeat; a count that fell is that of a new worker."""
        if session != self._session:
            self._session, self._earlier = session, self._reported
        self._reported = {fault.kind: fault.count for fault in faults}
        for fault in faults:
            before = self._earlier.get(fault.kind, 0)
            count = fault.count - before if fault.count >= before else fault.count
            if count:
                yield Fault(fault.kind, count, fault.detail)

    def _work_s(self, now: float, waited_s: float) -> float:
        """Seconds of work for each gradient since the last call, waiting for permits not counted; 0 if unknown."""
        gradients, since = self._gradients, self._since
        self._gradients, self._since = 0, (now, waited_s)
        if since is None or not gradients:
            return 0.0
        return max(0.0, now - since[0] - (waited_s - since[1])) / gradients
