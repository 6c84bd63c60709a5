"""θ as an actor uses it: the stream's, less its own updates that are not in the stream yet. Pure. Knows vectors.

An actor reads what it wrote: each of its updates is in its own weights at once, and what it sends is their sum (local
SGD; with compression Basu et al. 2019, "Qsparse-local-SGD"). Once the stream shows what became of a sum, applied,
scaled or refused, what was assumed of it is taken back, and θ is the stream's to the bit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from protocol.codecs.registry import Array, Floats, Sparse


@dataclass(slots=True, eq=False)  # each is one sum, whatever its numbers: arrays have no truth to compare by
class Unshown:
    """A sum that was handed in. rate: at which it is taken as applied. version: that applying it made, once told."""

    decoded: Array
    rate: float
    version: int | None = None


class LocalSteps:
    """learning_rate: the learner's at first. steps: updates in the sum that the next message carries."""

    def __init__(self, length: int, learning_rate: float) -> None:
        self.steps = 0
        self._learning_rate = learning_rate
        self._sum: Floats = np.zeros(length, np.float32)
        self._rate = 0.0  # of the updates in the sum, the newest's
        self._unshown: deque[Unshown] = deque()

    def add(self, update: Floats, rate_share: float) -> None:
        """One more update, float32 [P], that θ takes at once. rate_share: what annealing leaves of the first rate."""
        self._sum += update
        self._rate = self._learning_rate * rate_share
        self.steps += 1

    def take(self) -> Floats:
        """The sum, float32 [P]; the next begins. Good until the next ``add``."""
        taken = self._sum.copy()
        self._sum.fill(0.0)
        self.steps = 0
        return taken

    def sent(self, decoded: Array) -> None:
        """This much of the sum is on its way."""
        self._unshown.append(Unshown(decoded, self._rate))

    def settled(self, decoded: Array, version: int | None) -> None:
        """What became of it: the version that applying it made, or None where it was not applied, or nobody knows."""
        for each in self._unshown:
            if each.decoded is decoded:
                if version is None:
                    self._unshown.remove(each)
                else:
                    each.version = version
                return

    def followed(self, version: int) -> None:
        """The stream's weights are of this version from now on."""
        for each in [each for each in self._unshown if each.version is not None and each.version <= version]:
            self._unshown.remove(each)

    def subtract_from(self, theta: Floats) -> None:
        """Takes the stream's θ, float32 [P], to this actor's."""
        for each in self._unshown:
            rate = np.float32(each.rate)
            if isinstance(each.decoded, Sparse):
                theta[each.decoded.indices] -= rate * each.decoded.values
            else:
                theta -= rate * each.decoded
        if self.steps:
            theta -= np.float32(self._rate) * self._sum

    def restart(self) -> None:
        """The weights are of another life: nothing is on its way any more."""
        self._unshown.clear()
