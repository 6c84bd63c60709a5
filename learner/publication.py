"""When to publish a weight snapshot. Pure. No clock; ``now`` is an argument, in seconds of any steady clock.

A snapshot costs the math thread time that it could have spent applying gradients, so its own measured cost sets the
pace: from the start of one snapshot to the start of the next at least ``cost / share`` passes, which keeps the
average cost below ``share`` of elapsed time whatever the size of the network.
"""

from __future__ import annotations

import math

import msgspec


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
