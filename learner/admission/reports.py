"""What training actors report of their rollouts, as far as it can be true, and what of it counts. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from learner.admission.checks import believable
from learner.events import APPLIED, Announce, Effect
from learner.progress import MOST_METRICS, Progress
from protocol.errors import STALE, Reason
from protocol.messages import Gradient, Report
from protocol.session import Peer

# What says nothing against the sender of a gradient that it was refused for.
BLAMELESS = STALE | {Reason.DRAINING, Reason.OVER_QUOTA}


class Reports:
    """Books of one run. Steps count when they are told, episodes once it is known what became of their gradient."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collected_from(self, gradient: Gradient, peer: Peer, steps_at: Callable[[int], int]) -> int:
        """Environment steps of the run when its sender's rollout began: after its last report, or with older weights.

        Local steps compute on the newest weights from what older ones collected, so a base version alone says too few.
        In a run with stages no later than at the last gradient of the rollout before: an actor's stage is that of its
        weights, which may be older than what it reported. steps_at: of the run, when a version was published.
        """
        known = [steps_at(gradient.base_version)]
        if peer.reported_at_steps is not None:
            known.append(peer.reported_at_steps)
        if self._progress.tasks:
            known.append(steps_at(peer.based_version))
        return min(known)

    def receive(self, gradient: Gradient, peer: Peer, now: float) -> tuple[Report | None, list[Effect]]:
        """What a gradient tells of its actor, without what cannot be true: that is counted, and told once a session.

        Its steps count whatever becomes of the gradient.
        """
        peer.version = peer.based_version = gradient.base_version
        if gradient.report is None:
            return None, []
        believed = believable(gradient.report, max(0, peer.life_steps - peer.episode_steps))
        report, effects = self._named(believed, peer)
        peer.env_steps += report.env_steps
        peer.life_steps += report.env_steps
        peer.episode_steps += sum(episode.length for episode in report.episodes)
        peer.progressed_at = now
        self._progress.step(report.env_steps)
        peer.reported_at_steps = self._progress.env_steps
        if believed == gradient.report:
            return report, effects
        peer.doubted += 1
        self._progress.reports_doubted += 1
        return report, [*effects, Announce("report_doubted", {"actor": peer.name})] if peer.doubted == 1 else effects

    def _named(self, report: Report, peer: Peer) -> tuple[Report, list[Effect]]:
        """The report without metrics whose names have no place any more: they are counted, and told once."""
        averages = self._progress.averages
        told = averages.metrics_left_out > 0
        admitted = averages.admit(report.metrics)
        if len(admitted) == len(report.metrics):
            return report, []
        first = next(metric.name for metric in report.metrics if metric not in admitted)
        fields: dict[str, object] = {"actor": peer.name, "metric": first, "most": MOST_METRICS}
        return replace(report, metrics=admitted), [] if told else [Announce("metrics_left_out", fields)]

    def count(self, report: Report | None, outcome: str, collected_from: int | None = None) -> None:
        """Its gradient came to this outcome: what else it tells counts, unless that speaks against its sender.

        collected_from: environment steps of the run when its rollout began; None: the present ones.
        """
        if report is not None and (outcome == APPLIED or outcome in BLAMELESS):
            self._progress.score(report, collected_from)
