"""Whether an actor is alive: its link ticks, and its worker gets on. Pure. No clock; ``now`` is an argument.

An actor that waits for a learner is alive: its worker looks around every second and adds what it waited.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

LINK_STUCK_S = 30.0  # it ticks twenty times a second
WORKER_STUCK_S = 300.0  # of one rollout, one gradient, the import of torch or the making of all simulators


class Liveness:
    """When either was seen last. Each of its two methods belongs to one thread at a time."""

    def __init__(self, now: float) -> None:
        self._ticked_at = self._moved_at = now
        self._progress: Hashable = None

    def tick(self, progress: Hashable, now: float) -> None:
        """The link ticked. progress: of the worker; any other value than before says that it got on."""
        self._ticked_at = now
        if progress != self._progress:
            self._progress, self._moved_at = progress, now

    def trouble(self, now: float) -> str | None:
        """Why it is not alive, or None."""
        for what, since, patience_s in (
            ("the link", self._ticked_at, LINK_STUCK_S),
            ("the worker", self._moved_at, WORKER_STUCK_S),
        ):
            if now - since > patience_s:
                return f"{what} has not moved for {math.floor(now - since)} s"
        return None
