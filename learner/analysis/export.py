"""A run's course for other programs: TensorBoard event files, or CSV. Knows files, and late, tensorboard.

Offline, from progress.jsonl. Tags are those of ``learner run --tensorboard``; the step is environment steps, the wall
time the learner's clock.
"""

from __future__ import annotations

import csv
import itertools
import math
from calendar import timegm
from collections.abc import Iterator
from pathlib import Path
from time import strptime
from typing import NamedTuple

import numpy as np

from learner.analysis.curves import NAN, Course, Floats, mean_lag
from learner.analysis.runs import Run
from learner.monitoring.sinks.charts import LAG, METRICS, SCORE, SECONDS, TAGS
from learner.progress import with_former

SUFFIX = ".farflung"  # of our event files: an export replaces the one before
OTHERS = "events.out.tfevents.*"
COLUMNS = (
    *("life", "unix_s", "seconds", "env_steps", "episodes", "version", "return_mean", "env_steps_per_s"),
    *("lag_count", "lag_sum_updates", "received_bytes", "sent_bytes"),
)
FORMER = ("updates", "bytes_up", "bytes_down")  # columns under former names, behind the others until the next release


class Scalar(NamedTuple):
    """One point of a chart."""

    tag: str
    env_steps: int
    unix_s: float
    value: float


def scalars(run: Run) -> Iterator[Scalar]:
    """All that is worth a chart, chart by chart; moments that a later life did not build on are left out."""
    course = run.course
    kept, steps = course.kept, course.env_steps
    clock = wall_clock(run)
    for tag, values in _charts(course).items():
        for step, at, value in zip(steps[kept], clock[kept], values[kept], strict=True):
            if not math.isnan(value):
                yield Scalar(tag, int(step), float(at), float(value))
    for score in course.scores:
        at = score.unix_s if not math.isnan(score.unix_s) else float(np.interp(score.seconds, course.seconds, clock))
        yield Scalar(SCORE, int(score.env_steps), at, score.mean)


def _charts(course: Course) -> dict[str, Floats]:
    lag = np.full(len(course), NAN)
    lag[course.kept] = mean_lag(course, course.env_steps[course.kept])
    return {
        **{tag: course.learnt[name] if name in course.learnt else getattr(course, name) for name, tag in TAGS.items()},
        SECONDS: course.seconds,
        LAG: lag,
        **{METRICS + name: values for name, values in course.metrics.items()},
    }


def wall_clock(run: Run) -> Floats:
    """Unix seconds of each moment; where they were not recorded, counted from when the run was made."""
    course = run.course
    made = 0.0 if run.created is None else _unix(run.created)
    return np.where(np.isnan(course.unix_s), made + course.seconds, course.unix_s)


def _unix(created: str) -> float:
    """Of a manifest's time, 0 where it is none."""
    try:
        return float(timegm(strptime(created, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return 0.0


def write_tensorboard(run: Run, folder: Path) -> int:
    """One event file into ``folder`` in place of the one before; how many points it has.

    Raises OSError, and ImportError where tensorboard is not installed.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True, exist_ok=True)
    before = list(folder.glob(f"{OTHERS}{SUFFIX}"))
    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    count = 0
    for (step, at), points in itertools.groupby(
        sorted(scalars(run), key=lambda point: (point.unix_s, point.env_steps)),
        key=lambda point: (point.env_steps, point.unix_s),
    ):
        values = [Summary.Value(tag=point.tag, simple_value=point.value) for point in points]
        writer.add_event(Event(wall_time=at, step=step, summary=Summary(value=values)))
        count += len(values)
    writer.close()
    for path in before:
        path.unlink()
    return count


def write_csv(run: Run, path: Path) -> int:
    """Every recorded moment as a row, empty where something was not recorded; how many there are. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    course = run.course
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        columns = with_former({name: getattr(course, name) for name in COLUMNS})
        columns = {name: columns[name] for name in (*COLUMNS, *FORMER)} | course.learnt
        columns |= {METRICS + name: values for name, values in course.metrics.items()}
        rows.writerow(columns)
        for moment in zip(*columns.values(), strict=True):
            rows.writerow(["" if math.isnan(value) else f"{value:.12g}" for value in moment])
    return len(course)
