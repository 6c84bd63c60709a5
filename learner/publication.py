"""When to publish a weight snapshot, and what of the published is kept. Pure. No clock; ``now`` is an argument.

A snapshot costs the math thread time that it could have spent applying gradients, so its own measured cost sets the
pace: from the start of one snapshot to the start of the next at least ``cost / share`` passes, which keeps the
average cost below ``share`` of elapsed time whatever the size of the network.

Kept are the newest record and, where the run has a target network, the target's: θ⁻ of Mnih et al. 2016, algorithms 1,
S1 and S2, which value methods bootstrap from.
"""

from __future__ import annotations

import bisect
import math
from collections import deque

import msgspec

from learner.events import Encoded

VERSIONS_REMEMBERED = 4096  # publication times kept to measure a gradient's age in seconds


class Publication(msgspec.Struct):
    """What was published last, and when the next may be.

    interval_s: >= 0, least time between starts. share: 0 < share <= 1, largest part of the time spent on snapshots.
    version: newest published, -1 before the first. not_before: time at which the next may start.
    """

    interval_s: float
    share: float
    version: int = -1
    not_before: float = -math.inf

    def due(self, version: int, now: float) -> bool:
        """Whether to start a snapshot of ``version`` now. The caller has at most one under way."""
        return version > self.version and now >= self.not_before

    def done(self, version: int, now: float, cost_s: float) -> None:
        """A snapshot of ``version`` was finished at ``now`` and took ``cost_s`` of the math thread."""
        self.version = version
        self.not_before = now - cost_s + max(self.interval_s, cost_s / self.share)


class Shelf:
    """The published records that somebody may still ask for, and when each version was published.

    newest: the last one. target: the target network's record, always a key; None in a run without one.

    The first record of a life is the target. After each ``interval_steps`` environment steps of the run, all actors
    together, the next record to be published becomes the new one: T mod I_target = 0 in the paper, as near as a version
    was published. The steps are counted from the first record on a fixed grid, so that a late one delays no other. A
    resumed life begins with its restored θ as the target: the old target is not in checkpoints.
    """

    def __init__(self, first: Encoded, interval_steps: int | None, env_steps: int, now: float) -> None:
        self._interval_steps, self._due_steps = interval_steps, env_steps
        self._published: deque[tuple[int, float]] = deque(maxlen=VERSIONS_REMEMBERED)  # version, time
        self.target: Encoded | None = None
        self.newest = first
        self.put(first, env_steps, now)

    def put(self, record: Encoded, env_steps: int, now: float) -> Encoded:
        """Takes a key that is about to be published; returns it with its target and the run's env_steps filled in."""
        snapshot, buffers = record
        version = self._next_target(snapshot.version, env_steps)
        self.newest = msgspec.structs.replace(snapshot, target=version, env_steps=env_steps), buffers
        if version == snapshot.version:
            self.target = self.newest
        self._published.append((snapshot.version, now))
        return self.newest

    def _next_target(self, version: int, env_steps: int) -> int | None:
        """The version that is the target from this record on."""
        if self._interval_steps is None:
            return None
        if self.target is not None and env_steps < self._due_steps:
            return self.target[0].version
        self._due_steps += self._interval_steps * ((env_steps - self._due_steps) // self._interval_steps + 1)
        return version

    @property
    def target_version(self) -> int | None:
        """Of the target network; None in a run without one."""
        return None if self.target is None else self.target[0].version

    def lag_s(self, base_version: int, now: float) -> float:
        """Seconds since newer weights than ``base_version`` were published; 0 while it is the newest."""
        index = bisect.bisect_right(self._published, base_version, key=lambda entry: entry[0])
        return now - self._published[index][1] if index < len(self._published) else 0.0
