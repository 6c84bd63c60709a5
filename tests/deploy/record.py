"""Records what starved and saturated learners tell Prometheus: ``python -m tests.deploy.record``. Seven minutes.

Light actors (no simulators) make as many gradients as each case says. What is written is what a scrape every fifteen
seconds would have seen, the series that the autoscaling rule reads and no others.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.loopback.system import ENDLESS, Launcher

RECORDED = Path(__file__).with_name("recorded.json")
INTERVAL_S, SAMPLES, SETTLING_S = 15.0, 9, 5.0
SERIES = (
    "farflung_learner_actors",
    "farflung_learner_training_seconds",
    "farflung_learner_math_seconds_total",
    "farflung_learner_lag_updates_sum",
    "farflung_learner_lag_updates_count",
    "process_cpu_seconds_total",
)
WIDE = ("actor.hidden=[256, 256]", "learner.optimizer=adam", "learner.staleness_rule=none")
# actors, gradients a second of each, and settings of the learner
CASES: dict[str, tuple[int, float, tuple[str, ...]]] = {
    "starved": (1, 5.0, ()),  # one simulator in no hurry
    "saturated": (16, 500.0, WIDE),  # dense steps: the math thread is full
    "saturated_small": (16, 500.0, ()),  # tiny gradients: the interpreter is full, and the math thread is not
}


def record(actors: int, rate: float, settings: tuple[str, ...]) -> dict[str, list[float]]:
    """One case's series."""
    with TemporaryDirectory(prefix="x") as folder, Launcher(Path(folder)) as launch:
        chosen = [word for setting in settings for word in ("--set", setting)]
        bind = ("--actors", 0, "--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--run-dir", "run")
        started = launch.learner(*bind, *ENDLESS, *chosen).event("started")
        light = ("--count", actors, "--rate", rate, "--tick", 0.01)
        launch.start("tests.faults.peers.light", started["bound"][0], "light", *light).event("accepted")
        time.sleep(SETTLING_S)
        series: dict[str, list[float]] = {name: [] for name in SERIES}
        for sample in range(SAMPLES):
            time.sleep(INTERVAL_S if sample else 0.0)
            with urlopen(f"{started['http']}/metrics", timeout=30) as answer:
                families = text_string_to_metric_families(answer.read().decode())
            told = {s.name: s.value for family in families for s in family.samples}
            for name, values in series.items():
                values.append(round(told[name], 3))
        return series


def main() -> None:
    """All cases, or those that are named."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    for name in sys.argv[1:] or CASES:
        recorded[name] = record(*CASES[name])
    text = json.dumps(recorded, indent=1)
    RECORDED.write_text(re.sub(r",?\s+(?=[\d\]])", lambda gap: "," * ("," in gap[0]), text) + "\n")


if __name__ == "__main__":
    main()
