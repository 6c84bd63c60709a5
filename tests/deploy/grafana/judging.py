"""What is wrong with drawn dashboards. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.deploy.grafana.scene import ALERTS

UNKNOWN = ("farflung_learner_useful_actors", "farflung_learner_noise_scale")  # in some runs, and it says so


def complaints(records: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each panel that has no data or an error, and for each query without an answer."""
    for record in records:
        where = f"{record['board']}, {'dark' if record['dark'] else 'light'}"
        if record.get("failed"):
            yield f"{where}: {record['failed']}"
            continue
        for panel in record["panels"]:
            yield from (f"{where}: {panel['title']}: {problem}" for problem in panel["problems"])
            empty = [
                query["expr"]
                for query in panel["queries"]
                if not query["series"] and not any(name in query["expr"] for name in UNKNOWN)
            ]
            yield from (f"{where}: {panel['title']}: no answer to {expr}" for expr in empty)
        if unmarked := sorted(ALERTS - set(record["alerts"])):
            yield f"{where}: no mark of {', '.join(unmarked)}"
        yield from (f"{where}: {error}" for error in record["errors"])
