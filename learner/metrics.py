"""The learner's numbers for Prometheus, read from its one set of books at scrape time. Knows prometheus_client.

No counter lives here. Labels are bounded: outcomes and reasons are the wire's codes, and no label names an actor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from learner.progress import LAG_BUCKETS, Lags, Progress
from learner.rundir import versions
from learner.state import LearnerState, Stage
from protocol.errors import Reason

PREFIX = "farflung_learner"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = ("applied", *(reason.value for reason in Reason))
FAULTS = (*(reason.value for reason in Reason), "checkpoint_failed", "journal_failed")


class Metrics:
    """A registry of its own, so that two learners in one process do not meet.

    state: whose books; clock: the one that the state's moments were taken from.
    """

    def __init__(self, state: LearnerState, clock: Callable[[], float]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Books(state, clock))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page of one scrape, CONTENT_TYPE."""
        return generate_latest(self._registry)


class _Books(Collector):
    def __init__(self, state: LearnerState, clock: Callable[[], float]) -> None:
        self._state, self._clock = state, clock
        self._build = versions()

    def collect(self) -> Iterator[Metric]:
        """Everything, as it stands at this moment."""
        state = self._state
        yield InfoMetricFamily(f"{PREFIX}_build", "Versions of this learner.", value=self._build)
        run = {"run": state.manifest.run, "env": state.manifest.env, "seed": str(state.manifest.seed)}
        yield InfoMetricFamily(f"{PREFIX}_run", "What is trained.", value=run)
        yield from _counters(state.progress)
        yield _by_label("gradients", "Gradients judged, by outcome.", "outcome", state.progress.rulings, OUTCOMES)
        yield _by_label("faults", "Messages and files refused, by reason.", "reason", state.progress.faults, FAULTS)
        yield _histogram(state.progress.lags)
        yield from _gauges(state, self._clock())


def _counters(progress: Progress) -> Iterator[Metric]:
    for name, text, value in (
        ("env_steps", "Environment steps that actors reported.", progress.env_steps),
        ("episodes", "Episodes that actors reported.", progress.episodes),
        ("received_bytes", "Received from actors, headers included.", progress.bytes_up),
        ("gradient_received_bytes", "Received in messages that carry a gradient.", progress.gradient_bytes_up),
        ("sent_bytes", "Sent to actors; the weight stream counts once per message.", progress.bytes_down),
        ("snapshots", "Records of the weight stream published.", progress.snapshots),
        ("sessions_granted", "Sessions granted to actors that train.", progress.sessions_granted),
        ("sessions_lost", "Sessions of actors that trained, ended by silence.", progress.sessions_lost),
        ("evaluations", "Scores that evaluating actors sent.", progress.evaluations),
        ("math_seconds", "Time that the math thread worked.", progress.math_s),
    ):
        yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _gauges(state: LearnerState, now: float) -> Iterator[Metric]:
    for name, text, value in (*_progress_gauges(state), *_life_gauges(state, now)):
        if value is not None:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _progress_gauges(state: LearnerState) -> tuple[tuple[str, str, float | None], ...]:
    progress, losses, best = state.progress, state.progress.losses, state.progress.best_mean
    length = sum(progress.lengths) / len(progress.lengths) if progress.lengths else None
    return (
        ("return_mean", "Mean return of the last 100 episodes.", progress.return_mean),
        ("return_best_mean", "Best mean return of 100 episodes.", best if math.isfinite(best) else None),
        ("return_target", "Mean return at which the run ends.", state.experiment.run.until_return),
        ("evaluated_best_mean", "Highest mean score whose parameters are on disk.", progress.evaluated_best_mean),
        ("evaluated_best_version", "Version of those parameters.", progress.evaluated_best_version),
        ("episode_length_mean", "Mean steps of the last 100 episodes.", length),
        ("policy_loss", "Of the newest report.", losses.policy),
        ("value_loss", "Of the newest report.", losses.value),
        ("entropy_nats", "Of the policy, in the newest report.", losses.entropy),
        ("kl_nats", "From the policy that collected to the newest one, in the newest report.", losses.kl),
        ("clipped_ratio", "Share of samples whose ratio was clipped, in the newest report.", losses.clipped),
        ("gradient_norm", "L2 before clipping, in the newest report.", losses.gradient_norm),
        ("residual_norm", "L2 of what compression holds back, in the newest report.", losses.residual_norm),
    )


def _life_gauges(state: LearnerState, now: float) -> tuple[tuple[str, str, float | None], ...]:
    training_s = None if state.training_since is None else now - state.training_since
    age = None if state.saving.written_at is None else now - state.saving.written_at
    broken = float(state.saving.broken is not None) if state.saving.journaled else None
    return (
        ("actors", "Actors with a session to train.", state.members.training),
        ("evaluators", "Actors with a session to evaluate.", state.members.evaluating),
        ("version", "Version of the parameters: gradients applied so far.", state.progress.updates),
        ("published_version", "Version up to which the weight stream has told.", state.publication.version),
        ("target_version", "Version of the target network.", state.publication.shelf.target_version),
        ("parameters", "Length of the parameter vector.", state.manifest.layout.length),
        ("pending_gradients", "Admitted and waiting for the math thread.", len(state.intake)),
        ("checkpoint_version", "Newest version on disk by this process.", state.saving.version),
        ("checkpoint_age_seconds", "Since the newest checkpoint on disk by this process was begun.", age),
        ("journal_broken", "1 while verdicts promise what the journal does not hold.", broken),
        ("training_seconds", "Since the first actor of this process had weights.", training_s),
        ("epoch", "Life of the learner in this run, counted from 1.", state.address.epoch),
        ("running", "1 while gradients are taken, 0 while the run ends.", float(state.stage is Stage.RUNNING)),
        ("solved", "1 once the target return was reached.", float(state.solved)),
    )


def _by_label(name: str, text: str, label: str, counts: Mapping[str, int], known: tuple[str, ...]) -> Metric:
    """One series for each known value, from zero on, so that a rate sees the first event."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for value in dict.fromkeys([*known, *counts]):
        family.add_metric([str(value)], counts.get(value, 0))
    return family


def _histogram(lags: Lags) -> Metric:
    bounds = [*(str(float(bound)) for bound in LAG_BUCKETS), "+Inf"]
    buckets = list(zip(bounds, map(float, itertools.accumulate(lags.buckets)), strict=True))
    text = "Updates between the weights of a gradient and its application."
    return HistogramMetricFamily(f"{PREFIX}_lag_updates", text, buckets=buckets, sum_value=lags.total)
