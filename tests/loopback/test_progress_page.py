"""deploy/PROGRESS.md says what is written: every event and field of the code and of a real run, and no other."""

from __future__ import annotations

import ast
import json
import re
from calendar import timegm
from collections.abc import Iterator
from pathlib import Path
from time import strptime
from typing import Any

import pytest

from learner.analysis.export import scalars
from learner.analysis.runs import load
from learner.monitoring.result import result_of
from learner.monitoring.summary import summarize
from learner.progress import RENAMED, RENAMED_IN_RESULT, with_former
from tests.learner.books import learner_state
from tests.learner.courses import life, run_dir, text
from tests.loopback.conftest import Finished
from tests.loopback.system import ROOT

STAMP = {"event", "wall_s", "unix_s"}
TELLERS = {"Announce", "_announce", "announce", "tell", "_tell"}
NOT_OF_A_RUN = {"learner/analysis/replay.py"}  # `learner replay` prints what it finds and records nothing
ELSEWHERE = {  # said by other means than a call with their name
    "learner": {"progress", "finished", "actor_said", "output_lost", "settings_changed"},
    "actor": {
        "simulator_failed",
        "gradient_not_finite",
        "local_steps_unused",
        "image_flattened",
        "portion_changed",
        "actions_masked",
        "stage_entered",
        "output_lost",
    },
}


def cells(title: str) -> Iterator[list[list[str]]]:
    """The names between backticks in each cell of a section's table."""
    text = (ROOT / "deploy" / "PROGRESS.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]


def fields(title: str) -> set[str]:
    """Of a table of fields."""
    return {name for first, *_ in cells(title) for name in first}


def with_former_names(title: str) -> set[str]:
    """Of a table of fields, and the names that these had."""
    renamed = RENAMED_IN_RESULT if title == "finished" else RENAMED
    return set(with_former(dict.fromkeys(fields(title)), renamed))


def told(title: str) -> dict[str, set[str]]:
    """Events of a table and their fields."""
    return {name: set(second) for first, second, *_ in cells(title) for name in first}


def page(package: str) -> dict[str, set[str]]:
    """All events on it that this package says."""
    if package == "actor":
        return told("What an actor says")
    known = {title: with_former_names(title) - STAMP for title in ("progress", "finished")}
    return known | told("The learner's other events")


def announced(package: str) -> Iterator[tuple[str, set[str] | None]]:
    """Events in the code, with their fields where these are spelt out at the call."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.relative_to(ROOT).as_posix() in NOT_OF_A_RUN:
            continue
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _name(call.func) in TELLERS and call.args:
                yield from _said(call)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _said(call: ast.Call) -> Iterator[tuple[str, set[str] | None]]:
    first = call.args[0]
    branches = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
    spelt: set[str] | None = None
    if len(call.args) > 1 and isinstance(call.args[1], ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in call.args[1].keys]
        spelt = {str(key) for key in keys} if None not in keys else None
    for branch in branches:
        if isinstance(branch, ast.Constant) and isinstance(branch.value, str):
            yield branch.value, spelt


@pytest.mark.parametrize("package", ["learner", "actor"])
def test_the_page_has_every_event_of_the_code_and_no_other(package: str) -> None:
    assert {event for event, _ in announced(package)} | ELSEWHERE[package] == set(page(package))


@pytest.mark.parametrize("package", ["learner", "actor"])
def test_the_page_has_the_fields_that_the_code_spells_out(package: str) -> None:
    spelt = {event: named for event, named in announced(package) if named is not None}
    assert len(spelt) > 5
    assert {event: page(package)[event] - {"actor"} for event in spelt} == {
        event: named - {"actor"} for event, named in spelt.items()
    }


def test_the_page_has_the_fields_of_progress_and_of_the_result() -> None:
    state = learner_state()
    told = {**summarize(state, 1.0).fields(), **state.progress.averages.take()}
    assert with_former_names("progress") == set(told)
    assert with_former_names("finished") == set(result_of(state, 1.0, 0.0, 0))
    assert fields("Every line") == STAMP


def test_the_page_has_every_former_name() -> None:
    rows = cells("One name for each number, and the former ones")
    listed = {new: old for present, former, _ in rows for new, old in zip(present, former, strict=True) if former}
    of_checkpoints, of_an_actor = {"gradients_received": "gradients_up"}, {"idle_s": "no_progress_s"}
    assert listed | of_checkpoints == RENAMED_IN_RESULT | of_an_actor


def test_the_page_has_every_tag_that_tensorboard_is_given(tmp_path: Path) -> None:
    score = {"event": "evaluated", "actor": "judge", "version": 50, "mean": 33.0, "ci95": 2.0}
    run = load(run_dir(tmp_path / "run", recorded=text(*life(), score)))
    assert fields("TensorBoard") == {point.tag.replace("/success", "/NAME") for point in scalars(run)}


def test_a_real_run_writes_what_the_page_says(finished: Finished) -> None:
    known = page("actor") | page("learner")
    recorded = _recorded(finished.run_dir)
    assert {"started", "progress", "actor_joined", "welcomed", "checkpoint_written", "finished"} <= {*recorded}
    for event, named in recorded.items():
        actors_own = {"actor"} if event in page("actor") else set()
        assert named == known[event] | actors_own | STAMP, event


def _recorded(run_dir: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines():
        said: dict[str, Any] = json.loads(line)
        found.setdefault(str(said["event"]), set()).update(said)
    return found


def test_a_real_run_is_looked_back_at_to_its_end(finished: Finished) -> None:
    run = load(finished.run_dir)
    assert run.result is not None
    assert (run.env, run.course.lives, run.course.torn) == ("CartPole-v1", 1, 0)
    for name in ("env_steps", "episodes", "version", "received_bytes", "sent_bytes"):
        assert getattr(run.course, name)[-1] == run.result[name], name
    assert run.course.lag_count[-1] > 0.0
    made = timegm(strptime(str(run.created), "%Y-%m-%dT%H:%M:%SZ"))
    assert made <= run.course.unix_s[0] <= run.course.unix_s[-1]
