"""How far θ has moved since a version that actors still work with. Pure; runs on the math thread. Knows θ; no rule.

Two memories, one question, answered for k coordinates in O(k) whatever lies between. Where updates are added, a trail
of every version. Where an optimizer moves all of θ at each step, a ring of published snapshots, which others hold
anyway.
"""

from __future__ import annotations

import bisect
from collections import deque
from typing import Protocol

import numpy as np

from learner.optim.undo import ENTRY_BYTES, UndoLog, Where
from protocol.buffers import Buffer
from protocol.codecs.registry import Array, Floats, Sparse

RING_VERSIONS = 4096  # as many as the learner remembers publication times of
SMALL_BYTES = 1 << 18  # of θ, which a step copies in 20 µs; in a log the smallest step takes as long


class Drift(Protocol):
    """A memory of where θ came from."""

    def keep(self, version: int, theta: Buffer) -> None:
        """A snapshot of ``version`` is about to be published. theta: float32 [P] as bytes that nobody will change."""

    def note(self, version: int, value: Array) -> None:
        """θ of ``version`` is about to be changed where ``value`` is, which makes the next version."""

    def since(self, version: int, where: Where) -> Floats | None:
        """θ now − θ of ``version`` at these coordinates, float32 [k]; None where nothing is known of that time.

        Of a version before the oldest that is held, the drift since the oldest, which understates it.
        """


class Trail:
    """θ of the newest versions, each exactly; bounded by bytes and by the age that is accepted.

    theta: θ as it is now. max_bytes: of all that is held; the newest is kept whatever it takes. max_lag_updates: older
    versions than this are no gradient's base any more.

    A version is held as a copy of θ, or by what the step away from it overwrote. A copy costs least time where θ is
    small, so small networks have one of every version, as far as ``max_bytes`` bears them; it costs fewer bytes where
    a step changes a quarter of θ or more.
    """

    def __init__(self, theta: Floats, max_bytes: int, max_lag_updates: int) -> None:
        self._theta, self._max_bytes, self._max_lag_updates = theta, max_bytes, max_lag_updates
        self._log = UndoLog(theta.size, max_bytes // ENTRY_BYTES)
        self._positions: deque[int] = deque()  # in the log, of each version from the oldest to the last before now
        self._now = 0
        self._copies: deque[tuple[int, Floats]] = deque()  # with their versions, oldest first
        small = theta.nbytes <= min(SMALL_BYTES, max_bytes // max(max_lag_updates, 1))
        self._least_copied = 0 if small else -(-theta.nbytes // ENTRY_BYTES)  # coordinates of a step

    def keep(self, version: int, theta: Buffer) -> None:
        """Drift.keep: nothing is needed."""

    def note(self, version: int, value: Array) -> None:
        """Drift.note. O(k), or where that is cheap a copy of θ."""
        if version != self._now:  # θ came from elsewhere
            self._positions.clear()
            self._copies.clear()
        self._now = version + 1
        self._positions.append(self._log.end)
        if not isinstance(value, Sparse) or len(value.indices) >= max(1, self._least_copied):
            self._copies.append((version, self._theta.copy()))
        elif len(value.indices):
            self._log.write(value.indices, self._theta[value.indices])
        while len(self._positions) > 1 and self._surplus():
            self._positions.popleft()
            while self._copies and self._copies[0][0] < self._oldest:
                self._copies.popleft()
        self._log.begin = max(self._log.begin, self._positions[0])

    @property
    def copies(self) -> int:
        """Of all of θ, that are held."""
        return len(self._copies)

    @property
    def _oldest(self) -> int:
        """Version."""
        return self._now - len(self._positions)

    def _surplus(self) -> bool:
        """Whether the oldest version is too old, too much, or forgotten by the log."""
        logged = self._log.end - self._positions[0]
        held_bytes = logged * ENTRY_BYTES + len(self._copies) * self._theta.nbytes
        outdated = len(self._positions) > self._max_lag_updates
        return outdated or held_bytes > self._max_bytes or self._positions[0] < self._log.begin

    def since(self, version: int, where: Where) -> Floats | None:
        """Drift.since. O(k log n), n being the steps since then that changed one coordinate."""
        if version >= self._now or not self._positions:
            return None
        version = max(version, self._oldest)
        start, stop, source = self._positions[version - self._oldest], self._log.end, self._theta
        index = bisect.bisect_left(self._copies, version, key=lambda copy: copy[0])
        if index < len(self._copies):
            copied, source = self._copies[index]
            stop = self._positions[copied - self._oldest]
        values: Floats = source[where].copy()
        if start < stop:
            self._log.undo(values, where, start, stop)
        drift: Floats = self._theta[where] - values
        return drift

    def __len__(self) -> int:
        """Versions that are held."""
        return len(self._positions)


class Ring:
    """θ of the newest published versions, oldest first; bounded by count, by bytes and by the age that is accepted.

    The arrays are views of the snapshots' own buffers. theta: θ as it is now. max_bytes, max_lag_updates: as of Trail.
    """

    def __init__(self, theta: Floats, max_bytes: int, max_lag_updates: int) -> None:
        self._theta = theta
        self._max_bytes, self._max_lag_updates = max_bytes, max_lag_updates
        self._versions: list[int] = []
        self._thetas: list[Floats] = []

    def keep(self, version: int, theta: Buffer) -> None:
        """Drift.keep. version: not below any before."""
        if self._versions and self._versions[-1] == version:
            return
        view: Floats = np.frombuffer(theta, "<f4")
        self._versions.append(version)
        self._thetas.append(view)
        most = max(1, min(RING_VERSIONS, self._max_bytes // max(view.nbytes, 1)))
        young = bisect.bisect_left(self._versions, version - self._max_lag_updates)
        surplus = max(young, len(self._versions) - most)
        del self._versions[:surplus], self._thetas[:surplus]

    def note(self, version: int, value: Array) -> None:
        """Drift.note: snapshots tell enough."""

    def since(self, version: int, where: Where) -> Floats | None:
        """Drift.since."""
        index = bisect.bisect_left(self._versions, version)
        if index == len(self._versions):
            return None
        drift: Floats = self._theta[where] - self._thetas[index][where]
        return drift

    def __len__(self) -> int:
        return len(self._versions)
