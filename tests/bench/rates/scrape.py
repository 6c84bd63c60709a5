"""What a scrape costs with a fleet of a thousand: ``python -m tests.bench.rates.scrape [--actors N]``.

A real learner's state hears N hellos, heartbeats and gradients; then its page is rendered as often as is asked. That
happens on the loop's thread, so what one takes is what the loop stands still for. Beside it: the process's own numbers
(``process_*``), whose cost grows with open descriptors, and the bytes that a heartbeat's times add to the wire.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from learner.monitoring.metrics import Metrics
from protocol.messages import Heartbeat, encode
from tests.learner.books import fleet

REPEATS = 200
LIVE_MS = (31_000_000, 28_000_000, 2_400_000, 25_000_000)  # of a worker after a day


def timed_ms(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Milliseconds that one call takes."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(1e3 * (time.perf_counter() - began))
    return {"median": round(statistics.median(took), 2), "max": round(max(took), 2)}


def heartbeat_bytes() -> dict[str, int]:
    """A heartbeat of an actor that has worked for a day, without and with what it tells of its times."""
    link = (0.0123, 0.0456)
    bare = encode(Heartbeat(1 << 62, 1 << 30, 1 << 20, *link))
    whole = encode(Heartbeat(1 << 62, 1 << 30, 1 << 20, *link, *LIVE_MS, 13))
    return {"without_times": sum(map(len, bare)), "with_times": sum(map(len, whole))}


def measured(actors: int, repeats: int) -> dict[str, object]:
    """All of it."""
    state = fleet(actors)
    metrics = Metrics(state, lambda: 10.0)
    process = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=process)
    with ExitStack() as open_:
        for _ in range(actors):  # a connection each
            open_.callback(os.close, os.dup(0))
        page = metrics.render()
        return {
            "actors": state.sessions.training,
            "series": sum(not line.startswith(b"#") for line in page.splitlines()),
            "page_bytes": len(page),
            "scrape_ms": timed_ms(metrics.render, repeats),
            "of_it_process_ms": timed_ms(lambda: generate_latest(process), repeats),
            "heartbeat_bytes": heartbeat_bytes(),
        }


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actors", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked = parser.parse_args()
    print(json.dumps(measured(asked.actors, asked.repeats), indent=1))


if __name__ == "__main__":
    main()
