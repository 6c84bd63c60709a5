"""Eight honest actors and two that send the opposite of their gradients, ten times as long, under each rule.

Real processes, CartPole-v1, one gradient of each sender in a group. The robust rules must solve it; the plain mean,
which is the control, must not.
"""

from __future__ import annotations

import json
from typing import Any

from tests.faults import bars
from tests.faults.bars import Record
from tests.faults.scene import Options, Scene
from tests.learning.poison import ACTORS, HOSTILE, SETTINGS

SEEDS = 3
LEAST = 7  # in a group, of which two are a minority that a quarter cut off at each end bears
RULES = ("mean", "trimmed_mean", "median")


def drill(options: Options) -> Record:
    """Every rule on every seed."""
    seeds = range(options.seed, options.seed + (options.times or SEEDS))
    runs = [(rule, seed, _run(rule, seed)) for rule in RULES for seed in seeds]
    robust = [result for rule, _, result in runs if rule != "mean"]
    control = [result for rule, _, result in runs if rule == "mean"]
    return bars.record(
        [
            bars.exactly("runs under trimmed_mean and median that were not solved", _unsolved(robust), 0),
            bars.exactly("runs under mean, the control, that were solved", len(control) - _unsolved(control), 0),
        ],
        actors=ACTORS,
        hostile=HOSTILE,
        runs=[
            {"rule": rule, "seed": seed, **{name: result[name] for name in ("solved", "env_steps", "return_mean_100")}}
            for rule, seed, result in runs
        ],
    )


def _unsolved(results: list[dict[str, Any]]) -> int:
    return sum(not result["solved"] for result in results)


def _run(rule: str, seed: int) -> dict[str, Any]:
    """The result of one run. Poison comes from the first gradient on."""
    window = (
        f"learner.aggregation={rule}",
        f"learner.aggregate_window={ACTORS}",
        f"learner.aggregate_least={LEAST}",
        "learner.credit=1",  # a second gradient under way would be a group late
        "learner.most_credit=1",
    )
    settings = [part for setting in (*SETTINGS, *window) for part in ("--set", setting)]
    with Scene() as scene:
        for number in range(HOSTILE):
            scene.launch.start(
                "tests.faults.peers.poisoner", "run", "--learner", scene.address, "--name", f"hostile-{number}"
            )
        learner = scene.launch.learner(
            *("cartpole", "--actors", ACTORS - HOSTILE, "--seed", seed, "--until-return", 475),
            *("--bind", scene.address, "--run-dir", scene.run_dir, *settings),
            TMPDIR=str(scene.folder),
        )
        assert learner.wait(600.0) in (0, 3), learner.story()
        found: dict[str, Any] = json.loads((scene.run_dir / "result.json").read_text(encoding="utf-8"))
        return found
