"""DRILL.md from the records of the acts. Knows records and files; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.machine import description
from tests.bench.store import Store, origins
from tests.deploy.drill.server import FACTOR, LONG_FACTOR
from tests.deploy.rules import alerts

WORDS = f"""Written by `make drill`: real daemons, a real Prometheus, and the rules of this repository in fast motion
(durations divided by {FACTOR}; for NoNewBest those of hours by {LONG_FACTOR}; a scrape each second). Before anything is
done to an act's learner and actors no alert may fire, and afterwards none but those that its trouble explains. Where
only the link matters the actors have no simulators (`tests/faults/peers/light.py`)."""


def write(results: Path, path: Path, acts: Sequence[str]) -> None:
    """The newest record of each act."""
    found = [records[-1] for act in acts if (records := Store(results, act).read())]
    lines = ["# Alerts, provoked", "", WORDS, "", f"* Machine: {description()}", f"* Commits: {origins(found)}", ""]
    lines += _well([row for record in found if record["act"] == "well" for row in record["rows"]])
    rows = [row for record in found if record["act"] != "well" for row in record["rows"]]
    lines += ["| alert | provoked by | fired after | ended after its cause |", "|---|---|---|---|"]
    lines += [f"| {row['alert']} | {row['how']} | {row['after_s']:g} s | {_ended(row)} |" for row in rows]
    missing = sorted(set(alerts()) - {row["alert"] for row in rows})
    lines += ["", f"Not provoked: {_all(missing)}."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def _well(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"A healthy run (LunarLander, two actors, a journal) of {row['well_s']:g} s fired nothing. Of {row['asked']}"
        f" expressions of dashboards, recorded series and alerts, without an answer: {_all(row['empty'])}."
        f" What `promtool check metrics` minds about the learner's and the actors' pages: {_lint(row['lint'])}.\n"
        for row in rows
    ]


def _all(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _lint(said: list[str]) -> str:
    return "; ".join(dict.fromkeys(line for text in said for line in text.splitlines())) or "nothing"


def _ended(row: dict[str, Any]) -> str:
    return f"{row['ended_after_s']:g} s" if "ended_after_s" in row else ""
