"""An actor's counters, and their page for Prometheus. Plain counts with one writer each; prometheus_client comes late.

The worker writes its times, the link everything else; a scrape only reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.errors import UserError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PREFIX = "farflung_actor"


@dataclass(slots=True)
class Counters:
    """One actor process's life, from zero."""

    env_steps: int = 0  # taken, reset steps not counted
    sent: int = 0  # gradients handed to the link
    applied: int = 0  # of those, applied
    refused: int = 0  # of those, refused
    lost: int = 0  # of those, never answered before their session ended
    bytes_up: int = 0  # sent to the learner, headers included
    bytes_down: int = 0  # received on the link and the weight stream
    dials: int = 0  # connections begun, the first one too
    weights_version: int = 0  # of the newest weights held
    collect_s: float = 0.0  # stepping simulators with the policy
    learn_s: float = 0.0  # gradients
    compress_s: float = 0.0  # preconditioning, choosing and encoding them
    wait_s: float = 0.0  # for permits and for weights
    residual_norm: float = 0.0  # L2 of what compression holds back
    residual_age: float = 0.0  # gradients that it has waited, on average
    beta1: float = 0.0  # momentum of the preconditioner, as staleness allows it
    round_trip_s: float = 0.0  # of a gradient until its verdict, a running mean
    credit: int = 0  # gradients that may be unanswered
    connected: bool = False  # it has a session
    unanswered: int = 0  # gradients that are
    unseen: int = 0  # gradients that were applied, and that the newest weights do not show yet
    unlogged: int = 0  # of the applied, those that the learner's journal did not hold when it said so
    simulator_failures: Mapping[str, int] = field(default_factory=dict)  # by kind: simulators that were replaced


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
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    for name, text, value in (
        ("env_steps", "Environment steps taken.", counters.env_steps),
        ("gradients_sent", "Gradients handed to the link.", counters.sent),
        ("gradients_lost", "Gradients whose fate was never learnt.", counters.lost),
        ("gradients_unlogged", "Applied while the learner could not write its journal.", counters.unlogged),
        ("sent_bytes", "Sent to the learner, headers included.", counters.bytes_up),
        ("received_bytes", "Received on the link and the weight stream.", counters.bytes_down),
        ("dials", "Connections begun, the first one too.", counters.dials),
    ):
        yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)
    answered = {"applied": counters.applied, "refused": counters.refused}
    yield _labelled("gradients_answered", "Gradients that a verdict answered.", "outcome", answered)
    spent = {"collect": counters.collect_s, "learn": counters.learn_s, "compress": counters.compress_s}
    spent["wait"] = counters.wait_s
    yield _labelled("work_seconds", "Where the worker's time went.", "part", spent)
    if counters.simulator_failures:
        told = "Simulators that were replaced, and numbers of theirs that were not finite."
        yield _labelled("simulator_failures", told, "kind", counters.simulator_failures)
    for name, text, number in (
        ("weights_version", "Version of the newest weights held.", counters.weights_version),
        ("residual_norm", "L2 of what compression holds back.", counters.residual_norm),
        ("residual_age_gradients", "Gradients that it has waited, on average.", counters.residual_age),
        ("momentum", "The preconditioner's first decay, as staleness allows it.", counters.beta1),
        ("round_trip_seconds", "From a gradient to its verdict, a running mean.", counters.round_trip_s),
        ("credit", "Gradients that may be unanswered.", counters.credit),
        ("unanswered_gradients", "Sent, and not answered yet.", counters.unanswered),
        ("unseen_gradients", "Applied, and not shown by the newest weights yet.", counters.unseen),
        ("connected", "1 while it has a session with the learner.", counters.connected),
    ):
        yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=number)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int] | Mapping[str, float]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
