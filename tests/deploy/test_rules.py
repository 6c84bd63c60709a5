"""Rules and alerts: as promtool wants them, tested for both outcomes, and each with a page that says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import rules
from tests.deploy.test_boards import known_names

SEVERITIES = {"critical", "warning", "info"}
CHAPTERS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
PROMTOOL = shutil.which("promtool")
AMTOOL = shutil.which("amtool")
ALERTMANAGER = rules.PROMETHEUS / "alertmanager.yml"
RECEIVERS = {"critical": "page", "warning": "team", "info": "notice"}
ALERTS = rules.alerts()

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
needs_amtool = pytest.mark.skipif(AMTOOL is None, reason="amtool is not installed (Debian: prometheus-alertmanager)")


def promtool(*arguments: str | Path) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
@pytest.mark.parametrize("path", rules.RULE_FILES, ids=lambda path: path.name)
def test_the_rules_are_valid(path: Path) -> None:
    promtool("check", "rules", path)


@needs_promtool
def test_the_configuration_is_valid_and_finds_the_rules() -> None:
    found = promtool("check", "config", rules.PROMETHEUS / "prometheus.yml")
    assert all(path.name in found for path in rules.RULE_FILES)


@needs_promtool
@pytest.mark.parametrize("path", sorted((rules.PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent_when_they_should(path: Path) -> None:
    promtool("test", "rules", path)


def scenarios() -> list[tuple[str, list[dict[str, Any]]]]:
    """Of promtool's tests: the name of each, and what it expects at which moment."""
    paths = sorted((rules.PROMETHEUS / "tests").glob("*.yml"))
    tests = [test for path in paths for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]]
    return [(test["name"], test["promql_expr_test"]) for test in tests]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_for_firing_and_for_silence(name: str) -> None:
    about = [expected for title, expected in scenarios() if title.startswith(name)]
    fires = [bool(moment["exp_samples"]) for moments in about for moment in moments]
    assert any(fires)
    assert not all(fires)


def test_the_drill_provokes_each_alert() -> None:
    acts = Path(__file__).with_name("drill").joinpath("__main__.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\.fires\(\s*\"(\w+)\"", acts)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in SEVERITIES
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"deploy/runbooks/{name}.md"
    assert "{{" in alert["annotations"]["description"], "which learner?"


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {path.stem for path in rules.RUNBOOKS.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_has_its_chapters_in_order(name: str) -> None:
    text = (rules.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall("^## .*$", text, re.MULTILINE) == CHAPTERS


def test_pages_name_panels_that_there_are() -> None:
    titles = {
        (board["title"].removeprefix("Farflung: "), panel["title"])
        for board in rules.boards().values()
        for panel in rules.panels(board)
    }
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in rules.RUNBOOKS.glob("*.md"))
    named = re.findall(r"[Pp]anel \*(.+?)\* of dashboard (\w+)", text)
    assert len(named) == len(re.findall("[Pp]anel ", text))
    assert {(board, panel) for panel, board in named} <= titles
    assert set(re.findall(r"[Dd]ashboard (\w+)", text)) <= {board for board, _ in titles}


def test_pages_speak_of_metrics_and_settings_that_there_are() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in rules.RUNBOOKS.glob("*.md"))
    settings = set(re.findall(r"`learner\.([a-z_]+)", text))
    listed = (rules.ROOT / "deploy" / "SETTINGS.md").read_text(encoding="utf-8")
    assert settings <= set(re.findall(r"^\| `learner\.(\w+)` \|", listed, re.MULTILINE))
    names = set(re.findall(r"farflung_learner_[a-z_]+", text))
    assert names <= known_names()


def amtool(*arguments: str | Path) -> str:
    assert AMTOOL is not None
    done = subprocess.run([AMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@needs_amtool
def test_the_alertmanager_s_example_is_valid() -> None:
    assert "3 receivers" in amtool("check-config", ALERTMANAGER)


@needs_amtool
@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_goes_where_its_severity_says(name: str) -> None:
    severity = ALERTS[name]["labels"]["severity"]
    labels = (f"alertname={name}", f"severity={severity}", "instance=l")
    assert amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels) == RECEIVERS[severity]


@needs_amtool
def test_an_alert_of_another_severity_is_not_lost() -> None:
    assert amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", "severity=odd") == "notice"


def test_what_silences_other_alerts_is_an_alert_and_critical() -> None:
    for rule in yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["inhibit_rules"]:
        (source,) = rule["source_matchers"]
        names = re.search(r'"(.*)"', source)[1].split("|")  # type: ignore[index]
        assert all(ALERTS[name]["labels"]["severity"] == "critical" for name in names)
