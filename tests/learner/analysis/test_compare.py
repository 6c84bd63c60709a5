"""Runs side by side: settings that differ, results against plain means, seeds in one column, a line each in a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from learner.analysis.compare import compared, text, write
from learner.analysis.runs import Group, Run, grouped, load
from protocol import manifest as manifests
from protocol.manifest import Origin
from tests.learner.books import manifest
from tests.learner.courses import ended, life, run_dir
from tests.learner.courses import text as lines


def three(folder: Path) -> list[Run]:
    """Two seeds of one experiment, and one run of another."""
    longer = lines(*life(), {"event": "started", "wall_s": 0.0}, ended(2, env_steps=9000, episodes=400))
    paths = [
        run_dir(folder / "a", 0),
        run_dir(folder / "b", 1, recorded=longer),
        run_dir(folder / "c", 2, envs=8, hidden=[32, 32]),
    ]
    for path, solved in zip(paths, (True, False, True), strict=True):
        (path / "result.json").write_text(json.dumps({"epoch": 1, "solved": solved}))
    return [load(path) for path in paths]


def names(runs: list[Run]) -> dict[Path, str]:
    return {run.path: run.path.name for run in runs}


def test_seeds_share_a_column_and_settings_that_differ_a_row(tmp_path: Path) -> None:
    runs = three(tmp_path)
    table = compared(grouped(runs), names(runs))
    assert table.columns == ("a and 1 more", "c")
    assert table.settings == {"actor.envs": ["unset", "8"], "actor.hidden": ["unset", "[32, 32]"]}
    assert table.results["seeds"] == ["0, 1", "2"]
    assert table.results["solved"] == ["1 of 2", "1 of 1"]
    assert table.results["environment steps"] == ["7,500 (6,000 to 9,000)", "6,000"]
    assert table.results["seconds"] == ["7 (6 to 8)", "6"]
    assert table.results["evaluated, best mean"] == ["-", "-"]


def test_numbers_are_those_of_the_course(tmp_path: Path) -> None:
    path = run_dir(tmp_path / "a", recorded=lines(*life(), {"event": "evaluated", "version": 50, "mean": 33.0}))
    table = compared([Group("", (load(path),))], {path: "a"})
    assert {name: cells[0] for name, cells in table.results.items()} == {
        "seeds": "0",
        "solved": "0 of 1",
        "return, mean of 100": "60",
        "return, best mean": "60",
        "evaluated, best mean": "33",
        "environment steps": "6,000",
        "episodes": "300",
        "version": "120",
        "seconds": "6",
        "steps per second": "1,000",
        "bytes received": "3,000",
        "bytes sent": "1,800",
    }
    assert table.settings == {}
    assert text(table).startswith("their settings are the same\n")


def test_a_run_that_began_with_other_weights_is_another_experiment(tmp_path: Path) -> None:
    plain, tuned = run_dir(tmp_path / "plain"), run_dir(tmp_path / "tuned", 1)
    origin = Origin(
        path="/runs/old/checkpoints/checkpoint-000000000040.safetensors",
        run="old",
        version=40,
        only=(),
        leave=("head.*",),
        copied_layers=1,
        copied_parameters=6,
        left=("head.w",),
        statistics_rows=0,
        optimizer=False,
    )
    (tuned / "manifest.json").write_bytes(manifests.encode(manifest(seed=1, initial=origin)))
    runs = [load(plain), load(tuned)]
    assert compared(grouped(runs), names(runs)).settings == {
        "initial.except": ["unset", '["head.*"]'],
        "initial.weights": ["unset", "old@40"],
    }


def test_long_values_are_cut_for_people_alone(tmp_path: Path) -> None:
    runs = [load(run_dir(tmp_path / "a")), load(run_dir(tmp_path / "b", hidden=list(range(100, 150))))]
    printed = text(compared(grouped(runs), names(runs)))
    assert max(map(len, printed.splitlines())) < 100
    assert "[100, 101, 102, 103, 104, 105, 106, 1..." in printed
    write(grouped(runs), names(runs), tmp_path / "deep" / "table.csv")
    assert "149]" in (tmp_path / "deep" / "table.csv").read_text()


def test_a_file_has_a_line_for_each_run_with_bare_numbers(tmp_path: Path) -> None:
    runs = three(tmp_path)
    write(grouped(runs), names(runs), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["a", "b", "c"]
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert [row["actor.envs"] for row in rows] == ["", "", "8"]
    assert [row["solved"] for row in rows] == ["true", "false", "true"]
    assert [row["environment steps"] for row in rows] == ["6000", "9000", "6000"]
    assert [row["evaluated best mean"] for row in rows] == ["", "", ""]
