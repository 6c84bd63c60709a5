"""Real daemons whose simulators wait: ``python -m tests.bench.fleet.real EXPERIMENT SEED ACTORS`` prints JSON.

Each step of each environment sleeps, so sixteen actors fit on two cores: of one environment alone a step costs half a
millisecond of a core. What daemons, sockets and the learner cost is real. ``wall_s`` are seconds from the first
environment step until the target.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from learner.launch.experiment_file import load
from protocol.shipped import named
from tests.bench.farflung import train
from tests.bench.fleet.sleeping import STEP_MS, TASKS

LIMIT_S = 3600.0
KEPT = ("solved", "wall_s", "env_steps", "return_mean_100", "lag_mean_updates")
MODULE = "tests.bench.fleet.sleeping"


def main() -> None:
    """One run; its result as JSON."""
    parser = argparse.ArgumentParser("python -m tests.bench.fleet.real", description=__doc__)
    parser.add_argument("experiment", choices=TASKS)
    parser.add_argument("seed", type=int)
    parser.add_argument("actors", type=int)
    parser.add_argument("--step-ms", type=float, default=STEP_MS, help="that a step sleeps")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        arguments = [asked.experiment, "--seed", str(asked.seed), "--actors", str(asked.actors)]
        arguments += ["--env", f"{MODULE}:Sleeping-{asked.experiment}-v0", "--allow-module", MODULE]
        arguments += ["--set", f"actor.env_options={{ step_ms = {asked.step_ms} }}"]
        target = load(named(asked.experiment), [], {}).run.until_return
        result = train([*arguments, "--until-return", str(target)], run_dir, LIMIT_S).result
    print(json.dumps({name: result[name] for name in KEPT}))


if __name__ == "__main__":
    main()
