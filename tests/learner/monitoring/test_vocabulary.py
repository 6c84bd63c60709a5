"""One name for each number: metrics, /status, progress.jsonl, result.json and the counters call it the same."""

from __future__ import annotations

import re

import pytest

from learner.monitoring.history import Point
from learner.monitoring.result import result_of
from learner.monitoring.status import status
from learner.monitoring.summary import summarize
from learner.monitoring.web import PAGE
from learner.progress import LEARNT, RENAMED, RENAMED_IN_RESULT, Progress
from tests.learner.books import lived, whole

EVERYWHERE = "counters metrics status progress result"
SAID_IN = {
    "version": EVERYWHERE,
    "env_steps": EVERYWHERE,
    "episodes": EVERYWHERE,
    "evaluations": EVERYWHERE,
    "evaluated_best_mean": EVERYWHERE,
    "evaluated_best_version": "counters metrics status result",
    "received_bytes": EVERYWHERE,
    "sent_bytes": EVERYWHERE,
    "gradient_received_bytes": "counters metrics result",
    "codec_bytes": "counters metrics",
    "weight_bytes": "counters metrics",
    "sessions_granted": "counters metrics result",
    "return_mean": "counters metrics status progress",
    "return_best_mean": "counters metrics status progress",
    "return_target": "metrics status progress result",
    "checkpoint_version": "metrics result",
    "target_version": "metrics status result",
    "actors": "metrics status progress",
    "useful_actors": "metrics status progress",
    "noise_scale_env_steps": "metrics status progress",
    "batch_env_steps": "counters metrics status",
    "evaluators": "metrics status progress",
    "parameters": "metrics status result",
    "pending_gradients": "metrics status",
    "stalled": "metrics status",
    "refused": "status progress",
    "lag_mean_updates": "status progress result",
    "lag_max_updates": "status result",
}


@pytest.mark.parametrize("name", SAID_IN)
def test_a_number_has_one_name_wherever_it_is_said(name: str) -> None:
    state, readings = whole(2)
    families = {family.name.removeprefix("farflung_learner_") for family in lived(state, readings=readings).families()}
    said = {
        "counters": set(dir(Progress())),
        "metrics": families,
        "status": set(status(state, 10.0)),
        "progress": set(summarize(state, 10.0).fields()),
        "result": set(result_of(state, 10.0, 0.0, 0)) - set(RENAMED_IN_RESULT.values()),
    }
    assert {place for place, names in said.items() if name in names} == set(SAID_IN[name].split())


def test_what_was_renamed_is_the_same_number() -> None:
    state, _ = whole(2)
    result = result_of(state, 10.0, 0.0, 0)
    for new, old in RENAMED_IN_RESULT.items():
        assert result.get(new) == result.get(old), new
    for told in (status(state, 10.0), summarize(state, 10.0).fields()):
        for new, old in RENAMED.items():
            assert told.get(new) == told.get(old), new


def test_the_page_reads_only_what_status_and_history_say() -> None:
    state, _ = whole(2)
    told, script = status(state, 10.0), (PAGE / "page.js").read_text(encoding="utf-8")
    assert set(re.findall(r"\b(?:s|page\.status)\.([a-z_]+)", script)) <= set(told)
    columns = re.search(r"const COLUMNS = \[(.*?)\n\];", script, re.DOTALL)
    assert columns is not None
    assert set(re.findall(r'^  \["([a-z_]+)"', columns[1], re.MULTILINE)) <= set(told["actor_list"][0])
    assert set(re.findall(r'field: "([a-z_]+)"', script)) <= set(Point._fields)


def test_the_page_shows_all_that_is_learnt() -> None:
    listed = re.search(r"const LEARNT = \[(.*?)\n\];", (PAGE / "numbers.js").read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None
    assert re.findall(r'\["([a-z_]+)"', listed[1]) == list(LEARNT)
