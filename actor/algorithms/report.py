"""What an actor tells of its rollouts: added up until a gradient takes it along. Pure. Knows rollouts and the wire.

A report rides on a gradient, and not every rollout has one that leaves: so reports of several are joined. Steps and
episodes add up, metrics are means of all, and of losses the last word counts.
"""

from __future__ import annotations

from actor.algorithms.losses import LossStats
from actor.algorithms.rollout import Rollout
from actor.environments.metrics import joined
from protocol.messages import Episode, Losses, Metric, Report
from protocol.moments import Moments

MAX_EPISODES = 10_000  # in one report, of an actor that could not report for long; far inside the wire's bound


class ReportBuilder:
    """losses: of the last gradient of the newest rollout that had one. explained_variance: of its targets, None: not
    known.
    """

    def __init__(self) -> None:
        self.losses = Losses()
        self.explained_variance: float | None = None
        self._report: Report | None = None
        self._moments: Moments | None = None

    def learnt(self, stats: LossStats, norm: float, residual_norm: float) -> None:
        """A rollout's last gradient was taken. norm: of it, before clipping."""
        self.losses = Losses(
            policy=stats.policy_loss,
            value=stats.value_loss,
            entropy=stats.entropy,
            kl=stats.approx_kl,
            clipped=stats.clip_fraction,
            gradient_norm=norm,
            residual_norm=residual_norm,
        )

    def add(self, rollout: Rollout, metrics: tuple[Metric, ...]) -> None:
        """A rollout was collected, and while it was its environments measured this."""
        if rollout.moments is not None and rollout.moments[0]:
            seen = Moments(*rollout.moments)
            self._moments = seen if self._moments is None else self._moments.merge(seen)
        rows = 0 if self._moments is None else self._moments.count
        episodes = tuple(Episode(score, length) for score, length in rollout.episodes)
        report = Report(rollout.env_steps, episodes, self.losses, rows, self.explained_variance, metrics)
        self._report = report if self._report is None else _joined(self._report, report)

    def restore(self, report: Report) -> None:
        """One that was taken and never left, so nobody has booked it; its moments are let go."""
        later = self._report or Report(0, (), self.losses, 0, self.explained_variance)
        self._report = _joined(report, later)

    def take(self) -> tuple[Report | None, Moments | None]:
        """What the next gradient takes along; None where there is nothing to tell."""
        report, moments = self._report, self._moments
        self._report = self._moments = None
        return report, moments


def _joined(earlier: Report, later: Report) -> Report:
    """One report of two rollouts."""
    return Report(
        env_steps=earlier.env_steps + later.env_steps,
        episodes=(earlier.episodes + later.episodes)[-MAX_EPISODES:],
        losses=later.losses,
        observations=later.observations,
        explained_variance=later.explained_variance,
        metrics=joined(earlier.metrics, later.metrics) if earlier.metrics else later.metrics,
    )
