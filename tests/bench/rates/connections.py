"""What a learner does with many connections: ``python -m tests.bench.rates.connections [N ...]``.

``learner run cartpole`` as it is by default, and a crowd in another process, each of N with one gradient under way that
says nothing of θ: what is measured is what a connection and a verdict cost. N in turns, so that a machine that changes
its pace does it to all. Prints one JSON object for each round, and for each N the medians beside those of the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.machine import ask
from tests.bench.rates.live import Learner
from tests.bench.store import Record

CONNECTIONS = (8, 200, 1024)
ROUNDS, SECONDS = 3, 8.0
TOLD = ("gradients_per_s", "per_learner_cpu_s", "learner_cpu", "crowd_cpu", "p50_ms", "p99_ms")


def measure(connections: int, seconds: float, density: float) -> Record:
    """One round with a learner of its own. density: of coordinates that each gradient carries."""
    most = f"learner.max_actors={max(connections, 1024)}"
    with tempfile.TemporaryDirectory() as folder, Learner(["cartpole"], [most], Path(folder)) as learner:
        load = [learner.address, str(connections), str(seconds), str(density), str(learner.pid)]
        return ask(["tests.bench.rates.crowd", *load])


def medians(rounds: Sequence[Record]) -> Record:
    """Of what each round found of one N."""
    return {name: statistics.median(each[name] for each in rounds) for name in TOLD}


def main() -> None:
    """All rounds, and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("connections", type=int, nargs="*", default=CONNECTIONS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--density", type=float, default=0.0)
    asked = parser.parse_args()
    found: dict[int, list[Record]] = {number: [] for number in asked.connections}
    for _ in range(asked.rounds):
        for number, rounds in found.items():
            rounds.append(measure(number, asked.seconds, asked.density))
            print(json.dumps(rounds[-1]), flush=True)
    first = medians(found[asked.connections[0]])
    for number, rounds in found.items():
        told = medians(rounds)
        ratio = told["per_learner_cpu_s"] / first["per_learner_cpu_s"]
        print(f"{number:>6} connections: {json.dumps(told)}, {ratio:.2f} of the first's for each second of processor")


if __name__ == "__main__":
    main()
