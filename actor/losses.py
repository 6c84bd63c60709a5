"""Actor-critic losses and their slopes. Pure. Knows tensors; no network, no optimizer, no rollout.

A loss here answers with its derivatives by logits and values, written out, instead of a graph: for a minibatch of a
few hundred samples the graph cost as much as the network. Its statistics are computed when somebody asks.

logits: float32 [N, A]; values: float32 [N]; actions: int64 [N]; log_probs_old, advantages, returns: float32 [N].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Slopes(NamedTuple):
    """Derivatives of the scalar loss. logits: float32 [N, A]; values: float32 [N]."""

    logits: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class LossStats:
    """One minibatch's statistics, each computed when it is read.

    terms: float32 [N], what the policy part takes the negated mean of
    errors: float32 [N], value - return
    log_probs: float32 [N, A], of every action
    log_ratios: float32 [N], log π(a|s) - log π_old(a|s); None for a loss without an old policy
    """

    terms: Tensor
    errors: Tensor
    log_probs: Tensor
    log_ratios: Tensor | None
    clip: float
    value_weight: float
    entropy_weight: float

    @property
    def total(self) -> float:
        """The scalar that the slopes are slopes of."""
        return self.policy_loss + self.value_weight * self.value_loss - self.entropy_weight * self.entropy

    @property
    def policy_loss(self) -> float:
        """The policy part, unweighted."""
        return -self.terms.mean().item()

    @property
    def value_loss(self) -> float:
        """Mean squared error of the values, unweighted."""
        return self.errors.square().mean().item()

    @property
    def entropy(self) -> float:
        """Mean entropy of the policy, nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(1).mean().item()

    @property
    def approx_kl(self) -> float:
        """KL(π_old, π) estimated from the samples as mean(ratio - 1 - log ratio), nats; never negative."""
        if self.log_ratios is None:
            return 0.0
        return (torch.expm1(self.log_ratios) - self.log_ratios).mean().item()

    @property
    def clip_fraction(self) -> float:
        """Share of samples whose ratio is outside 1 ± clip."""
        if self.log_ratios is None:
            return 0.0
        return (torch.expm1(self.log_ratios).abs() > self.clip).double().mean().item()


@torch.no_grad()
def clipped_loss(  # noqa: PLR0913, PLR0917 - the equation's arguments
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    log_probs_old: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip: float,
    value_weight: float,
    entropy_weight: float,
) -> tuple[Slopes, LossStats]:
    """Schulman et al. 2017, equations 7 and 9: -E[min(r A, clip(r, 1-ε, 1+ε) A)] + c1 E[(V - R)²] - c2 E[H]."""
    log_probs = torch.log_softmax(logits, 1)
    log_ratios = log_probs.gather(1, actions.unsqueeze(1)).squeeze(1).sub_(log_probs_old)
    ratios = log_ratios.exp()
    free = ratios * advantages
    bound = ratios.clamp_(1.0 - clip, 1.0 + clip).mul_(advantages)
    terms = torch.minimum(free, bound)
    pull = free.mul_(free <= bound)  # d term / d log π(a|s): r A, or 0 where the clip holds
    errors = values - returns
    value_slopes = errors * (2.0 * value_weight / len(errors))
    slopes = Slopes(_logit_slopes(log_probs, actions, pull, entropy_weight), value_slopes)
    return slopes, LossStats(terms, errors, log_probs, log_ratios, clip, value_weight, entropy_weight)


@torch.no_grad()
def a3c_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    advantages: Tensor,
    returns: Tensor,
    value_weight: float,
    entropy_weight: float,
) -> tuple[Slopes, LossStats]:
    """Mnih et al. 2016, section 4 and algorithm S3: -E[log π(a|s) A] + c1 E[(V - R)²] - c2 E[H], A held constant."""
    log_probs = torch.log_softmax(logits, 1)
    terms = log_probs.gather(1, actions.unsqueeze(1)).squeeze(1).mul_(advantages)
    errors = values - returns
    value_slopes = errors * (2.0 * value_weight / len(errors))
    slopes = Slopes(_logit_slopes(log_probs, actions, advantages, entropy_weight), value_slopes)
    return slopes, LossStats(terms, errors, log_probs, None, 0.0, value_weight, entropy_weight)


def _logit_slopes(log_probs: Tensor, actions: Tensor, pull: Tensor, entropy_weight: float) -> Tensor:
    """Slope of -mean(term) - c2 mean(H) by the logits, [N, A], where pull [N] is d term / d log π(a|s).

    d log π(a|s) / d z_j = 1[j = a] - π_j, and d H / d z_j = -π_j (log π_j + H).
    """
    probs = log_probs.exp()
    column = pull.unsqueeze(1)
    slopes = (probs * column).scatter_add_(1, actions.unsqueeze(1), -column)
    if entropy_weight:
        surprise = probs * log_probs
        slopes += surprise.sub_(probs * surprise.sum(1, keepdim=True)).mul_(entropy_weight)
    return slopes.div_(len(slopes))
