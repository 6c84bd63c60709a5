"""What the pictures' judge minds, and that what is installed for them is the same each time."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.deploy.grafana import tool
from tests.deploy.grafana.judging import complaints
from tests.deploy.grafana.scene import ALERTS


def drawn(**changed: Any) -> dict[str, Any]:
    panel = {"title": "Return", "problems": [], "queries": [{"expr": "x", "series": 1}]}
    return {"board": "b", "dark": False, "alerts": sorted(ALERTS), "errors": [], "panels": [{**panel, **changed}]}


def test_what_is_well_is_not_minded() -> None:
    assert not list(complaints([drawn()]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problems": ["no data"]}, "b, light: Return: no data"),
        ({"queries": [{"expr": "x", "series": 0}]}, "b, light: Return: no answer to x"),
    ],
)
def test_a_panel_without_data_is_minded(changed: dict[str, Any], said: str) -> None:
    assert list(complaints([drawn(**changed)])) == [said]


def test_what_a_run_may_not_know_is_no_complaint() -> None:
    unknown = {"expr": "max(farflung_learner_useful_actors{})", "series": 0}
    assert not list(complaints([drawn(queries=[unknown, {"expr": "x", "series": 1}])]))


def test_missing_marks_errors_and_a_page_that_fails_are_minded() -> None:
    assert list(complaints([{**drawn(), "alerts": []}])) == ["b, light: no mark of ActorsQuarantined, RunDiverged"]
    assert list(complaints([{**drawn(), "dark": True, "errors": ["it broke"]}])) == ["b, dark: it broke"]
    assert list(complaints([{**drawn(), "failed": "TypeError"}])) == ["b, light: TypeError"]


def test_packages_are_named_by_exact_versions() -> None:
    package = json.loads((tool.SOURCES / "package.json").read_text(encoding="utf-8"))
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["dependencies"].values())
