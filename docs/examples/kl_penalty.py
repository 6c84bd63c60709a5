"""PPO with a penalty in the place of the clip (Schulman et al. 2017, equation 8). Knows Farflung's algorithms."""

import numpy

from actor.algorithms.losses import LossStats, OutputGradients
from actor.algorithms.methods import ActorCritic
from actor.traits import Traits


class KLPenalty(ActorCritic):
    """-E[r A - β (r - 1 - log r)] + c1 E[(V - R)²] - c2 E[H], with r = π(a|s) / π_old(a|s).

    E[r - 1 - log r] over actions of π_old is KL(π_old, π). β begins at ``weight``. After each rollout it is halved
    where the policy moved by less than ``target`` / 1.5 nats, and doubled where it moved by more than 1.5 ``target``.
    """

    traits = Traits(learns_from_older=True, ignores=("loss", "clip"))

    def __init__(self, settings, spaces, policy, generator, *, weight=1.0, target=0.01):
        super().__init__(settings, spaces, policy, generator)
        if weight <= 0.0 or target <= 0.0:
            raise ValueError("weight and target have to be above 0")
        self.weight, self.target, self.moved = weight, target, None

    def targets(self, rollout):
        if self.moved is not None:
            factor = 2.0 if self.moved > 1.5 * self.target else 0.5 if self.moved < self.target / 1.5 else 1.0
            self.weight, self.moved = min(max(self.weight * factor, 1e-3), 1e3), None
        return super().targets(rollout)

    def loss(self, outputs, values, sample):
        likelihood = self.distribution.likelihood(outputs, sample.actions, sample.masks)
        log_ratios = likelihood.log_probs - sample.policy.log_probs
        ratios, advantages = numpy.exp(log_ratios), sample.policy.advantages
        terms = ratios * advantages - self.weight * (ratios - 1.0 - log_ratios)
        by_log_probs = ratios * advantages - self.weight * (ratios - 1.0)  # d term / d log π(a|s)
        errors, value_weight = values - sample.returns, self.settings.value_weight
        gradients = OutputGradients(
            outputs=likelihood.output_gradients(by_log_probs, self.entropy_weight),
            values=errors * (2.0 * value_weight / len(errors)),
        )
        stats = LossStats(
            terms,
            errors,
            likelihood,
            log_ratios,
            value_weight=value_weight,
            entropy_weight=self.entropy_weight,
        )
        self.moved = stats.approx_kl
        return gradients, stats
