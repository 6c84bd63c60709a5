"""What other programs read: event files through TensorBoard's own reader, and CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from learner.analysis.export import OTHERS, scalars, wall_clock, write_csv, write_tensorboard
from learner.analysis.runs import Run, load
from learner.monitoring.sinks.charts import Charts
from tests.learner.courses import BEGAN_UNIX_S, life, moment, run_dir, text

SCORE = {"event": "evaluated", "actor": "judge", "version": 50, "mean": 33.0, "ci95": 2.0, "unix_s": BEGAN_UNIX_S + 9}


def resumed(path: Path) -> Run:
    """Four thousand steps, and again from two thousand on."""
    again = [moment(i, env_steps=2000 + 1000 * i, version=40 + 20 * i, unix_s=BEGAN_UNIX_S + 100 + i) for i in range(3)]
    return load(run_dir(path, recorded=text(*life(4), {"event": "started", "wall_s": 0.0}, *again, SCORE)))


def test_a_step_that_a_later_life_took_again_is_told_once(tmp_path: Path) -> None:
    points = [point for point in scalars(resumed(tmp_path / "a")) if point.tag == "train/n_updates"]
    assert [point.env_steps for point in points] == [0, 1000, 2000, 2000, 3000, 4000]
    assert [point.unix_s - BEGAN_UNIX_S for point in points] == [0.0, 1.0, 2.0, 100.0, 101.0, 102.0]


def test_a_clock_that_was_not_recorded_begins_where_the_run_was_made(tmp_path: Path) -> None:
    old = [{key: value for key, value in moment(index).items() if key != "unix_s"} for index in range(3)]
    run = load(run_dir(tmp_path / "a", recorded=text(*old)))
    assert wall_clock(run).tolist() == [BEGAN_UNIX_S, BEGAN_UNIX_S + 1.0, BEGAN_UNIX_S + 2.0]


def test_tensorboard_reads_what_was_recorded(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    run, folder = resumed(tmp_path / "a"), tmp_path / "events"
    for _ in range(2):  # the second in place of the first
        assert write_tensorboard(run, folder) == len(list(scalars(run)))
    assert len(list(folder.glob(OTHERS))) == 1
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    assert set(found.Tags()["scalars"]) == {point.tag for point in scalars(run)}
    for tag in found.Tags()["scalars"]:
        read = [(event.step, event.wall_time, event.value) for event in found.Scalars(tag)]
        told = [(p.env_steps, p.unix_s, float(np.float32(p.value))) for p in scalars(run) if p.tag == tag]
        assert read == told
    (score,) = found.Scalars("eval/mean_reward")
    assert (score.step, score.wall_time, score.value) == (2500, BEGAN_UNIX_S + 9, 33.0)


def test_another_program_s_event_files_are_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "events").mkdir()
    theirs = tmp_path / "events" / "events.out.tfevents.1.theirs"
    theirs.write_bytes(b"precious")
    write_tensorboard(load(run_dir(tmp_path / "a")), tmp_path / "events")
    assert theirs.read_bytes() == b"precious"


def test_csv_has_every_moment_and_nothing_where_nothing_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.csv"
    assert write_csv(resumed(tmp_path / "a"), path) == 8
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["env_steps"] for row in rows[-3:]] == ["2000", "3000", "4000"]
    assert (rows[0]["return_mean"], rows[3]["return_mean"], rows[0]["unix_s"]) == ("", "30", "1700000000")
    learnt = [(row["policy_loss"], row["explained_variance"], row["metrics/success"]) for row in rows[:3]]
    assert learnt == [("", "", ""), ("0.5", "0.5", "0.125"), ("1", "1", "0.25")]


def test_tags_are_those_of_the_live_files(tmp_path: Path) -> None:
    charts, live = Charts(), set[str]()
    for line in [moment(index) for index in range(4)] + [SCORE]:
        points = charts.read(line)
        assert points is not None
        live |= points.values.keys()
    assert live == {point.tag for point in scalars(resumed(tmp_path / "a"))}
