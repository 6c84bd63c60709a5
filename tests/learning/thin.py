"""What thin streams cost in steps and save in bytes, in whole runs, few actors and many. Knows processes and records.

Dense and thin differ in the codec alone: both send preconditioned updates. Bytes are what went over the wire, headers
included; of the way down, what one actor receives at most: the stream, and all that was sent to anybody else besides.
Rollouts are shorter in the fleet, or sixteen of them would be as much as a whole run of two actors needs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from tests.bench.farflung import train
from tests.bench.store import Record, Store

DENSITY = 0.01
TASKS = {"cartpole": (475.0, 1_000_000), "lunarlander": (200.0, 3_000_000)}  # target, most steps
FLEETS: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"cartpole": (), "lunarlander": ()},
    16: {
        "cartpole": ("actor.envs=4", "actor.rollout_steps=32", "actor.minibatches=1"),
        "lunarlander": ("actor.envs=4", "actor.minibatches=2"),
    },
}
WAYS = {"f32": ("actor.codec=f32",), "topk_i8, 1 %": (f"actor.density={DENSITY}",)}
SEEDS, SECONDS = 5, 900.0
MORE_SEEDS = {("lunarlander", 2): 10}  # five dense runs were 210 to 327 thousand steps, five thin ones 206 to 681
KEPT = ("solved", "env_steps", "wall_s", "version", "lag_mean_updates", "received_bytes", "sent_bytes", "parameters")
STEPS_BAR, UP_BAR, DOWN_BAR = {2: 1.3, 16: 1.5}, 100.0, {2: 50.0, 16: 20.0}


def measure(store: Store, *, quick: bool) -> None:
    """Every task, fleet, codec and seed that is not measured yet."""
    for task in list(TASKS)[: 1 if quick else None]:
        for actors in list(FLEETS)[: 1 if quick else None]:
            for way in WAYS:
                for seed in range(1 if quick else seeds(task, actors)):
                    key = {"task": task, "actors": actors, "way": way, "seed": seed}
                    store.once(key, lambda k=key: _run(k))  # type: ignore[misc]


def _run(key: Record) -> Record:
    task, actors = str(key["task"]), int(key["actors"])
    settings = [part for each in (*FLEETS[actors][task], *WAYS[key["way"]]) for part in ("--set", each)]
    limits = ["--until-steps", str(TASKS[task][1]), "--seed", str(key["seed"]), "--actors", str(actors)]
    folder = Path(tempfile.mkdtemp(prefix="farflung-thin-"))
    try:
        trained = train([task, *limits, *settings], folder / "run", SECONDS)
    finally:
        shutil.rmtree(folder)
    return {name: trained.result[name] for name in KEPT} | {"curve": trained.curve}


def seeds(task: str, actors: int) -> int:
    """How many runs each codec has."""
    return MORE_SEEDS.get((task, actors), SEEDS)


def runs(records: Sequence[Record], task: str, actors: int, way: str) -> list[Record]:
    """Of one combination, by seed."""
    found = [r for r in records if (r["task"], r["actors"], r["way"]) == (task, actors, way)]
    return sorted(found, key=lambda record: record["seed"])


def up(record: Record) -> float:
    """How many times fewer bytes a gradient took than float32s."""
    return float(4 * record["parameters"] * record["version"] / record["received_bytes"])


def down(record: Record) -> float:
    """How many times fewer bytes a version took than float32s."""
    return float(4 * record["parameters"] * record["version"] / record["sent_bytes"])


def slower(records: Sequence[Record], task: str, actors: int) -> float:
    """Median steps of the thin runs by those of the dense ones."""
    dense, thin = (median(r["env_steps"] for r in runs(records, task, actors, way)) for way in WAYS)
    return float(thin / dense)


def holds(records: Sequence[Record]) -> bool:
    """Whether every bar holds for every task and fleet."""
    return all(_holds(records, task, actors) for task in TASKS for actors in FLEETS)


def _holds(records: Sequence[Record], task: str, actors: int) -> bool:
    thin, dense = (runs(records, task, actors, way) for way in reversed(WAYS))
    if min(len(thin), len(dense)) < seeds(task, actors) or not all(record["solved"] for record in thin):
        return False
    bytes_held = min(map(up, thin)) >= UP_BAR and min(map(down, thin)) >= DOWN_BAR[actors]
    return bytes_held and slower(records, task, actors) <= STEPS_BAR[actors]


def draw(records: Sequence[Record], path: Path) -> None:
    """The return against the bytes that all actors sent: a panel for each task and fleet, every seed."""
    figure = Figure(figsize=(11.4, 3.0), dpi=160, layout="constrained")
    panels = figure.subplots(1, len(TASKS) * len(FLEETS))
    for axes, (task, actors) in zip(panels, ((task, actors) for task in TASKS for actors in FLEETS), strict=True):
        for way, color in zip(WAYS, ("#c8641b", "#1d6fb8"), strict=True):
            for record in runs(records, task, actors, way):
                each = record["received_bytes"] / record["env_steps"]
                points = [(steps * each / 1e6, mean) for steps, _, mean in record["curve"]]
                axes.plot(
                    *zip(*points, strict=True), color=color, linewidth=1.0, label=way if not record["seed"] else None
                )
        axes.axhline(TASKS[task][0], color="#333333", linewidth=0.7, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.set_xlabel("megabytes sent up")
        axes.set_title(f"{task}, {actors} actors", loc="left", fontsize=9)
    panels[0].set_ylabel("mean return of 100 episodes")
    panels[1].legend(frameon=False, fontsize=7.5, loc="upper left")
    figure.savefig(path, facecolor="white")
