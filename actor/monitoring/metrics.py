"""An actor's counters, and their page for Prometheus. prometheus_client comes late.

The link's thread writes them; a scrape only reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actor.stats import LinkStats, WorkerStats
from protocol.errors import UserError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PREFIX = "farflung_actor"


@dataclass(slots=True)
class Counters:
    """One actor process's life, from zero: what the service counts itself, and the newest that it was handed."""

    bytes_up: int = 0  # sent to the learner, headers included
    bytes_down: int = 0  # received on the link and the weight stream
    dials: int = 0  # connections begun, the first one too
    link: LinkStats = field(default_factory=LinkStats)
    worker: WorkerStats = field(default_factory=WorkerStats)


def registry(counters: Counters) -> CollectorRegistry:
    """Where the counters are read from at each scrape, with this process's CPU and memory."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.registry import Collector

    class Books(Collector):
        def collect(self) -> Iterator[Metric]:
            return _families(counters)

    made = CollectorRegistry(auto_describe=False)
    made.register(Books())
    ProcessCollector(registry=made)
    return made


def render(counters: Counters) -> bytes:
    """The page of one scrape."""
    from prometheus_client import generate_latest

    return generate_latest(registry(counters))


def page_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` taken apart, brackets of an IPv6 host removed. Raises UserError."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UserError(f"--metrics {text!r}: expected HOST:PORT, as in 127.0.0.1:9401")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _families(counters: Counters) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    link, worker = counters.link, counters.worker
    if link.run:
        yield InfoMetricFamily(f"{PREFIX}_run", "What it works for.", value={"run": link.run})
    for name, text, value in (
        ("env_steps", "Environment steps taken.", worker.env_steps),
        ("gradients_sent", "Gradients handed to the link.", link.sent),
        ("gradients_lost", "Gradients whose fate was never learnt.", link.lost),
        ("gradients_unlogged", "Applied while the learner could not write its journal.", link.unlogged),
        ("sent_bytes", "Sent to the learner, headers included.", counters.bytes_up),
        ("received_bytes", "Received on the link and the weight stream.", counters.bytes_down),
        ("dials", "Connections begun, the first one too.", counters.dials),
    ):
        yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)
    answered = {"applied": link.applied, "refused": link.refused}
    yield _labelled("gradients_answered", "Gradients that a verdict answered.", "outcome", answered)
    spent = {"collect": worker.collect_s, "learn": worker.learn_s, "compress": worker.compress_s}
    spent["wait"] = worker.wait_s
    yield _labelled("work_seconds", "Where the worker's time went.", "part", spent)
    if worker.simulator_failures:
        text = "Simulators that were replaced, and numbers of theirs that were not finite."
        yield _labelled("simulator_failures", text, "kind", worker.simulator_failures)
    for name, text, number in (
        ("weights_version", "Version of the newest weights held.", link.weights_version),
        ("residual_norm", "L2 of what compression holds back.", worker.residual_norm),
        ("residual_age_gradients", "Gradients that it has waited, on average.", worker.residual_age),
        ("momentum", "The preconditioner's first decay, as staleness allows it.", worker.beta1),
        ("round_trip_seconds", "From a gradient to its verdict, a running mean.", link.round_trip_s),
        ("credit", "Gradients that may be unanswered.", link.credit),
        ("unanswered_gradients", "Sent, and not answered yet.", link.unanswered),
        ("unseen_gradients", "Applied, and not shown by the newest weights yet.", link.unreflected),
        ("connected", "1 while it has a session with the learner.", link.connected),
    ):
        yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=number)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int] | Mapping[str, float]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
