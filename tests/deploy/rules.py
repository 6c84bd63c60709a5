"""The rule files and dashboards as data, for tests and drills. Knows their folders and their formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
RUNBOOKS = ROOT / "deploy" / "runbooks"
RULE_FILES = (PROMETHEUS / "farflung.rules.yml", PROMETHEUS / "alerts.rules.yml")


def rules(path: Path) -> list[dict[str, Any]]:
    """All rules of one file, in its order."""
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """By name."""
    return {rule["alert"]: rule for path in RULE_FILES for rule in rules(path) if "alert" in rule}


def recorded() -> dict[str, str]:
    """The expressions of recorded series, by name."""
    return {rule["record"]: rule["expr"] for path in RULE_FILES for rule in rules(path) if "record" in rule}


def boards() -> dict[str, dict[str, Any]]:
    """Grafana's JSON, by uid."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All of one dashboard, in reading order."""
    found: list[dict[str, Any]] = board["panels"]
    return found


def asked(expr: str, instance: str = ".*", interval: str = "1m") -> str:
    """An expression of a dashboard as Prometheus hears it."""
    return expr.replace("$__rate_interval", interval).replace("$instance", instance).replace("$run", ".*")


def expressions() -> Iterator[tuple[str, str]]:
    """Where each PromQL expression stands, and it: of dashboards, recorded series and alerts."""
    for uid, board in boards().items():
        for panel in panels(board):
            yield from ((f"{uid}: {panel['title']}", asked(target["expr"])) for target in panel["targets"])
    yield from recorded().items()
    yield from ((name, alert["expr"]) for name, alert in alerts().items())
