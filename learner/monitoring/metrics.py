"""The learner's numbers for Prometheus, read from its state at scrape time. Knows prometheus_client.

No counter lives here, so a gradient pays no more for being watched. Labels are bounded: outcomes and reasons are the
wire's codes, codecs those that are known here, and no label names an actor: a fleet is sums and quantiles.

Counters begin at zero with each life of the learner. A resumed run begins with its checkpoint's totals, which are lower
than the last scrape before the crash; of a counter that falls ``rate()`` takes all that is left for new events. So the
totals of the run are gauges.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from learner.admission.telemetry import PARTS, QUANTILES, quantiles
from learner.durability.storage import JournalStats
from learner.monitoring.result import versions
from learner.monitoring.scaling import scaling
from learner.monitoring.summary import STALLED_S, stalled
from learner.progress import STRANGE, Histogram, Progress, learning_rate
from learner.state import LearnerState
from protocol.codecs.registry import CODECS
from protocol.errors import Reason
from protocol.messages import FAULTS as ACTOR_FAULTS

PREFIX = "farflung_learner"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = ("applied", *(reason.value for reason in Reason))
FAULTS = (*(reason.value for reason in Reason), "checkpoint_failed", "journal_failed")
KNOWN_CODECS = (*CODECS, STRANGE)
RECORDS = ("key", "delta", "updates")
LOOP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)  # seconds


@dataclass(slots=True)
class ServiceReadings:
    """What the service knows and its state does not.

    loop_lag: how late its ticks came, in seconds. loop_busy_s: CPU time of the loop's thread, asked on it.
    math_busy_s: seconds that the math thread's present job has taken. unauthenticated: connections refused for their
    public key. journal: its counters; None where none is kept.
    """

    loop_lag: Histogram = field(default_factory=lambda: Histogram(LOOP_BUCKETS))
    loop_busy_s: Callable[[], float] = lambda: 0.0
    math_busy_s: Callable[[], float] = lambda: 0.0
    unauthenticated: Callable[[], int] = lambda: 0
    journal: Callable[[], JournalStats | None] = lambda: None


class Metrics:
    """A registry of its own, so that two learners in one process do not meet. Made when a life begins: counters count
    from what the state holds then.

    state: what is read; clock: the one that the state's moments were taken from.
    """

    def __init__(
        self, state: LearnerState, clock: Callable[[], float], readings: ServiceReadings | None = None
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_StateCollector(state, clock, readings or ServiceReadings()))
        ProcessCollector(registry=self._registry)

    def families(self) -> Iterator[Metric]:
        """What ``render`` writes."""
        yield from self._registry.collect()

    def render(self) -> bytes:
        """The page of one scrape, CONTENT_TYPE."""
        return generate_latest(self._registry)


class _StateCollector(Collector):
    def __init__(self, state: LearnerState, clock: Callable[[], float], readings: ServiceReadings) -> None:
        self._state, self._clock, self._readings = state, clock, readings
        self._before = state.progress.saved()  # by earlier lives
        self._build = versions()

    def collect(self) -> Iterator[Metric]:
        """Everything, as it stands at this moment."""
        state, progress, now = self._state, self._state.progress, self._clock()
        yield InfoMetricFamily(f"{PREFIX}_build", "Versions of this learner.", value=self._build)
        run = {"run": state.manifest.run, "env": state.manifest.env, "seed": str(state.manifest.seed)}
        yield InfoMetricFamily(f"{PREFIX}_run", "What is trained.", value=run)
        yield from _counters(state, self._before)
        yield from _labelled_counters(progress, state.sessions.telemetry.seconds, self._before)
        yield _histogram("lag_updates", "Updates between the weights of a gradient and its judgement.", progress.lags)
        yield _histogram("lag_seconds", "Since a gradient's weights were the newest, at its arrival.", progress.ages)
        yield _histogram("gradient_wait_seconds", "From a gradient's arrival to its verdict.", progress.waits)
        yield _histogram("loop_lag_seconds", "How late the loop's ticks came.", self._readings.loop_lag)
        yield from _gauges(state, now)
        yield from _measured(progress)
        yield from _fleet(state, now)
        yield from _readings(self._readings)


Saved = Mapping[str, float]  # of ``Progress.saved``


def _counters(state: LearnerState, before: Saved) -> Iterator[Metric]:
    progress = state.progress

    def gained(name: str) -> float:
        return float(getattr(progress, name) - before.get(name, 0))

    dense_bytes = 4 * state.manifest.layout.length * gained("gradients_received")
    for name, text, value in (
        ("env_steps", "Environment steps that actors reported.", gained("env_steps")),
        ("episodes", "Episodes that actors reported.", gained("episodes")),
        ("received_bytes", "Received from actors, headers included.", gained("received_bytes")),
        (
            "gradient_received_bytes",
            "Received in messages that carry a gradient.",
            gained("gradient_received_bytes"),
        ),
        ("gradient_dense_bytes", "What the same gradients take as float32, without headers.", dense_bytes),
        ("sent_bytes", "Sent to actors; the weight stream counts once per message.", gained("sent_bytes")),
        ("snapshots", "Records of the weight stream published.", gained("snapshots")),
        ("sessions_granted", "Sessions granted to actors that train.", gained("sessions_granted")),
        ("sessions_lost", "Sessions of actors that trained, ended by silence.", gained("sessions_lost")),
        ("reports_doubted", "Reports of which a part cannot be true and was left out.", gained("reports_doubted")),
        ("evaluations", "Scores that evaluating actors sent.", gained("evaluations")),
        ("math_seconds", "Time that the math thread worked.", gained("math_s")),
    ):
        yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _labelled_counters(progress: Progress, seconds: Sequence[float], before: Saved) -> Iterator[Metric]:
    spent = dict(zip(PARTS, seconds, strict=True))
    judged = {outcome: count - before.get(f"ruling.{outcome}", 0) for outcome, count in progress.rulings.items()}
    for name, text, label, counts, known in (
        ("gradients", "Gradients judged, by outcome.", "outcome", judged, OUTCOMES),
        ("faults", "Messages and files refused, by reason.", "reason", progress.faults, FAULTS),
        ("actor_faults", "What went wrong in actors, as they tell.", "kind", progress.actor_faults, ACTOR_FAULTS),
        ("codec_gradients", "Messages with a gradient, by codec.", "codec", progress.codec_gradients, KNOWN_CODECS),
        ("codec_bytes", "Bytes of these messages, by codec.", "codec", progress.codec_bytes, KNOWN_CODECS),
        ("weight_bytes", "Of sent bytes, weights by record.", "record", progress.weight_bytes, RECORDS),
        ("actor_seconds", "Where actors' time went, as they tell, all together.", "part", spent, PARTS),
    ):
        yield _by_label(name, text, label, counts, known)


def _gauges(state: LearnerState, now: float) -> Iterator[Metric]:
    ours = (_run_gauges, _return_gauges, _loss_gauges, _queue_gauges, _scaling_gauges)
    gauges = (*(gauge for group in ours for gauge in group(state)), *_life_gauges(state, now))
    for name, text, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


Gauges = tuple[tuple[str, str, float | None], ...]  # name, help, value; None: not known


def _run_gauges(state: LearnerState) -> Gauges:
    progress = state.progress
    return (
        ("run_env_steps", "Environment steps of the whole run, earlier lives included.", progress.env_steps),
        ("run_episodes", "Episodes of the whole run.", progress.episodes),
        ("run_received_bytes", "Received from actors in the whole run.", progress.received_bytes),
        ("run_sent_bytes", "Sent to actors in the whole run.", progress.sent_bytes),
    )


def _return_gauges(state: LearnerState) -> Gauges:
    progress, best, worst = state.progress, state.progress.return_best_mean, state.progress.return_worst_mean
    length = sum(progress.lengths) / len(progress.lengths) if progress.lengths else None
    return (
        ("return_mean", "Mean return of the last 100 episodes.", progress.return_mean),
        ("return_min", "Lowest return of the last 100 episodes.", min(progress.scores, default=None)),
        ("return_max", "Highest return of the last 100 episodes.", max(progress.scores, default=None)),
        ("return_best_mean", "Best mean return of 100 episodes in this life.", best if math.isfinite(best) else None),
        ("return_worst_mean", "Worst mean of 100 episodes in this life.", worst if math.isfinite(worst) else None),
        ("return_target", "Mean return at which the run ends.", state.experiment.run.until_return),
        ("evaluated_best_mean", "Highest mean score whose parameters are on disk.", progress.evaluated_best_mean),
        ("evaluated_best_version", "Version of those parameters.", progress.evaluated_best_version),
        ("episode_length_mean", "Mean steps of the last 100 episodes.", length),
    )


def _loss_gauges(state: LearnerState) -> Gauges:
    losses = state.progress.losses
    return (
        ("policy_loss", "Of the newest report.", losses.policy),
        ("value_loss", "Of the newest report.", losses.value),
        ("entropy_nats", "Of the policy, in the newest report.", losses.entropy),
        ("kl_nats", "From the policy that collected to the newest one, in the newest report.", losses.kl),
        ("clipped_ratio", "Share of samples whose ratio was clipped, in the newest report.", losses.clipped),
        ("gradient_norm", "L2 before clipping, in the newest report.", losses.gradient_norm),
        ("residual_norm", "L2 of what compression holds back, in the newest report.", losses.residual_norm),
        ("explained_variance", "Of values against returns, in the newest report.", state.progress.explained_variance),
    )


def _life_gauges(state: LearnerState, now: float) -> Gauges:
    training_s = None if state.training_since is None else now - state.training_since
    age = None if state.saving.written_at is None else now - state.saving.written_at
    rate = learning_rate(state.settings, state.progress.env_steps)
    broken = float(state.saving.journal_failure is not None) if state.saving.journaled else None
    return (
        ("version", "Version of the parameters: gradients applied so far.", state.progress.version),
        ("published_version", "Version up to which the weight stream has told.", state.publisher.version),
        ("target_version", "Version of the target network.", state.publisher.published.target_version),
        ("learning_rate", "As annealed at the run's present environment steps, before staleness.", rate),
        ("parameters", "Length of the parameter vector.", state.manifest.layout.length),
        ("checkpoint_version", "Newest version on disk by this process.", state.saving.version),
        ("checkpoint_age_seconds", "Since the newest checkpoint on disk by this process was begun.", age),
        ("journal_broken", "1 while the journal does not hold what verdicts say was applied.", broken),
        ("training_seconds", "Since the first actor of this process had weights.", training_s),
        ("epoch", "Life of the learner in this run, counted from 1.", state.address.epoch),
        ("running", "1 while gradients are taken, 0 while the run ends.", float(state.shutdown.running)),
        ("solved", "1 once the target return was reached.", float(state.shutdown.solved)),
        ("stalled", f"1 while actors train and no version was made for {STALLED_S:.0f} s.", float(stalled(state, now))),
    )


def _measured(progress: Progress) -> Iterator[Metric]:
    """What environments measure, a series for each name, of which there are at most MOST_METRICS; any text fits."""
    text = "Mean of what environments measure, since the last line of progress."
    family = GaugeMetricFamily(f"{PREFIX}_environment_metric", text, labels=["metric"])
    for name, mean in progress.averages.newest()["metrics"].items():
        family.add_metric([name], mean)
    yield family
    text = "Metrics left out, as their names were too many."
    yield CounterMetricFamily(f"{PREFIX}_metrics_left_out", text, value=progress.averages.metrics_left_out)


def _queue_gauges(state: LearnerState) -> Gauges:
    peers = [peer for peer in state.peers.values() if peer.trains]
    return (
        ("actors", "Actors with a session to train.", state.sessions.training),
        ("evaluators", "Actors with a session to evaluate.", state.sessions.evaluating),
        ("quarantined_actors", "Senders whose gradients are refused unread.", state.admission.quarantined),
        ("credit", "Gradients that all actors together may have unanswered.", sum(peer.credit for peer in peers)),
        ("unanswered_gradients", "Arrived and without a verdict.", sum(len(peer.ledger.pending) for peer in peers)),
        ("pending_gradients", "Admitted and waiting for the math thread.", len(state.queue)),
        ("pending_bytes", "Of their payloads.", state.queue.pending_bytes),
    )


def _scaling_gauges(state: LearnerState) -> Gauges:
    scales = scaling(state)
    useful = "Largest fleet whose last actor adds half of what it adds in proportion."
    return (
        (
            "batch_env_steps",
            "Collected by the fleet between two policies of one actor.",
            state.progress.batch_env_steps,
        ),
        (
            "noise_scale_env_steps",
            "Noise scale of learning: of so many in one batch, noise weighs as much as signal.",
            None if scales is None else scales.noise_scale_env_steps,
        ),
        ("useful_actors", useful, None if scales is None else scales.useful_actors),
    )


def _fleet(state: LearnerState, now: float) -> Iterator[Metric]:
    """The living actors that train, by rank: the least, the median and the most."""
    actors, version = list(state.sessions.telemetry.sessions.values()), state.progress.version
    peers = [peer for peer in state.peers.values() if peer.trains]
    lags = [float(version - min(peer.version, version)) for peer in peers]
    for name, text, values in (
        (
            "actor_env_steps_per_second",
            "Environment steps that one actor takes, as its heartbeats tell.",
            [actor.rate for actor in actors if actor.rate is not None],
        ),
        ("actor_silent_seconds", "Since one actor was heard.", [now - peer.heard_at for peer in peers]),
        ("actor_idle_seconds", "Since one actor told of more steps.", [now - peer.progressed_at for peer in peers]),
        (
            "actor_lag_updates",
            "Updates that one actor's weights lack.",
            lags,
        ),
        (
            "actor_round_trip_seconds",
            "From a gradient to its verdict, as one actor's heartbeats tell.",
            [actor.round_trip_s for actor in actors if actor.round_trip_s],
        ),
        (
            "residual_age_gradients",
            "Gradients that what one actor holds back has waited.",
            [float(actor.residual_age) for actor in actors],
        ),
    ):
        family = Metric(f"{PREFIX}_{name}", text, "summary")  # the type whose label ``quantile`` is; nothing is summed
        for share, value in zip(QUANTILES, quantiles(values), strict=False):
            family.add_sample(family.name, {"quantile": f"{share:g}"}, value)
        yield family


def _readings(readings: ServiceReadings) -> Iterator[Metric]:
    busy_s, math_s, journal = readings.loop_busy_s(), readings.math_busy_s(), readings.journal()
    refused = "Connections refused for a public key that is not on the list."
    yield CounterMetricFamily(f"{PREFIX}_loop_busy_seconds", "CPU time of the loop's thread.", value=busy_s)
    yield GaugeMetricFamily(f"{PREFIX}_math_busy_seconds", "Of the math thread's present job; 0: none.", value=math_s)
    count = readings.unauthenticated()
    yield CounterMetricFamily(f"{PREFIX}_unauthenticated", refused, value=count)
    former = f"Deprecated, use {PREFIX}_unauthenticated_total: it counts the same."
    yield CounterMetricFamily(f"{PREFIX}_strangers", former, value=count)
    if journal is None:
        return
    yield GaugeMetricFamily(f"{PREFIX}_journal_bytes", "Of the journal on disk.", value=journal.disk_bytes)
    yield CounterMetricFamily(f"{PREFIX}_journal_syncs", "Records written and synced.", value=journal.syncs)
    yield CounterMetricFamily(f"{PREFIX}_journal_sync_seconds", "Time that this took.", value=journal.sync_s)


def _by_label(name: str, text: str, label: str, counts: Mapping[str, float], known: tuple[str, ...]) -> Metric:
    """One series for each known value, from zero on, so that a rate sees the first event."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for value in dict.fromkeys([*known, *counts]):
        family.add_metric([str(value)], counts.get(value, 0))
    return family


def _histogram(name: str, text: str, counts: Histogram) -> Metric:
    bounds = [*(str(float(bound)) for bound in counts.bounds), "+Inf"]
    buckets = list(zip(bounds, map(float, itertools.accumulate(counts.buckets)), strict=True))
    return HistogramMetricFamily(f"{PREFIX}_{name}", text, buckets=buckets, sum_value=counts.total)
