"""Farflung at its defaults: ``python -m tests.learning.defaults.ours TASK SEED [TABLE.KEY=VALUE ...]`` prints JSON.

Two actors in virtual time, which is what ``learner run --env ID --until-steps N`` starts where no shipped experiment
is of that environment, and the same to the bit on any machine with the same numerics.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from learner.launch.experiment_file import load
from protocol.process.threads import limit_threads
from tests.bench.fleet.costs import Costs, Crew
from tests.learning.defaults.tasks import MODULE, TASKS

ACTORS = 2  # run.actors where nobody asks for something else
KEPT = ("return_mean_100", "env_steps", "seconds", "gradients", "received_bytes", "events", "curve")


def main(name: str, seed: int, settings: Sequence[str] = ()) -> dict[str, Any]:
    """One run."""
    task = TASKS[name]
    limit_threads(os.environ)  # before numpy, which the rest imports
    from tests.bench.fleet.world import Fleet

    env = f"{MODULE}:{task.env}" if task.own else task.env
    options = ", ".join(f"{key} = {json.dumps(value)}" for key, value in task.options.items())
    own = [f"run.until_steps={task.steps}", f"run.seed={seed}", f"actor.env={env}", f"actor.env_options={{{options}}}"]
    began = time.perf_counter()
    with Fleet(load(None, [*own, *settings], {}), Crew(ACTORS), Costs(), frozenset({MODULE})) as fleet:
        answer = fleet.run().answer()
    return {key: answer[key] for key in KEPT} | {"wall_s": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
