"""The weights that a simulated actor uses with local steps: real ``LocalSteps``, and what they must come to. No clock.

Beside each of the actor's own sums stands what is true of it, told by the learner's side of the world: ``check`` takes
what the actor holds of itself beyond the stream and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from actor.algorithms.local_steps import LocalSteps
from actor.events import Weights, Work
from actor.handoff import WorkerChannel
from actor.link import weights as stream
from protocol.codecs.registry import Array, Floats, Sparse
from protocol.messages import Welcome

Fate = Literal["under way", "restored", "gone"]
ROUNDING = 1e-4  # what rounding comes to where the numbers are not exact


@dataclass(eq=False)
class Parcel:
    """One message as God sees it.

    work: as it was handed in. updates: how many it is the sum of; 0 for what a leaving actor
    held back. number:
    (session, sequence), once it was sent. version: that applying it made, where a verdict told the actor so. heard:
    whether its worker has asked since.
    """

    work: Work
    updates: int
    number: tuple[int, int] | None = None
    fate: Fate = "under way"
    version: int | None = None
    heard: bool = False


class OwnWeights:
    """θ of an actor with local steps. theta: float32 [P], what it computes with. steps: most updates in a message.

    held: float32 [P], what the compressor holds back, as it stands. rollout_over: what is collected goes out before the
    next update. collecting: float64 [P], of updates that no message carries yet.
    """

    def __init__(self, held: Floats, steps: int, learning_rate: float) -> None:
        length = len(held)
        self.local, self._held = LocalSteps(length, learning_rate), held
        self.steps, self.rollout_over = steps, False
        self.theta: Floats = np.zeros(length, np.float32)
        self.weights: Weights | None = None
        self.collecting = np.zeros(length)
        self._updates = 0  # in ``collecting``
        self._parcels: list[Parcel] = []  # of which the stream may yet lack something
        self._unheard: list[Parcel] = []  # settled since the worker asked last

    # as the worker does it

    @property
    def must_send(self) -> bool:
        """Whether the next that the worker does ends with a message."""
        return self.rollout_over or self.local.steps + 1 >= self.steps

    def refresh(self, channel: WorkerChannel) -> None:
        """The newest weights, and what became of this actor's own sums."""
        before, newest, settled = self.weights, channel.newest(), channel.collect_settled()
        for decoded, version in settled:
            self.local.settled(decoded, version)
        self._hear()
        self._adopt(newest)
        if settled and self.weights is before:
            self.load()

    def _adopt(self, weights: Weights | None) -> None:
        if weights is None or weights is self.weights:
            return
        if self.weights is not None and weights.epoch != self.weights.epoch:
            self.local.restart()
        self.weights = weights
        self.load()

    def add(self, update: Floats) -> None:
        """θ takes an update, float32 [P], at once."""
        self.collecting += update
        self._updates += 1
        self.local.add(update.copy(), 1.0, self.theta)
        self.load()

    def take(self) -> tuple[Floats, int]:
        """The sum of the updates that no message carries yet, float32 [P], and how many they are."""
        taken, updates = self.local.take(), self._updates
        self.collecting, self._updates, self.rollout_over = np.zeros_like(self.collecting), 0, False
        return taken, updates

    def sent(self, decoded: Array) -> None:
        """This much of what was taken is on its way."""
        self.local.sent(decoded)
        self.load()

    def load(self) -> None:
        """θ of the stream, less what is this actor's own and not in it."""
        assert self.weights is not None
        self.local.followed(self.weights.version)
        self.theta = self._from(self.weights.theta)

    def _from(self, theta: Floats) -> Floats:
        """A copy of θ, less what LocalSteps holds beyond it."""
        own = theta.copy()
        self.local.subtract_from(own, self._held)
        return own

    @property
    def holds_back(self) -> bool:
        """Whether compression does."""
        return bool(self._held.any())

    # as God sees it

    def handed_in(self, parcel: Parcel) -> None:
        self._parcels.append(parcel)

    def settled(self, parcel: Parcel) -> None:
        """The link told the channel what became of it; the worker hears when it asks."""
        self._unheard.append(parcel)

    def _hear(self) -> None:
        for parcel in self._unheard:
            parcel.heard = True
        self._unheard.clear()

    def beyond(self) -> list[Parcel]:
        """What the stream does not show for all that the worker can know: not answered, or applied later."""
        held = self.weights
        assert held is not None
        self._parcels = [
            each
            for each in self._parcels
            if each.work.epoch == held.epoch
            and (not each.heard or (each.version is not None and each.version > held.version))
        ]
        return self._parcels

    def truth(self) -> np.ndarray:
        """The sum that θ must lack of the stream's, float64 [P]."""
        lacks = self.collecting + self._held
        for each in self.beyond():
            lacks += dense(each.work.decoded)
        return lacks

    def check(
        self,
        promise: Callable[[bool, str], None],
        rates: Mapping[int, float],
        exact: bool,
        most_credit: int,
        credit_lag: int,
    ) -> None:
        """rates: the learning rate of each life of the learner. exact: whether all numbers are small dyadic ones.

        most_credit: the largest that was ever granted.
        """
        if self.weights is None:
            return
        rate, none = rates[self.weights.epoch], np.zeros(len(self.theta), np.float32)
        error = float(np.abs(rate * self.truth() + self._from(none)).max())
        promise(error <= (0.0 if exact else rate * ROUNDING), f"beyond the stream it is off by {error}")
        same = self.theta.tobytes() == self._from(self.weights.theta).tobytes()
        promise(same, "it uses other weights than it should by what it knows")
        if not self._parcels and not self._updates and not self.holds_back:
            same = self.theta.tobytes() == self.weights.theta.tobytes()
            promise(same, "nothing is beyond the stream, and its weights are not the stream's")
        under_way = sum(not each.heard for each in self._parcels)
        worth = under_way + (self._updates > 0)
        promise(worth <= most_credit + 1, f"{worth} messages' worth is beyond the stream and not answered")
        unshown = len(self._parcels) - under_way
        bound = max(stream.LEAST_UNREFLECTED, credit_lag) + most_credit
        promise(unshown <= bound, f"{unshown} messages were applied, and its weights do not show them")


def make_own_weights(held: Floats, steps: int, welcome: Welcome) -> OwnWeights | None:
    """None where each gradient is a message, as in ``actor/worker.py``, which knows torch."""
    if steps == 1 or welcome.quantity != "update" or not welcome.learning_rate:
        return None
    return OwnWeights(held, steps, welcome.learning_rate)


def dense(value: Array) -> np.ndarray:
    """float64 [P]."""
    return (value.dense() if isinstance(value, Sparse) else value).astype(np.float64)
