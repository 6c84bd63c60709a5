"""The command ``python -m tests.faults DRILL... [--times N]``: runs drills, and writes RESULTS.md. Knows processes.

Each drill prints one JSON line and leaves it in ``bench-results/faults/DRILL.jsonl``. Exit code 1 where a bar was
missed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.machine import ROOT
from tests.bench.store import Store
from tests.faults import (
    actor_kills,
    failpoints,
    learner_kills,
    past_target,
    poison,
    report,
    sigterm,
    silence,
    slow_subscriber,
    soak,
    thousand,
)
from tests.faults.bars import Record
from tests.faults.scene import PEERS, Options

DRILLS: dict[str, Callable[[Options], Record]] = {
    "actor_kills": actor_kills.drill,
    "learner_kills": learner_kills.drill,
    "failpoints": failpoints.drill,
    "poison": poison.drill,
    "past_target": past_target.drill,
    "silence": silence.drill,
    "slow_subscriber": slow_subscriber.drill,
    "thousand": thousand.drill,
    "sigterm": sigterm.drill,
    "soak": soak.drill,
}


def main() -> int:
    """Runs what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"of {', '.join(DRILLS)}; default: all")
    parser.add_argument("--times", type=int, metavar="N", help="faults, where fewer will do; such lines are no record")
    parser.add_argument("--minutes", type=float, metavar="M", help="likewise, of drills that last")
    parser.add_argument("--peers", type=int, default=PEERS, metavar="N", help="of `thousand`")
    parser.add_argument("--real", action="store_true", help="actor_kills: actors with simulators")
    parser.add_argument("--journal", action="store_true", help="learner_kills: a learner that loses no answer")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of what is killed when")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results" / "faults", metavar="DIR")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report from what is there")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.drills) - set(DRILLS)):
        parser.error(f"no such drill: {', '.join(unknown)}; there are {', '.join(DRILLS)}")
    if asked.times is not None and asked.times < 1:
        parser.error("--times: at least 1; a drill of nothing would hold every bar")
    options = Options(asked.times, asked.minutes, asked.real, asked.journal, asked.peers, asked.seed)
    short = asked.times is not None or asked.minutes is not None or asked.peers != PEERS
    folder = asked.results / "short" if short else asked.results
    held = True
    for name in () if asked.report else asked.drills or DRILLS:
        record = Store(folder, name).add({"drill": name}, lambda name=name: _timed(DRILLS[name], options))  # type: ignore[misc]
        print(json.dumps(record), flush=True)
        held = held and record["held"]
    report.write(folder, folder if short else Path(__file__).parent, tuple(DRILLS))
    return 0 if held else 1


def _timed(drill: Callable[[Options], Record], options: Options) -> Record:
    began = time.monotonic()
    return drill(options) | {"took_s": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    raise SystemExit(main())
