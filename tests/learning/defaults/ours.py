"""Farflung at its defaults: ``python -m tests.learning.defaults.ours TASK SEED [TABLE.KEY=VALUE ...]`` prints JSON.

With ``--tuned`` it has the settings of the shipped experiment of the task's environment, for as many steps.

Two actors in virtual time, which is what ``learner run --env ID --until-steps N`` starts where no shipped experiment
is of that environment, and the same to the bit on any machine with the same numerics.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from learner.launch.experiment_file import load
from protocol.process.threads import limit_threads
from protocol.shipped import named
from tests.bench.farflung import annealing
from tests.bench.fleet.costs import Costs, Crew
from tests.learning.defaults.tasks import MODULE, TASKS

NEVER = 1e9  # a return
ACTORS = 2  # run.actors where nobody asks for something else
KEPT = ("return_mean_100", "env_steps", "seconds", "gradients", "received_bytes", "events", "curve")


def main(name: str, seed: int, settings: Sequence[str] = (), *, tuned: bool = False) -> dict[str, Any]:
    """One run."""
    task = TASKS[name]
    if tuned:
        settings = [f"run.until_return={NEVER}", *annealing(task.tuned), *settings]  # equal steps, whatever is reached
    limit_threads(os.environ)  # before numpy, which the rest imports
    from tests.bench.fleet.world import Fleet

    env = f"{MODULE}:{task.env}" if task.own else task.env
    options = ", ".join(f"{key} = {json.dumps(value)}" for key, value in task.options.items())
    own = [f"run.until_steps={task.steps}", f"run.seed={seed}", f"actor.env={env}", f"actor.env_options={{{options}}}"]
    began = time.perf_counter()
    experiment = load(named(task.tuned) if tuned else None, [*own, *task.settings, *settings], {})
    with Fleet(experiment, Crew(ACTORS), Costs(), frozenset({MODULE})) as fleet:
        answer = fleet.run().answer()
    return {key: answer[key] for key in KEPT} | {"wall_s": time.perf_counter() - began}


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.learning.defaults.ours", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("seed", type=int)
    parser.add_argument("settings", nargs="*", metavar="TABLE.KEY=VALUE")
    parser.add_argument("--tuned", action="store_true")
    asked = parser.parse_args()
    print(json.dumps(main(asked.task, asked.seed, asked.settings, tuned=asked.tuned)))
