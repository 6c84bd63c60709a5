"""What scales actors, in Python and under a clock of numbers. Pure. No Prometheus, no cluster.

``Rule`` is deploy/prometheus/autoscaling.rules.yml said a second time; the tests have promtool compare every value of
it with the file's. ``Autoscaler`` is Kubernetes' (pkg/controller/podautoscaler): tolerance, stabilization windows and
policies. ``Plant`` is a learner whose load follows its actors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

STEP_S = 15  # between scrapes, evaluations of the rule and looks of the autoscaler
WINDOW_S = 120
TOLERANCE = 0.1
Series = dict[str, list[float | None]]

MATH, CPU = "farflung_learner_math_seconds_total", "process_cpu_seconds_total"
LAGS, LAG_COUNT = "farflung_learner_lag_updates_sum", "farflung_learner_lag_updates_count"
TRAINING, ACTORS, HERE = "farflung_learner_training_seconds", "farflung_learner_actors", "up"
WAIT, WORK = "wait", "work"  # of farflung_learner_actor_seconds_total, the second its other parts
USEFUL, USEFUL_WINDOW_S = "farflung_learner_useful_actors", 600
NAMES = (MATH, CPU, LAGS, LAG_COUNT, TRAINING, ACTORS, HERE, WAIT, WORK, USEFUL)


def rate(values: Sequence[float | None], at: int, left_open: bool) -> float | None:
    """PromQL's rate(...[2m]) at step ``at``: counter resets, and how far beyond its samples it may look.

    left_open: since Prometheus 3 a sample at the very beginning of the window is not in it.
    """
    first = max(0, at - WINDOW_S // STEP_S + left_open)
    found = [(step * STEP_S, value) for step in range(first, at + 1) if (value := values[step]) is not None]
    if len(found) < 2:
        return None
    increase = found[-1][1] - found[0][1]
    for (_, before), (_, after) in pairwise(found):
        increase += before if after < before else 0.0
    span_s = float(found[-1][0] - found[0][0])
    average_s = span_s / (len(found) - 1)
    before_s, after_s = float(found[0][0] - (at * STEP_S - WINDOW_S)), float(at * STEP_S - found[-1][0])
    reach_s = average_s * 1.1
    if increase > 0.0 <= found[0][1]:
        before_s = min(before_s, span_s * (found[0][1] / increase))  # a counter was never below zero
    begin_s = before_s if before_s < reach_s else average_s / 2
    end_s = after_s if after_s < reach_s else average_s / 2
    return increase * ((span_s + begin_s + end_s) / span_s) / WINDOW_S


@dataclass(frozen=True, slots=True)
class Rule:
    """The recording rule. left_open: of the Prometheus that it is compared with."""

    left_open: bool = False

    def pressure(self, series: Series, at: int) -> float | None:
        """The greatest of what the learner bears; None where it tells nothing."""
        math_s, cpu_s = self._rate(series, MATH, at), self._rate(series, CPU, at)
        lags, count = self._rate(series, LAGS, at), self._rate(series, LAG_COUNT, at)
        training_s = self._rate(series, TRAINING, at)
        told = [seconds / training_s / 0.7 for seconds in (math_s, cpu_s) if seconds is not None and training_s]
        if lags is not None and count is not None:
            told.append(lags / count / 24 if count else math.nan)
        return max((value for value in told if value == value), default=told[0] if told else None)  # noqa: PLR0124

    def wanted(self, series: Series, at: int) -> float | None:
        """farflung:actors_wanted; None where it has no value."""
        by_learner, useful, here = self.by_learner(series, at), self.useful(series, at), series[HERE][at]
        if by_learner is None or useful is None or here is None:
            return by_learner
        allowed = here if useful < here <= 1.2 * useful else useful
        return float(math.ceil(min(by_learner, allowed)))

    def useful(self, series: Series, at: int) -> float | None:
        """farflung:actors_useful: what learning gains by."""
        window = series[USEFUL][max(0, at - USEFUL_WINDOW_S // STEP_S + self.left_open) : at + 1]
        told, here, actors = [value for value in window if value is not None], series[HERE][at], series[ACTORS][at]
        if not told or here is None or actors is None:
            return None
        return max(sum(told) / len(told) - max(actors - here, 0.0), 1.0)

    def by_learner(self, series: Series, at: int) -> float | None:
        """farflung:actors_wanted_by_learner: what its pressure asks for."""
        pressure, here, actors = self.pressure(series, at), series[HERE][at], series[ACTORS][at]
        if pressure is None or here is None:
            return None
        if actors is None:
            return here
        window = series[ACTORS][max(0, at - WINDOW_S // STEP_S + self.left_open) : at + 1]
        trained = [value for value in window if value is not None]
        ideal = sum(trained) / len(trained) / pressure if pressure > 0.0 else math.inf
        balanced = min(max(ideal, actors * 0.5), actors * 2.0) - max(actors - here, 0.0)
        wait, work = self._rate(series, WAIT, at), self._rate(series, WORK, at)
        waits = wait is not None and work is not None and wait + work > 0.0 and wait / (wait + work) > 0.5
        if balanced > here and pressure < 0.85 and not waits:
            return float(math.ceil(balanced))
        if pressure > 1.2:
            return float(math.ceil(max(balanced, 1.0)))
        return float(math.ceil(here))

    def _rate(self, series: Series, name: str, at: int) -> float | None:
        return rate(series[name], at, self.left_open)


@dataclass(slots=True)
class Autoscaler:
    """Kubernetes' horizontal one, with ``behavior`` as its manifest has it. replicas: of the Deployment."""

    behavior: Mapping[str, Any]
    least: int
    most: int
    replicas: int
    _told: list[tuple[int, int]] = field(default_factory=list)  # when, and what was recommended
    _changed: list[tuple[int, int]] = field(default_factory=list)  # when, and by how many

    def look(self, wanted: float | None, now_s: int) -> None:
        """One look at the metric: an external one, with an average value of 1 for its target."""
        if wanted is None:
            return  # it cannot be had: nothing is scaled, whatever was recommended before
        if not self._told:
            self._told.append((now_s, self.replicas))  # what it finds counts as recommended
        off = abs(wanted / self.replicas - 1.0) > TOLERANCE
        told = math.ceil(wanted) if off else self.replicas
        up, down = self.behavior["scaleUp"], self.behavior["scaleDown"]
        self._told.append((now_s, told))
        lowest = min(n for at, n in self._told if now_s - at <= up["stabilizationWindowSeconds"])
        highest = max(n for at, n in self._told if now_s - at <= down["stabilizationWindowSeconds"])
        steady = min(max(self.replicas, lowest), highest)
        if steady > self.replicas:
            steady = min(steady, self._limit(up, now_s, 1), self.most)
        elif steady < self.replicas:
            steady = max(steady, self._limit(down, now_s, -1), self.least)
        if steady != self.replicas:
            self._changed.append((now_s, steady - self.replicas))
            self.replicas = steady

    def _limit(self, rules: Mapping[str, Any], now_s: int, sign: int) -> int:
        """How far policies let it go: the one that lets it go furthest, which is ``selectPolicy``'s default."""
        reached = []
        for policy in rules["policies"]:
            since = [by for at, by in self._changed if now_s - at < policy["periodSeconds"]]
            began = self.replicas - sum(since)
            by = policy["value"] if policy["type"] == "Pods" else began * policy["value"] / 100
            reached.append(math.ceil(began + by) if sign > 0 else int(began - by))
        return max(reached) if sign > 0 else min(reached)


