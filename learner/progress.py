"""How far a run is: steps, episodes, verdicts, bytes, and whether its goal is reached. Pure. Plain counters.

These are the only counters: metrics, `/status`, the terminal and `result.json` all read them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from learner.config import LearnerSettings
from learner.events import NoiseEstimate
from protocol.codecs.registry import CODECS
from protocol.messages import Losses, Message, Metric, Report, Snapshot, Updates

MAX_STEPS = (1 << 53) - 1  # what a snapshot's counter holds (WIRE.md, section 3)
WINDOW = 100  # episodes in the mean that decides whether a task is solved, as in the literature
SAVED = (  # counters that live through a checkpoint, beside the rulings
    "env_steps",
    "episodes",
    "sessions_granted",
    "evaluators_granted",
    "evaluations",
    "received_bytes",
    "sent_bytes",
    "gradient_received_bytes",
    "gradients_received",
    "snapshots",
)
# Present names of numbers, and what they were called: files are read under both names. Until the next release the old
# ones are also written, to progress.jsonl, result.json, /status and /history (deploy/PROGRESS.md lists them).
RENAMED = {
    "version": "updates",
    "received_bytes": "bytes_up",
    "sent_bytes": "bytes_down",
    "received_bytes_per_s": "bytes_up_per_s",
    "sent_bytes_per_s": "bytes_down_per_s",
    "gradient_received_bytes": "gradient_bytes_up",
    "gradients_received": "gradients_up",  # in checkpoints only
    "refused": "dropped",
    "return_best_mean": "return_best",
    "return_target": "target",
}
RENAMED_IN_RESULT = RENAMED | {
    "checkpoint_version": "saved_version",
    "lag_mean_updates": "staleness_mean",
    "lag_max_updates": "staleness_max",
    "sessions_granted": "actors",
}
LAG_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # upper bounds, in updates
AGE_BUCKETS = (0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)  # seconds; max_lag_s is 60 where nobody says otherwise
WAIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)  # seconds
MEMORY = 256  # messages, or pairs of them, that a mean remembers: it is to follow a run, and chance is to cancel
PACE_S = 30.0  # over which the math thread's share is averaged: some minutes of a fleet's growth are to be seen in it
LOSSES = {  # fields of a progress line, and what they are called in a report
    "policy_loss": "policy",
    "value_loss": "value",
    "entropy_nats": "entropy",
    "kl_nats": "kl",
    "clipped_ratio": "clipped",
    "gradient_norm": "gradient_norm",
    "residual_norm": "residual_norm",
}
LEARNT = (*LOSSES, "explained_variance")
MOST_METRICS = 64  # names in one life of the learner, so that what actors make up has a bound
STRANGE = "unknown"  # a codec that nobody here knows, so that what actors make up adds no name


def with_former(fields: Mapping[str, Any], renamed: Mapping[str, str] = RENAMED) -> dict[str, Any]:
    """The fields under their present names and, behind them, under those that they had."""
    return {**fields, **{old: fields[new] for new, old in renamed.items() if new in fields}}


def with_present(fields: Mapping[str, Any], renamed: Mapping[str, str] = RENAMED) -> dict[str, Any]:
    """What an older learner may have written, under present names too."""
    return {**{new: fields[old] for new, old in renamed.items() if old in fields}, **fields}


class Histogram:
    """How often each size was observed. bounds: upper ones of the buckets, ascending; a last bucket takes the rest.

    buckets: counts, one more than there are bounds. total: sum of all sizes. largest: of them, 0 before the first.
    """

    __slots__ = ("bounds", "buckets", "count", "largest", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(self.bounds) + 1)
        self.count = 0
        self.total: float = 0
        self.largest: float = 0

    def observe(self, size: float) -> None:
        """Counts one; size >= 0."""
        self.buckets[bisect_left(self.bounds, size)] += 1
        self.count += 1
        self.total += size
        self.largest = max(self.largest, size)

    @property
    def mean(self) -> float:
        """Of all sizes, 0 before the first."""
        return self.total / self.count if self.count else 0.0


@dataclass(slots=True)
class FadingMean:
    """Of the last MEMORY numbers, fading; of all, before there were as many."""

    value: float = 0.0
    count: int = 0

    def add(self, number: float) -> None:
        """One more."""
        self.count += 1
        self.value += (number - self.value) / min(self.count, MEMORY)


class Averages:
    """Means of what reports tell of learning and of environments, between two lines of progress and over all actors.

    Of losses and explained variance each report counts once; of a metric each number that an environment told.
    """

    def __init__(self) -> None:
        self.metrics_left_out = 0  # whose names had no place
        self._sums: dict[str, tuple[float, int]] = {}  # of LEARNT, since the last line
        self._metrics: dict[str, tuple[float, int]] = {}  # likewise, by name; the first MOST_METRICS keep their places
        self._told: dict[str, Any] = {**dict.fromkeys(LEARNT), "metrics": {}}  # the newest mean of each that there was

    def admit(self, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
        """Those whose names have a place or get one; the others are counted."""
        for name in dict.fromkeys(metric.name for metric in metrics):
            if name not in self._metrics and len(self._metrics) < MOST_METRICS:
                self._metrics[name] = (0.0, 0)
        admitted = tuple(metric for metric in metrics if metric.name in self._metrics)
        self.metrics_left_out += len(metrics) - len(admitted)
        return admitted

    def add(self, report: Report) -> None:
        """Takes in one report."""
        if report.losses != Losses():  # an actor's first, which nothing was learnt before
            for name, field_name in LOSSES.items():
                _add(self._sums, name, getattr(report.losses, field_name), 1)
        if report.explained_variance is not None:
            _add(self._sums, "explained_variance", report.explained_variance, 1)
        for metric in self.admit(report.metrics):
            _add(self._metrics, metric.name, metric.mean, min(metric.count, max(1, report.env_steps)))

    def means(self) -> dict[str, Any]:
        """Fields of a progress line: since the last one, None or no metric where nothing was told."""
        sums = {name: total / count for name, (total, count) in self._sums.items()}
        metrics = {name: total / count for name, (total, count) in self._metrics.items() if count}
        learnt = {name: _short(sums[name]) if name in sums else None for name in LEARNT}
        return {**learnt, "metrics": {name: _short(mean) for name, mean in metrics.items()}}

    def newest(self) -> dict[str, Any]:
        """The same, of earlier lines where nothing was told since the last one."""
        means = self.means()
        known = {name: self._told[name] if means[name] is None else means[name] for name in LEARNT}
        return {**known, "metrics": {**self._told["metrics"], **means["metrics"]}}

    def take(self) -> dict[str, Any]:
        """The means; a line is written with them, and the next ones begin."""
        means, self._told = self.means(), self.newest()
        self._sums, self._metrics = {}, dict.fromkeys(self._metrics, (0.0, 0))
        return means


def _add(sums: dict[str, tuple[float, int]], name: str, mean: float, count: int) -> None:
    total, counted = sums.get(name, (0.0, 0))
    sums[name] = (total + mean * count, counted + count)


def _short(mean: float) -> float:
    """As many digits as anybody draws: a divergence of 0.0001 is one."""
    return float(f"{mean:.6g}")


@dataclass(slots=True)
class Pace:
    """Which share of the time the math thread works, over PACE_S. busy_s, passed_s: fading sums; at: the last batch."""

    busy_s: float = 0.0
    passed_s: float = 0.0
    at: float | None = None

    def record(self, math_s: float, now: float) -> None:
        """A batch took so long and is done."""
        if self.at is not None and now > self.at:
            passed = now - self.at
            kept = math.exp(-passed / PACE_S)
            self.busy_s, self.passed_s = self.busy_s * kept + math_s, self.passed_s * kept + passed
        self.at = now if self.at is None else max(now, self.at)

    @property
    def share(self) -> float | None:
        """0 <= share <= 1; None before two batches."""
        return min(1.0, self.busy_s / self.passed_s) if self.passed_s > 0.0 else None


@dataclass(frozen=True, slots=True)
class Best:
    """A score whose θ is on disk. mean: of returns. version: of θ. key: public, of who told it; empty where none is
    asked for.
    """

    mean: float
    version: int
    public_key: str = ""


@dataclass(slots=True)
class Progress:
    """Counters of one run. Those in SAVED live through a checkpoint; the others count this process's life."""

    env_steps: int = 0  # environment steps that admitted reports told
    episodes: int = 0
    version: int = 0  # of θ: gradients applied
    rulings: Counter[str] = field(default_factory=Counter)  # "applied" or the reason of the drop
    faults: Counter[str] = field(default_factory=Counter)  # messages refused before any ruling, by reason
    actor_faults: Counter[str] = field(default_factory=Counter)  # what went wrong in actors without ending them
    sessions_granted: int = 0  # to actors that train
    evaluators_granted: int = 0  # sessions of actors that evaluate
    sessions_lost: int = 0  # of actors that trained, ended by silence
    received_bytes: int = 0  # received on the links, headers included
    sent_bytes: int = 0  # sent on the links; the weight stream counts once per message
    gradient_received_bytes: int = 0  # of received_bytes, in messages that carried a gradient
    gradients_received: int = 0  # such messages, those sent again too
    codec_gradients: Counter[str] = field(default_factory=Counter)  # of them, by codec
    codec_bytes: Counter[str] = field(default_factory=Counter)  # and their bytes
    weight_bytes: Counter[str] = field(default_factory=Counter)  # of sent_bytes, by kind of record
    reports_doubted: int = 0  # that could not be true in every part
    snapshots: int = 0
    math_s: float = 0.0  # time that the math thread worked
    advanced_at: float | None = None  # when this life last made a version
    pace: Pace = field(default_factory=Pace)
    noise: NoiseEstimate | None = None  # of a message, as the math thread last told
    batch_steps: FadingMean = field(default_factory=FadingMean)  # since a message's rollout began, by the whole fleet
    message_steps: FadingMean = field(default_factory=FadingMean)  # environment steps that a message reports
    lags: Histogram = field(default_factory=lambda: Histogram(LAG_BUCKETS))  # of a gradient's weights, in updates
    ages: Histogram = field(default_factory=lambda: Histogram(AGE_BUCKETS))  # the same in seconds
    waits: Histogram = field(default_factory=lambda: Histogram(WAIT_BUCKETS))  # from arrival to verdict, in seconds
    losses: Losses = field(default_factory=Losses)  # of the newest report
    explained_variance: float | None = None  # of the newest report that told one
    averages: Averages = field(default_factory=Averages)
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    lengths: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    return_best_mean: float = float("-inf")  # of a full window of this life
    return_worst_mean: float = float("inf")
    evaluations: int = 0  # scores that evaluating actors sent
    best: Best | None = None  # highest mean score whose θ is on disk as the best of all; None before the first
    tasks: tuple[int, ...] = ()  # env_steps at which other environments take the place of those before (config.stages)
    runners_up: dict[str, Best] = field(default_factory=dict)  # the best of each other key, on disk in its own file

    def record(self, report: Report) -> None:
        """Takes in what an actor told of its rollout."""
        self.step(report.env_steps)
        self.score(report)

    def step(self, env_steps: int) -> None:
        """So many were taken. They stop at MAX_STEPS, so that a snapshot can say them.

        With another task the window of episodes begins anew: returns of an easier one say nothing of it.
        """
        before = self.task
        self.env_steps = min(self.env_steps + env_steps, MAX_STEPS)
        if self.task != before:
            self.scores.clear()
            self.lengths.clear()
            self.return_best_mean, self.return_worst_mean = float("-inf"), float("inf")

    @property
    def task(self) -> int:
        """How many of ``tasks`` have begun."""
        return bisect_right(self.tasks, self.env_steps) if self.tasks else 0

    def score(self, report: Report, collected_from: int | None = None) -> None:
        """Takes in the losses and metrics, and the episodes, whose returns count if they are of the present task.

        collected_from: environment steps of the run when their rollout began; None: the present ones.
        """
        self.losses = report.losses
        if report.explained_variance is not None:
            self.explained_variance = report.explained_variance
        self.averages.add(report)
        present = collected_from is None or bisect_right(self.tasks, collected_from) == self.task
        for episode in report.episodes:
            self.episodes += 1
            if not present:
                continue
            self.scores.append(episode.score)
            self.lengths.append(episode.length)
            if len(self.scores) == WINDOW:
                mean = sum(self.scores) / WINDOW
                self.return_best_mean = max(self.return_best_mean, mean)
                self.return_worst_mean = min(self.return_worst_mean, mean)

    def received(self, codec: str, wire_bytes: int) -> None:
        """A message with a gradient arrived, whatever becomes of it. codec: as its header says."""
        name = codec if codec in CODECS else STRANGE
        self.gradient_received_bytes += wire_bytes
        self.gradients_received += 1
        self.codec_gradients[name] += 1
        self.codec_bytes[name] += wire_bytes

    def sent(self, message: Message, wire_bytes: int) -> None:
        """A message was sent to one actor, or published to all."""
        self.sent_bytes += wire_bytes
        if isinstance(message, Updates):
            self.weight_bytes["updates"] += wire_bytes
        elif isinstance(message, Snapshot):
            self.weight_bytes[message.record] += wire_bytes

    def record_lag(self, lag_updates: int, lag_s: float) -> None:
        """A gradient was judged by its age: updates between its weights and now, and for how long they were old."""
        self.lags.observe(lag_updates)
        self.ages.observe(lag_s)

    def record_applied(self, report: Report | None, collected_from: int | None) -> None:
        """A message was applied. collected_from: as in its job."""
        self.message_steps.add(0 if report is None else report.env_steps)
        if collected_from is not None:
            self.batch_steps.add(self.env_steps - collected_from)

    def advance(self, version: int, math_s: float, now: float) -> None:
        """The math thread worked for so long, after which θ has this version."""
        self.math_s += math_s
        self.pace.record(math_s, now)
        if version > self.version:
            self.version, self.advanced_at = version, now

    @property
    def batch_env_steps(self) -> float | None:
        """Mean of ``batch_steps``; None before the first."""
        return self.batch_steps.value if self.batch_steps.count else None

    @property
    def evaluated_best_mean(self) -> float | None:
        """Highest mean score whose θ is on disk; None before the first."""
        return None if self.best is None else self.best.mean

    @property
    def evaluated_best_version(self) -> int | None:
        """Of that θ."""
        return None if self.best is None else self.best.version

    @property
    def return_mean(self) -> float | None:
        """Mean return of the last 100 episodes (of fewer, while there are fewer); None before the first."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    def reached(self, until_return: float | None) -> bool:
        """Whether a full window of episodes has the mean return asked for, in the last task."""
        mean = self.return_mean
        if self.task < len(self.tasks):
            return False
        return until_return is not None and mean is not None and len(self.scores) == WINDOW and mean >= until_return

    def saved(self) -> dict[str, int | float]:
        """What a checkpoint keeps."""
        counts: dict[str, int | float] = {name: getattr(self, name) for name in SAVED}
        if self.best is not None:
            counts |= {"evaluated_best_mean": self.best.mean, "evaluated_best_version": self.best.version}
        return counts | {f"ruling.{outcome}": count for outcome, count in self.rulings.items()}

    @classmethod
    def restored(cls, saved: dict[str, int | float], version: int) -> Progress:
        """The counters that a checkpoint kept; the window of episodes starts empty, as those were another life's."""
        progress = cls(version=version)
        for name, value in with_present(saved).items():
            if name.startswith("ruling."):
                progress.rulings[name.removeprefix("ruling.")] = int(value)
            elif name == "evaluated_best_mean":
                progress.best = Best(float(value), int(saved["evaluated_best_version"]))
            elif name in SAVED:
                setattr(progress, name, int(value))
        progress.rulings["applied"] = max(version, progress.rulings["applied"])  # counted before the last batch
        return progress


def learning_rate(settings: LearnerSettings, env_steps: int) -> float:
    """The rate after so many environment steps of the run, as it is annealed."""
    return settings.learning_rate * settings.anneal.share(env_steps)
