"""How long updates are, so that any learning rate will do: a rollout should move the policy by so much. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

STRIDE_FACTOR, STRIDE_BAND = 1.5, 2.0
STRIDE_LIMITS = (1.0 / 64.0, 64.0)  # of the length of updates: a rate four orders of magnitude wrong is put right

Stand: TypeAlias = tuple[int, int]  # weights: their epoch and version


class StrideControl:
    """A rollout that moved the policy by more than twice ``target`` nats makes the next updates shorter by a half, one
    that moved it by less than half of that longer: Schulman et al. 2017, section 4, with the step in the place of the
    penalty.

    Heeded are weights of one life of the learner that followed each other, and only where most of what led from the
    first to the last came after the length was changed: changed again before the change can be seen it would overshoot,
    and the more so the later gradients are.
    """

    def __init__(self, target: float, *, stretches: bool) -> None:
        self.length = 1.0  # multiplies preconditioned updates; within STRIDE_LIMITS
        self._target, self._stretches = target, stretches
        self._lag = 0  # updates, of the gradient that was answered last
        self._since: Stand = (0, 0)  # the first weights that an update of the present length is in

    def answered(self, lags_updates: Sequence[int]) -> None:
        """lags_updates: of the gradients that were answered since the last call."""
        self._lag = lags_updates[-1] if lags_updates else self._lag

    def heed(self, kl: float, first: Stand, last: Stand) -> None:
        """kl: nats, >= 0, from the policy that collected, of the weights ``first``, to the one at the last gradient."""
        if not self._target or not self._stretches or first[0] != last[0] or first[1] >= last[1]:
            return
        epoch, since = self._since
        if first[0] == epoch and first[1] + last[1] < 2 * since:
            return
        before = self.length
        if kl > STRIDE_BAND * self._target:
            self.length = max(STRIDE_LIMITS[0], self.length / STRIDE_FACTOR)
        elif kl < self._target / STRIDE_BAND:
            self.length = min(STRIDE_LIMITS[1], self.length * STRIDE_FACTOR)
        if self.length != before:
            self._since = last[0], last[1] + 1 + self._lag

    def exhausted(self, kl: float) -> bool:
        """Whether a rollout moved the policy too far to be used again, where updates cannot be made shorter."""
        return bool(self._target) and not self._stretches and kl > STRIDE_BAND * self._target