@dataclass(slots=True)
class Plant:
    """A learner and its pods. share: of the math thread's time that one actor's gradients take; lag_each: updates.

    A new pod needs ``startup_s`` until it trains. noise: of each interval's work, relative. seed: of it. useful: as the
    learner tells; None: it does not know.
    """

    share: float
    seed: int
    lag_each: float = 0.5
    noise: float = 0.15
    startup_s: int = 45
    replicas: int = 0
    useful: float | None = None
    _training: list[int] = field(default_factory=list)  # since when each pod trains
    _books: dict[str, float] = field(default_factory=dict)
    _training_since: int | None = None
    series: Series = field(default_factory=lambda: {name: [] for name in NAMES})
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self.restart()

    def restart(self) -> None:
        """Its counters begin anew."""
        self._books = dict.fromkeys((MATH, CPU, LAGS, LAG_COUNT, WAIT, WORK), 0.0)
        self._training_since = None

    def scale(self, replicas: int, now_s: int, startup_s: int | None = None) -> None:
        """Pods come and go; who is not ready yet goes first."""
        ready_at = now_s + (self.startup_s if startup_s is None else startup_s)
        self._training = [*self._training, *[ready_at] * (replicas - len(self._training))][:replicas]
        self.replicas = replicas

    def step(self, now_s: int, *, cut_off: bool = False, scraped: bool = True) -> None:
        """Fifteen seconds of training, and a scrape. cut_off: nobody reaches the learner."""
        training = 0 if cut_off else sum(ready_at <= now_s for ready_at in self._training)
        offered = self.share * training * (1.0 + self.noise * self._random.uniform(-1.0, 1.0))
        load = min(offered, 0.98)
        gradients = 1000.0 * load
        waits = STEP_S * training * (0.0 if offered <= load else 1.0 - load / offered)
        for name, more in (
            (MATH, STEP_S * load),
            (CPU, STEP_S * load * 0.8),
            (LAG_COUNT, gradients),
            (LAGS, gradients * self.lag_each * training),
            (WAIT, waits),
            (WORK, STEP_S * training - waits),
        ):
            self._books[name] += more
        if training and self._training_since is None:
            self._training_since = now_s - STEP_S
        now: dict[str, float | None] = {**self._books, ACTORS: float(training), HERE: float(self.replicas)}
        now[USEFUL] = (
            None if self.useful is None else self.useful * (1.0 + self.noise * self._random.uniform(-1.0, 1.0))
        )
        now[TRAINING] = None if self._training_since is None else float(now_s - self._training_since)
        for name, values in self.series.items():
            value = now[name]
            values.append(None if value is None or not scraped else round(value, 3))
