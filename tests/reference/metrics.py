"""deploy/METRICS.md: every metric of both daemons, read from the collectors themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from prometheus_client.metrics_core import Metric

from actor.environments.child_protocol import FailureKind
from actor.monitoring.metrics import Counters
from actor.monitoring.metrics import registry as actor_registry
from actor.stats import LinkStats, WorkerStats
from learner.monitoring.metrics import Metrics
from tests.learner.books import whole
from tests.reference.markdown import code, table

HEAD = """# Metrics

Written by `python -m tests.reference` from the code; a test fails where they differ.

One scrape of the learner (`learner run --http HOST:PORT`, path `/metrics`) sees the whole fleet: actors tell the
learner of themselves in their heartbeats, and it shows sums, or the least, the median and the most (`quantile` 0, 0.5
and 1). No series names an actor, so there are as many with a thousand actors as with one. What no actor has told yet,
or what a run does not have (a target network, a journal), has no series. Counters begin at zero with each life of a
daemon, as `rate()` wants; what a run came to in all its lives are the gauges `farflung_learner_run_*` and
`farflung_learner_version`. On Linux both pages hold the client's `process_*`, too: CPU, memory, descriptors.
"""
UNITS = ("seconds", "bytes", "updates", "gradients", "steps", "nats", "ratio")
DAEMONS_OWN = "farflung_"  # before what is ours; process_* depends on the machine


def page() -> str:
    """The whole file."""
    state, shell = whole()
    learner = list(Metrics(state, lambda: 10.0, shell).families())
    failing = WorkerStats(simulator_failures=dict.fromkeys(get_args(FailureKind), 1))
    actor = list(actor_registry(Counters(link=LinkStats(run="r"), worker=failing)).collect())
    parts = [HEAD]
    for title, families in (("The learner", learner), ("An actor (`actor run --metrics HOST:PORT`)", actor)):
        own = [family for family in families if family.name.startswith(DAEMONS_OWN)]
        parts.append(f"## {title}\n\n{table(('name', 'type', 'labels', 'unit', 'what'), map(_row, own))}")
    parts.append(f"## Values of labels\n\n{table(('label', 'values', 'of'), _labels([*learner, *actor]))}")
    return "\n".join(parts)


def _row(family: Metric) -> tuple[str, ...]:
    labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
    return code(_name(family)), family.type, ", ".join(map(code, labels)), _unit(family.name), family.documentation


def _name(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _unit(name: str) -> str:
    """Of the name's last word, which is the unit where there is one."""
    words = name.split("_")
    if words[-3:-1] == ["steps", "per"]:
        return "steps per second"
    return words[-1] if words[-1] in UNITS else ""


def _labels(families: Iterable[Metric]) -> list[tuple[str, ...]]:
    """One row for each label and what it may be, with the metrics that have it so; not what differs from run to run."""
    rows: dict[tuple[str, str], list[str]] = {}
    for family in families:
        found: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label == "metric":  # as the run's environments call it
                    continue
                found.setdefault(label, {})[value] = None
        if family.type != "info" and family.name.startswith(DAEMONS_OWN):
            for label, values in found.items():
                rows.setdefault((label, ", ".join(values)), []).append(code(_name(family)))
    return [(code(label), values, ", ".join(names)) for (label, values), names in rows.items()]
