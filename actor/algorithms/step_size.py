"""How long updates are, so that any learning rate will do: a rollout should move the policy by so much. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from protocol.annealing import Told

STEP_FACTOR, STEP_BAND = 1.5, 2.0
FORGETS = 0.05  # of a factor's logarithm, with each rollout, where many share what is measured
STEP_LIMITS = (1.0 / 64.0, 64.0)  # of the length of updates: a rate four orders of magnitude wrong is put right
LEAST_INFORMATION = 0.1  # share of the most (Likelihood.information); of less the divergence tells no length


class WeightsId(NamedTuple):
    """Which weights: of which life of the learner, and which version."""

    epoch: int
    version: int


class StepSizeControl:
    """A rollout that moved the policy by more than twice ``target`` nats makes the next updates shorter by a half, one
    that moved it by less than half of that longer: Schulman et al. 2017, section 4, with the step in the place of the
    penalty.

    What is put right so is a rate that is too low, and nothing else that makes a divergence small. One is annealing: a
    divergence goes with the square of the rate, so what makes updates longer is compared to the target times the square
    of the share that is left of the rate. Another is a policy that has settled: where its actions are nearly certain,
    steps of any length move it by nearly nothing until they undo it, so there updates become no longer than the rate
    has them.

    Heeded are weights of one life of the learner that followed each other, and only where most of what led from the
    first to the last came after the length was changed: changed again before the change can be seen it would overshoot,
    and the more so the later gradients are.
    """

    def __init__(self, target: float, *, stretches: bool, annealing: Told = Told()) -> None:  # noqa: B008 - a value
        self.factor = 1.0  # multiplies preconditioned updates; within STEP_LIMITS
        self.cuts = bool(target) and not stretches  # rollouts short, since updates have no length to change
        self._target, self._stretches = target, stretches
        self.active = bool(target) and stretches
        self._annealing = annealing  # the learner's
        self._lag = 0  # updates, of the gradient that was answered last
        self._asked_longer = False  # by the rollout before, with local steps
        self._since = WeightsId(0, 0)  # the first weights that an update of the present factor is in

    def record_lags(self, lags_updates: Sequence[int]) -> None:
        """lags_updates: of the gradients that were answered since the last call."""
        self._lag = lags_updates[-1] if lags_updates else self._lag

    def update(self, kl: float, information: float, env_steps: int, first: WeightsId, last: WeightsId) -> None:
        """kl: nats, >= 0, from the policy that collected, of the weights ``first``, to the one at the last gradient.

        information: of that policy, as a share of the most. env_steps: of the run at those weights.
        """
        if not self._target or not self._stretches or first.epoch != last.epoch or first.version >= last.version:
            return
        since = self._since
        if first.epoch == since.epoch and first.version + last.version < 2 * since.version:
            return
        factor = self._next(kl, information, self._target * self.rate_share(env_steps) ** 2)
        if factor != self.factor:
            self.factor, self._since = factor, WeightsId(last.epoch, last.version + 1 + self._lag)

    def update_local(
        self, kl: float, information: float, env_steps: int, *, lengthens: bool = True, shared: bool = False
    ) -> None:
        """As ``update``, of an actor whose own updates are in its weights at once: every rollout tells.

        lengthens: whether updates may become longer. shared: whether other actors' updates are in what was measured.
        All of them then answer to the same measure, and whoever is ahead by chance would stay so: of eight actors two
        did all that was learnt. So each factor returns by a part of its way to 1, to which what is measured takes all
        of them back alike: what they differ by fades.

        Updates become longer after two rollouts in a row that ask for it: what is too long undoes what was learnt, and
        what is too short costs a rollout.
        """
        if not self._target or not self._stretches:
            return
        if shared:
            self.factor **= 1.0 - FORGETS
        factor = self._next(kl, information, self._target * self.rate_share(env_steps) ** 2)
        longer = factor > self.factor
        if longer and not lengthens:
            return
        if not longer or self._asked_longer:
            self.factor = factor
        self._asked_longer = longer and not self._asked_longer

    def _next(self, kl: float, information: float, annealed: float) -> float:
        """annealed: nats, the target at the present rate."""
        if kl > STEP_BAND * self._target:
            return max(STEP_LIMITS[0], self.factor / STEP_FACTOR)
        return min(self._most(information), self.factor * STEP_FACTOR if kl < annealed / STEP_BAND else self.factor)

    def _most(self, information: float) -> float:
        """A settled policy's updates become no longer than the rate has them."""
        return STEP_LIMITS[1] if information >= LEAST_INFORMATION else max(1.0, self.factor / STEP_FACTOR)

    def rate_share(self, env_steps: int) -> float:
        """What annealing leaves of the first rate (WIRE.md, section 3, welcome)."""
        return self._annealing.share(env_steps)

    def exhausted(self, kl: float) -> bool:
        """Whether a rollout moved the policy too far to be used again, where updates cannot be made shorter."""
        return self.cuts and kl > STEP_BAND * self._target
