"""A run's course, out of the lines of its progress.jsonl, and courses of many seeds as one. Pure. Numbers and text.

A run may have had several lives, one process each. Seconds restart with each and are added up here; environment steps
fall back to the checkpoint that a life went on from, and what was taken beyond it is no part of the run: against steps
it is left out (``Course.kept``), against seconds it is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from learner.progress import LEARNT, WINDOW, with_present

NOT_COMPARED = ("seed", "name", "until_return", "until_steps")  # of [run]: which run, and when it ends, is no setting
RESAMPLES = 1000  # of a bootstrap
COUNTED = ("unix_s", "env_steps", "episodes", "version", "env_steps_per_s", "received_bytes", "sent_bytes")
NAN = math.nan

Floats = NDArray[np.float64]
Band = Literal["range", "bootstrap"]


class Line(msgspec.Struct, frozen=True):
    """What is used of a progress line; numbers that an older learner did not write are NaN. Units: PROGRESS.md."""

    wall_s: float
    env_steps: float
    episodes: float
    version: float
    unix_s: float = NAN
    return_mean: float | None = None
    env_steps_per_s: float = NAN
    lag_count: float = NAN
    lag_sum_updates: float = NAN
    received_bytes: float = NAN
    sent_bytes: float = NAN
    policy_loss: float | None = None
    value_loss: float | None = None
    entropy_nats: float | None = None
    kl_nats: float | None = None
    clipped_ratio: float | None = None
    gradient_norm: float | None = None
    residual_norm: float | None = None
    explained_variance: float | None = None
    metrics: dict[str, float] = {}


class Ended(msgspec.Struct, frozen=True):
    """What is used of a finished line."""

    wall_s: float
    env_steps: float
    episodes: float
    version: float
    received_bytes: float
    sent_bytes: float
    unix_s: float = NAN
    return_mean_100: float | None = None


class Evaluated(msgspec.Struct, frozen=True):
    """What is used of a line about an evaluator's score."""

    version: float
    mean: float
    unix_s: float = NAN
    ci95: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A mean return that an evaluator measured of one version of θ. ci95: half the interval; NaN of one episode."""

    env_steps: float
    seconds: float
    unix_s: float
    mean: float
    ci95: float


@dataclass(frozen=True, slots=True)
class Course:
    """One run so far. Each array is float64 [n], one value for each recorded moment, NaN where it was not recorded.

    seconds: of training, all lives together. unix_s: of the wall clock. kept: bool [n]; whether a later life built on
    it. return_mean: of the last 100 episodes of its life, of fewer only where no life had as many (``few``).
    lag_count, lag_sum_updates: of all lives together. learnt: losses and the like, by the fields of LEARNT.
    metrics: what environments measured, by name. torn: lines in the middle that nobody can read.
    """

    seconds: Floats
    unix_s: Floats
    life: Floats
    env_steps: Floats
    episodes: Floats
    version: Floats
    return_mean: Floats
    env_steps_per_s: Floats
    lag_count: Floats
    lag_sum_updates: Floats
    received_bytes: Floats
    sent_bytes: Floats
    kept: NDArray[np.bool_]
    scores: tuple[Score, ...]
    lives: int
    few: bool
    torn: int
    learnt: dict[str, Floats]
    metrics: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.seconds)


def read(text: bytes) -> Course:
    """The course that a progress.jsonl tells. Its last line may be half written, others may be torn."""
    whole, _, _ = text.rpartition(b"\n")
    lives: list[list[Line]] = [[]]
    scores: list[Evaluated] = []
    torn = 0
    for data in whole.split(b"\n"):
        if not data.strip():
            continue
        try:
            said = msgspec.json.decode(data, type=dict[str, Any])
            torn += not _take(with_present(said), lives, scores)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            torn += 1
    return _course([life for life in lives if life], scores, torn)


def _take(said: Mapping[str, Any], lives: list[list[Line]], scores: list[Evaluated]) -> bool:
    """Sorts one line in; whether it is a line of ours. What an actor said under a name of ours is not heard."""
    event = said.get("event")
    if event == "evaluated":
        scores.append(msgspec.convert(said, Evaluated))
    elif "actor" in said:
        return isinstance(event, str)
    elif event == "started" and lives[-1]:
        lives.append([])
    elif event in ("progress", "finished"):
        line = msgspec.convert(said, Line) if event == "progress" else _end(said, lives[-1])
        if lives[-1] and line.wall_s < lives[-1][-1].wall_s:  # the line that said so is lost
            lives.append([])
        lives[-1].append(line)
    return isinstance(event, str)


def _end(said: Mapping[str, Any], life: Sequence[Line]) -> Line:
    """The last moment of a life; what its summary does not count goes on as it was."""
    ended = msgspec.convert(said, Ended)
    before = life[-1] if life else Line(0.0, 0.0, 0.0, 0.0)
    counted = {name: getattr(ended, name) for name in ("wall_s", "env_steps", "episodes", "version")}
    told = {name: getattr(ended, name) for name in ("unix_s", "received_bytes", "sent_bytes")}
    mean = before.return_mean if ended.return_mean_100 is None else ended.return_mean_100
    nothing: dict[str, Any] = {**dict.fromkeys(LEARNT), "metrics": {}}  # new, since the last line
    return msgspec.structs.replace(before, **counted, **told, **nothing, return_mean=mean)


def _course(lives: Sequence[Sequence[Line]], scores: Sequence[Evaluated], torn: int) -> Course:
    seconds, counts, sums, numbers, own = [], [], [], [], []
    ended_s = counted = summed = 0.0
    for number, life in enumerate(lives, start=1):
        for line in life:
            seconds.append(ended_s + line.wall_s)
            counts.append(counted + line.lag_count)
            sums.append(summed + line.lag_sum_updates)
            numbers.append(float(number))
            own.append(line.episodes - (life[0].episodes if number > 1 else 0.0))
        ended_s, counted, summed = seconds[-1], _known(counts[-1]), _known(sums[-1])
    lines = [line for life in lives for line in life]
    few = all(episodes < WINDOW for episodes in own)
    means = [
        NAN if line.return_mean is None or (episodes < WINDOW and not few) else line.return_mean
        for line, episodes in zip(lines, own, strict=True)
    ]
    columns = {name: np.array([getattr(line, name) for line in lines], np.float64) for name in COUNTED}
    kept = _kept(columns["env_steps"])
    made = np.array(seconds, np.float64)
    return Course(
        **columns,
        seconds=made,
        life=np.array(numbers, np.float64),
        return_mean=np.array(means, np.float64),
        lag_count=np.array(counts, np.float64),
        lag_sum_updates=np.array(sums, np.float64),
        kept=kept,
        scores=tuple(_placed(score, columns, made, kept) for score in scores) if kept.any() else (),
        lives=len(lives),
        few=few,
        torn=torn,
        learnt={name: _column([getattr(line, name) for line in lines]) for name in LEARNT},
        metrics={
            name: _column([line.metrics.get(name) for line in lines])
            for name in dict.fromkeys(name for line in lines for name in line.metrics)
        },
    )


def _column(values: Sequence[float | None]) -> Floats:
    return np.array([NAN if value is None else value for value in values], np.float64)


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _kept(env_steps: Floats) -> NDArray[np.bool_]:
    """Which moments no later one falls behind."""
    least_after = np.minimum.accumulate(env_steps[::-1])[::-1]
    return np.asarray(env_steps <= least_after, np.bool_)


def _placed(score: Evaluated, columns: Mapping[str, Floats], seconds: Floats, kept: NDArray[np.bool_]) -> Score:
    """A score where its θ was made."""
    versions = columns["version"][kept]
    steps, at_s = (float(np.interp(score.version, versions, axis[kept])) for axis in (columns["env_steps"], seconds))
    return Score(steps, at_s, score.unix_s, score.mean, NAN if score.ci95 is None else score.ci95)


# many runs


def comparable(experiment: Mapping[str, Any], env: str) -> str:
    """What two runs share that are the same experiment but for the seed, as text that is equal then."""
    run = {key: value for key, value in experiment.get("run", {}).items() if key not in NOT_COMPARED}
    return json.dumps([env, {**experiment, "run": run}], sort_keys=True, default=str)


def differing(experiments: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """The settings in which experiments are not all alike, and what each says; None where it is unset."""
    flat = [
        {f"{table}.{key}": value for table, keys in experiment.items() for key, value in keys.items()}
        for experiment in experiments
    ]
    keys = sorted({key for settings in flat for key in settings if key not in {f"run.{name}" for name in NOT_COMPARED}})
    telling = [key for key in keys if len({json.dumps(settings.get(key), default=str) for settings in flat}) > 1]
    return {key: [_word(settings[key]) if key in settings else None for settings in flat] for key in telling}


def differences(experiments: Sequence[Mapping[str, Any]]) -> list[dict[str, str | None]]:
    """For each experiment the settings in which they are not all alike; None where it leaves one unset."""
    told = differing(experiments)
    return [{key: words[number] for key, words in told.items()} for number in range(len(experiments))]


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def held(x: Floats, y: Floats, grid: Floats) -> Floats:
    """y on a common axis: NaN before its first number, its last one after its end. x does not fall."""
    known = ~np.isnan(y)
    if not known.any():
        return np.full(len(grid), NAN)
    return np.interp(grid, x[known], y[known], left=NAN)


def within(x: Floats, y: Floats, grid: Floats) -> Floats:
    """The same, NaN after its end too."""
    values = held(x, y, grid)
    return np.where(grid <= x[-1], values, NAN) if len(x) else values


def mean_lag(course: Course, grid: Floats) -> Floats:
    """Mean lag in updates of the gradients judged between each grid point and the one before; NaN where none was.

    grid: float64 [n], environment steps.
    """
    x = course.env_steps[course.kept]
    counts = within(x, course.lag_count[course.kept], grid)
    sums = within(x, course.lag_sum_updates[course.kept], grid)
    return ratio(np.diff(sums, prepend=NAN), np.diff(counts, prepend=NAN))


def mean_of(values: Floats) -> Floats:
    """Over the seeds that have a number. values: float64 [seeds, points]; NaN where none has."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(0), known.sum(0, np.float64))


def ratio(above: Floats, below: Floats) -> Floats:
    """Of two arrays of one shape; NaN where ``below`` is 0 or NaN."""
    found = np.full(above.shape, NAN)
    np.divide(above, below, out=found, where=below > 0.0)
    return found


def band_of(values: Floats, kind: Band) -> tuple[Floats, Floats] | None:
    """Lower and upper edge; None of a single seed. values: float64 [seeds, points].

    "range": least and greatest. "bootstrap": 95 % of the means of as many seeds drawn with replacement.
    """
    if len(values) < 2:
        return None
    spread = values
    if kind == "bootstrap":
        draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
        spread = np.array([mean_of(values[draw]) for draw in draws])
    known = ~np.isnan(spread).all(0)
    low, high = np.full(values.shape[1], NAN), np.full(values.shape[1], NAN)
    if kind == "bootstrap":
        low[known], high[known] = np.nanpercentile(spread[:, known], (2.5, 97.5), axis=0)
    else:
        low[known], high[known] = np.nanmin(spread[:, known], 0), np.nanmax(spread[:, known], 0)
    return low, high
