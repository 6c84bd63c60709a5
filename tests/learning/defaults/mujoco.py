"""MuJoCo at a million steps: ``python -m tests.learning.defaults.mujoco [TASK ...]`` measures what is not there yet.

Ours are whole runs of ``learner run --env TASK --until-steps 1000000`` with no other setting, one at a time, so that
their seconds count; then 20 episodes are played with the most likely actions, as the zoo does. The peer is run for
PEER_STEPS, from whose seconds those of a million follow; with --peer-returns to the end, where nothing is published.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median

from tests.bench.farflung import train
from tests.bench.machine import ask, start
from tests.bench.store import Record, Store, add_options, at_once, end, origins
from tests.learning.defaults.report import MEASURED, score
from tests.reference.markdown import table

OURS, PEER = "farflung", "zoo"
STEPS, PEER_STEPS = 1_000_000, 20_000
SEEDS, EPISODES = 5, 20
# The zoo's own table (benchmark.md): one run of a million steps on version 3 of the task, most likely actions.
PUBLISHED = {"Ant-v5": 1_327, "HalfCheetah-v5": 5_819, "Hopper-v5": 2_410, "Swimmer-v5": 282, "Walker2d-v5": 3_479}
ENVS = (*PUBLISHED, "Reacher-v5", "InvertedDoublePendulum-v5", "Humanoid-v5")
HEAD = f"""# MuJoCo at a million steps

Written by `python -m tests.learning.defaults.mujoco`. Ours: `learner run --env TASK --until-steps {STEPS}` with two
actors on this machine and no other setting; mean over seeds from 0 and its standard error. *Training*: mean return of
the last 100 episodes, exploration included. *Played*: {EPISODES} episodes after that, most likely actions.

Stable-Baselines3's PPO has the settings of rl-baselines3-zoo, each task its own. *Published* is the zoo's own table:
one run, on version 3 of the tasks, played for 150,000 steps; three tasks are not in it, and Humanoid's settings are for
ten million steps. *Measured* is one run here. Its seconds are those of
{PEER_STEPS:,} steps times {STEPS // PEER_STEPS} where no whole run was made. *Ours is*: played, beside the better of
the two. In brackets: seeds.
"""


def ours(env: str, seed: int) -> Record:
    """One run, and its policy played."""
    folder = Path(tempfile.mkdtemp(prefix="farflung-learn-"))
    try:
        limits = ("--until-steps", str(STEPS), "--seed", str(seed))
        trained = train(["--env", env, *limits], folder / "run")
        command = ("actor", "evaluate", str(folder / "run"), "--episodes", str(EPISODES), "--json")
        child = start(command, stdout=subprocess.PIPE)
        said, _ = child.communicate()
        if child.returncode:
            raise RuntimeError(f"actor evaluate exited with code {child.returncode}")
        played = json.loads(said.splitlines()[-1])["mean"]
    finally:
        shutil.rmtree(folder)
    kept = {name: trained.result[name] for name in ("return_mean_100", "wall_s", "env_steps", "rulings")}
    return kept | {"played": played, "total_s": trained.total_s, "curve": trained.curve}


def row(env: str, records: Sequence[Record]) -> tuple[str, ...]:
    """A line for a task of which there are runs of ours."""
    own = [record for record in records if record["env"] == env and record["who"] == OURS]
    peers = [record for record in records if record["env"] == env and record["who"] == PEER]
    whole = [record for record in peers if record["steps"] == STEPS]
    seconds = median(record["wall_s"] for record in own)
    training = score([record["return_mean_100"] for record in own])
    played = score([record["played"] for record in own])
    best = max([*([PUBLISHED[env]] if env in PUBLISHED else []), *(record["played"] for record in whole)], default=None)
    theirs = min((record["wall_s"] * STEPS / record["env_steps"] for record in peers), default=None)
    level = "" if best is None else "at or above" if played.mean >= best else "below"
    return (
        env,
        str(training),
        str(played),
        f"{PUBLISHED[env]:,}" if env in PUBLISHED else "none",
        f"{mean(record['played'] for record in whole):.4g}" if whole else "",
        level,
        f"{seconds:.0f}",
        "" if theirs is None else f"{theirs:.0f}",
        "" if theirs is None else f"{theirs / seconds:.1f}",
    )


def write(records: Sequence[Record], folder: Path) -> None:
    """MUJOCO.md."""
    heads = ("task", "training", "played", "published", "measured", "ours is", "seconds", "zoo's seconds", "ratio")
    lines = [row(env, records) for env in ENVS if any((r["env"], r["who"]) == (env, OURS) for r in records)]
    judged = [line[5] for line in lines if line[5]]
    alone = f", {len(lines) - len(judged)} with nothing to be held against" if len(judged) < len(lines) else ""
    counts = f"{judged.count('at or above')} of {len(judged)} at or above{alone}"
    told = f"{counts}. Commits measured: {origins(record for record in records if record['who'] == OURS)}."
    (folder / "MUJOCO.md").write_text(f"{HEAD}\n{told}\n\n{table(heads, lines)}", encoding="utf-8")


def main() -> int:
    """What is asked for. Exit code 75: runs are left."""
    parser = argparse.ArgumentParser("python -m tests.learning.defaults.mujoco", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(ENVS)}; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="from 0")
    parser.add_argument("--peer-returns", action="store_true", help="the peer to the end where nothing is published")
    add_options(parser, MEASURED)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.tasks) - set(ENVS)):
        parser.error(f"no such task: {', '.join(unknown)}")
    store, envs = Store(asked.results, "mujoco", end(asked.minutes)), asked.tasks or ENVS
    runs = [({"who": PEER, "env": env, "seed": 0, "steps": PEER_STEPS}, partial(peer, env, PEER_STEPS)) for env in envs]
    runs += [
        ({"who": OURS, "env": env, "seed": seed}, partial(ours, env, seed))
        for seed in range(asked.seeds)
        for env in envs
    ]
    if asked.peer_returns:
        rest = [env for env in envs if env not in PUBLISHED]
        runs += [({"who": PEER, "env": env, "seed": 0, "steps": STEPS}, partial(peer, env, STEPS)) for env in rest]
    left = 0 if asked.report else at_once(store, runs, 1)
    write(store.read(), Path(__file__).parent if asked.results == MEASURED else asked.results)
    return 75 if left else 0


def peer(env: str, steps: int) -> Record:
    """One run of Stable-Baselines3's."""
    answer = ask(["tests.learning.defaults.zoo", env, "0", str(steps)])
    return {name: answer[name] for name in ("return_mean_100", "played", "wall_s", "env_steps")}


if __name__ == "__main__":
    raise SystemExit(main())
