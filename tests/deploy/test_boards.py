"""The committed dashboards: made by their generator, complete, and of metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from actor.monitoring.metrics import Counters
from actor.monitoring.metrics import render as actor_page
from actor.stats import LinkStats
from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import COLUMNS
from learner.durability.storage import JournalStats
from learner.monitoring.metrics import Metrics, ServiceReadings
from tests.deploy import rules
from tests.learner.books import join, learner_state, scaled, trained

METRIC = re.compile(r"\b(?:farflung_(?:learner|actor)|process)_[a-z_]+|\bfarflung:[a-z0-9_:]+")
SUFFIXES = ("_bucket", "_sum", "_count")

Json = dict[str, Any]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_committed_json_is_what_the_generator_makes(board: Any) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="the extra `deploy` is not installed")
    from deploy.grafana.generate import FOLDER, made

    committed = (FOLDER / f"{board.uid}.json").read_text(encoding="utf-8")
    assert made(board) == committed, "python -m deploy.grafana.generate"


def test_there_is_a_file_for_each_board_and_no_other() -> None:
    assert set(rules.boards()) == {board.uid for board in BOARDS}
    assert all(json["uid"] == uid for uid, json in rules.boards().items())


def every_panel() -> list[Any]:
    found = [(uid, panel) for uid, board in rules.boards().items() for panel in rules.panels(board)]
    return [pytest.param(panel, id=f"{uid}-{panel['title']}") for uid, panel in found]


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_says_what_it_shows_in_which_unit(panel: Json) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert all(target["expr"] and target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert "$__rate_interval" in str(panel["targets"]) or "rate(" not in str(panel["targets"])


@pytest.mark.parametrize("board", rules.boards().values(), ids=lambda board: str(board["uid"]))
def test_panels_have_numbers_of_their_own_and_do_not_overlap(board: Json) -> None:
    ids = [panel["id"] for panel in rules.panels(board)]
    assert len(set(ids)) == len(ids)
    cells = [cell for panel in rules.panels(board) for cell in cells_of(panel["gridPos"])]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < COLUMNS for x, _ in cells)


@pytest.mark.parametrize("board", rules.boards().values(), ids=lambda board: str(board["uid"]))
def test_numbers_come_first_and_courses_after_them(board: Json) -> None:
    kinds = [panel["type"] == "stat" for panel in rules.panels(board)]
    assert kinds[0]
    assert all(before or not after for before, after in pairwise(kinds))
    assert len(kinds) <= 15, "a board that answers everything answers nothing"


def cells_of(place: Json) -> list[tuple[int, int]]:
    return [
        (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    ]


def known_names() -> set[str]:
    """Names of all samples on the two pages of a run that has everything, of the system's, and of recorded series."""
    state = learner_state(trained([10.0]), until_return=100.0)
    join(state, "local-0", 0.0)
    state.progress.return_best_mean = state.progress.return_worst_mean = 10.0
    scaled(state)
    state.training_since = 1.0
    state.saving.journaled, state.saving.version, state.saving.written_at = True, 2, 4.0
    shell = ServiceReadings(journal=lambda: JournalStats(100, 5, 0.5))
    pages = Metrics(state, lambda: 10.0, shell).render() + actor_page(Counters(link=LinkStats(run="r")))
    families = re.findall(r"^# TYPE (\S+) (\S+)$", pages.decode(), re.MULTILINE)
    buckets = {f"{name}{suffix}" for name, kind in families if kind == "histogram" for suffix in SUFFIXES}
    return {name for name, _ in families} | buckets | set(rules.recorded())


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"checkpoint_age_seconds": 5000, "checkpoint_version": 7, "version": 7, "training_seconds": 6000}, 0),  # idle
        ({"checkpoint_age_seconds": 50, "checkpoint_version": 7, "version": 9, "training_seconds": 6000}, 50),
        ({"version": 9, "training_seconds": 60}, 60),  # before the first
        ({"version": 0}, 0),
        ({"checkpoint_age_seconds": 90, "checkpoint_version": 7, "version": 7, "stalled": 1}, 90),  # it stands still
    ],
)
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_newest_checkpoint_is_old_only_where_there_is_something_to_lose(
    tmp_path: Path, told: dict[str, float], shown: float
) -> None:
    (panel,) = [panel for panel in rules.panels(rules.boards()["farflung-learner"]) if "checkpoint" in panel["title"]]
    series = [
        {"series": f'farflung_learner_{name}{{instance="l"}}', "values": f"{value}x4"} for name, value in told.items()
    ]
    expected = {"expr": rules.asked(panel["targets"][0]["expr"]), "eval_time": "2m"}
    moment = {**expected, "exp_samples": [{"labels": "{}", "value": shown}]}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [moment]}
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [test]}), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_units_scale_and_do_not_repeat_at_each_tick() -> None:
    assert "suffix:" not in json.dumps(rules.boards())


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_asks_of_the_chosen_runs_alone(panel: Json) -> None:
    for target in panel["targets"]:
        expr = target["expr"]
        joined = "on (job, instance)" in expr and '_run_info{run=~"$run"}' in expr
        for selected in re.findall(r"\b(?:farflung|process)[_:][a-z0-9_:]+(?:\{[^}]*\})?", expr):
            assert joined or "$instance" in selected or "$run" in selected, selected


def test_marks_of_alerts_are_for_ours_with_and_without_an_instance() -> None:
    for uid, board in rules.boards().items():
        (mark,) = board["annotations"]["list"]
        named = set(re.search(r'alertname=~"([^"]*)"', mark["expr"])[1].split("|"))  # type: ignore[index]
        assert named == set(rules.alerts())
        assert uid == "farflung-runs" or 'instance=~"$instance|"' in mark["expr"]


def test_counters_are_asked_for_what_they_gain() -> None:
    """They begin anew with each life of a daemon: what a run came to is in its gauges."""
    bare = {
        (where, expr)
        for where, expr in rules.expressions()
        if re.search(r"(?<!rate\()(?<!increase\()\bfarflung_\w+_total\b", expr)
    }
    assert not bare


def test_each_metric_that_is_asked_for_is_on_a_page() -> None:
    names = known_names()
    missing = {
        (where, name) for where, expr in rules.expressions() for name in METRIC.findall(expr) if name not in names
    }
    assert not missing
