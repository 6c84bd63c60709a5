"""What a worker tells of its rollouts and gradients, as the wire has it. Pure."""

from __future__ import annotations

from actor.algorithms.losses import LossStats
from protocol.messages import Losses, Report

MAX_EPISODES = 10_000  # in one report, of an actor that could not report for long; far inside the wire's bound


def joined(earlier: Report | None, later: Report) -> Report:
    """One report of two rollouts: steps and episodes add up, the rest is the later one's."""
    if earlier is None:
        return later
    episodes = (earlier.episodes + later.episodes)[-MAX_EPISODES:]
    return Report(earlier.env_steps + later.env_steps, episodes, later.losses, later.observations)


def losses_of(stats: LossStats, norm: float, residual_norm: float) -> Losses:
    """norm: of the gradient before it was clipped. residual_norm: of what compression holds back."""
    return Losses(
        policy=stats.policy_loss,
        value=stats.value_loss,
        entropy=stats.entropy,
        kl=stats.approx_kl,
        clipped=stats.clip_fraction,
        gradient_norm=norm,
        residual_norm=residual_norm,
    )
