"""Losses and their gradients. Pure. Knows arrays and likelihoods; no network, no optimizer, no rollout.

A loss answers with its derivatives by the network's outputs and values, written out, and with statistics that are
computed when somebody asks.

values, log_probs_old, advantages, returns: float32 [N]. outputs: float32 [N, K].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.distributions import Likelihood
from actor.networks.policy import Array

quiet = np.errstate(over="ignore", invalid="ignore")  # what is not finite is seen in the norm of its gradient


class OutputGradients(NamedTuple):
    """Derivatives of the scalar loss. outputs: float32 [N, K]; values: float32 [N], None without a value function."""

    outputs: Array
    values: Array | None


@dataclass(frozen=True, slots=True)
class LossStats:
    """One minibatch's statistics, each computed when it is read.

    terms: float32 [N], what the policy part takes the negated mean of; None for a loss without a policy
    errors: float32 [N], value - return
    likelihood: of the actions; None for a loss without a policy
    log_ratios: float32 [N], log π(a|s) - log π_old(a|s); None for a loss without an old policy
    clip: how far from 1 a ratio may be without being counted as clipped; infinite where nothing is clipped
    """

    terms: Array | None
    errors: Array
    likelihood: Likelihood | None = None
    log_ratios: Array | None = None
    clip: float = math.inf
    value_weight: float = 1.0
    entropy_weight: float = 0.0

    @property
    def total(self) -> float:
        """The scalar whose derivatives the gradients are."""
        return self.policy_loss + self.value_weight * self.value_loss - self.entropy_weight * self.entropy

    @property
    @quiet
    def policy_loss(self) -> float:
        """The policy part, unweighted."""
        return 0.0 if self.terms is None else -float(self.terms.mean())

    @property
    @quiet
    def value_loss(self) -> float:
        """Mean squared error of the values, unweighted."""
        return float(np.square(self.errors).mean())

    @property
    def entropy(self) -> float:
        """Mean entropy of the policy, nats."""
        return 0.0 if self.likelihood is None else float(self.likelihood.entropies.mean())

    @property
    def information(self) -> float:
        """What the policy's actions can tell of its outputs, as ``Likelihood.information`` has it; 0 without one."""
        return 0.0 if self.likelihood is None else self.likelihood.information

    @property
    @quiet
    def approx_kl(self) -> float:
        """KL(π_old, π) estimated from the samples as mean(ratio - 1 - log ratio), nats; never negative."""
        if self.log_ratios is None:
            return 0.0
        return float((np.expm1(self.log_ratios) - self.log_ratios).mean())

    @property
    @quiet
    def clip_fraction(self) -> float:
        """Share of samples whose ratio is outside 1 ± clip."""
        if self.log_ratios is None:
            return 0.0
        return float((np.abs(np.expm1(self.log_ratios)) > self.clip).mean())


def clipped_loss(
    likelihood: Likelihood,
    values: Array,
    log_probs_old: Array,
    advantages: Array,
    returns: Array,
    clip: float,
    value_weight: float,
    entropy_weight: float,
) -> tuple[OutputGradients, LossStats]:
    """Schulman et al. 2017, equations 7 and 9: -E[min(r A, clip(r, 1-ε, 1+ε) A)] + c1 E[(V - R)²] - c2 E[H]."""
    log_ratios = likelihood.log_probs - log_probs_old
    ratios = np.exp(log_ratios)
    free = ratios * advantages
    np.minimum(np.maximum(ratios, 1.0 - clip, out=ratios), 1.0 + clip, out=ratios)
    bound = np.multiply(ratios, advantages, out=ratios)
    terms = np.minimum(free, bound)
    term_gradients = np.multiply(free, free <= bound, out=free)  # d term / d log π(a|s): r A, or 0 where the clip holds
    errors = values - returns
    by_outputs = likelihood.output_gradients(term_gradients, entropy_weight)
    gradients = OutputGradients(by_outputs, errors * (2.0 * value_weight / len(errors)))
    return gradients, LossStats(terms, errors, likelihood, log_ratios, clip, value_weight, entropy_weight)


def a3c_loss(
    likelihood: Likelihood,
    values: Array,
    advantages: Array,
    returns: Array,
    value_weight: float,
    entropy_weight: float,
) -> tuple[OutputGradients, LossStats]:
    """Mnih et al. 2016, section 4 and algorithm S3: -E[log π(a|s) A] + c1 E[(V - R)²] - c2 E[H], A held constant."""
    terms = likelihood.log_probs * advantages
    errors = values - returns
    by_outputs = likelihood.output_gradients(advantages, entropy_weight)
    gradients = OutputGradients(by_outputs, errors * (2.0 * value_weight / len(errors)))
    return gradients, LossStats(terms, errors, likelihood, None, 0.0, value_weight, entropy_weight)


def q_loss(action_values: Array, actions: NDArray[np.int64], returns: Array) -> tuple[OutputGradients, LossStats]:
    """Mnih et al. 2016, algorithms 1, S1 and S2: E[(R - Q(s, a; θ))²], R held constant.

    action_values: float32 [N, A]. actions: int64 [N, 1].
    """
    taken = np.arange(len(actions)), actions[:, 0]
    errors = action_values[taken] - returns
    gradients = np.zeros_like(action_values)
    gradients[taken] = errors * (2.0 / len(errors))
    return OutputGradients(gradients, None), LossStats(None, errors)
