"""How far θ has moved since a version that actors still work with. Pure; runs on the math thread. Knows θ; no rule.

Two memories, one question. Where updates are added, a trail of the steps themselves: what is asked for k coordinates
costs O(k · lag) and never a pass over θ. Where an optimizer moves all of θ at each step, a ring of published
snapshots, which others hold anyway.
"""

from __future__ import annotations

import bisect
from collections import deque
from itertools import takewhile
from typing import Protocol

import numpy as np

from protocol.codecs import Array, Floats, Sparse
from protocol.messages import Buffer
from protocol.updates import subtract
from protocol.vectors import Indices

RING_VERSIONS = 4096  # as many as the learner remembers publication times of

Where = slice | Indices  # all coordinates, or int32 [k]


class Drift(Protocol):
    """A memory of where θ came from."""

    def keep(self, version: int, theta: Buffer) -> None:
        """A snapshot of ``version`` is about to be published. theta: float32 [P] as bytes that nobody will change."""

    def note(self, version: int, value: Array, factor: np.float32) -> None:
        """θ ← θ − factor · value made ``version``. value: is not changed by anybody from now on."""

    def since(self, version: int, where: Where) -> Floats | None:
        """θ now − θ of ``version`` at these coordinates, float32 [k]; None where nothing is known of that time.

        Of a version before the oldest that is held, the drift since the oldest, which understates it.
        """


class Trail:
    """The newest steps, oldest first; bounded by bytes and by the age that is accepted. Bound to one θ's length.

    max_bytes: of all of them; the newest is kept whatever it takes. max_lag_updates: older versions than this are no
    gradient's base any more.
    """

    def __init__(self, length: int, max_bytes: int, max_lag_updates: int) -> None:
        self._max_bytes, self._max_lag_updates = max_bytes, max_lag_updates
        self._steps: deque[tuple[int, Array, np.float32]] = deque()
        self._held_bytes = 0
        self._sum = np.zeros(length, np.float32)  # zeros between two questions

    def keep(self, version: int, theta: Buffer) -> None:
        """Drift.keep: nothing is needed."""

    def note(self, version: int, value: Array, factor: np.float32) -> None:
        """Drift.note."""
        self._steps.append((version, value, factor))
        self._held_bytes += _bytes(value)
        while len(self._steps) > 1 and (self._held_bytes > self._max_bytes or self._outdated(version)):
            self._held_bytes -= _bytes(self._steps.popleft()[1])

    def _outdated(self, version: int) -> bool:
        return self._steps[0][0] <= version - self._max_lag_updates

    def since(self, version: int, where: Where) -> Floats | None:
        """Drift.since: the steps of later versions, added up in a vector that is zero again afterwards."""
        later = list(takewhile(lambda step: step[0] > version, reversed(self._steps)))
        if not later:
            return None
        for _, value, factor in later:
            subtract(self._sum, value, factor)
        drift: Floats = self._sum[where].copy()
        for _, value, _ in later:
            self._sum[value.indices if isinstance(value, Sparse) else slice(None)] = 0.0
        return drift

    def __len__(self) -> int:
        return len(self._steps)


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

    def note(self, version: int, value: Array, factor: np.float32) -> None:
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


def _bytes(value: Array) -> int:
    return value.indices.nbytes + value.values.nbytes if isinstance(value, Sparse) else value.nbytes
