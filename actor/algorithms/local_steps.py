"""θ as an actor uses it: the stream's, less its own updates that are not in the stream yet. Pure. Knows vectors.

An actor reads what it wrote: each of its updates is in its own weights at once, and what it sends is their sum (local
SGD; with compression Basu et al. 2019, "Qsparse-local-SGD"). What compression holds back of the sums stays in its own
weights too, so that the policy that collects is the one that was learnt. Once the stream shows what became of a sum,
applied, scaled or refused, what was assumed of it is taken back, and θ is the stream's, less what is held back, to the
bit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from protocol.codecs.registry import Array, Floats, Sparse

ROLLOUTS = 4  # at most in one message of an actor whose link has no room for more messages; each is a rollout's drift


@dataclass(slots=True, eq=False)  # each is one sum, whatever its numbers: arrays have no truth to compare by
class Unshown:
    """A sum that was handed in. rate: at which it is taken as applied. version: that applying it made, once told."""

    decoded: Array
    rate: float
    version: int | None = None


class LocalSteps:
    """learning_rate: the learner's at first. most: updates in one message; None: a rollout's, or of several where the
    link is full. steps: updates in the sum that the next message carries.
    """

    def __init__(self, length: int, learning_rate: float, most: int | None = None) -> None:
        self.steps = 0
        self._most, self._rollouts = most, 0
        self._learning_rate = learning_rate
        self._sum: Floats = np.zeros(length, np.float32)
        self._rate = 0.0  # of the updates in the sum, the newest's
        self._unshown: deque[Unshown] = deque()

    def add(self, update: Floats, rate_share: float, theta: Floats) -> None:
        """One more update, float32 [P], which is spent, and which this actor's θ takes at once.

        rate_share: what annealing leaves of the first rate.
        """
        self._sum += update
        self._rate = self._learning_rate * rate_share
        self.steps += 1
        update *= np.float32(self._rate)
        theta -= update

    def full_with_next(self) -> bool:
        """Whether one more update fills the message."""
        return self._most is not None and self.steps + 1 >= self._most

    def due(self, permits_left: int) -> bool:
        """At the end of a rollout: whether its updates go now, or wait for those of the next."""
        self._rollouts += 1
        waits = self._most is None and permits_left <= 0 and self._rollouts < ROLLOUTS
        return self.steps > 0 and not waits

    def take(self) -> Floats:
        """The sum, float32 [P]; the next begins. Good until the next ``add``."""
        taken = self._sum.copy()
        self._sum.fill(0.0)
        self.steps = self._rollouts = 0
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

    def subtract_from(self, theta: Floats, held: Floats) -> None:
        """Takes the stream's θ, float32 [P], to this actor's. held: float32 [P], what compression holds back."""
        for each in self._unshown:
            rate = np.float32(each.rate)
            if isinstance(each.decoded, Sparse):
                theta[each.decoded.indices] -= rate * each.decoded.values
            else:
                theta -= rate * each.decoded
        theta -= np.float32(self._rate) * (self._sum + held if self.steps else held)

    def restart(self) -> None:
        """The weights are of another life: nothing is on its way any more."""
        self._unshown.clear()
