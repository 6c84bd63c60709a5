"""Fifty learning rates on CartPole-v1: how many are solved, in how many steps and seconds. Knows processes.

The draws are log-uniform in 1e-4..1e-2, each with its own initialisation (Mnih et al. 2016, section 5.2, for the
picture); the peers run under the same draws, fewer of them because they take longer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tests.bench.farflung import train
from tests.bench.machine import ask
from tests.bench.store import Record, Store

RATES = 10 ** np.random.default_rng(2016).uniform(-4, -2, 50)
STEPS, SOON_STEPS, SOON_S = 300_000, 100_000, 10.0
SOON_STEPS_BAR, SOON_S_BAR = 0.65, 0.9  # shares of all draws; solved they must be all
PEERS = {"Stable-Baselines3 PPO": ("ppo", 26), "Stable-Baselines3 A2C": ("a2c", 26)}
COLORS = {"Farflung": "#1d6fb8", "Stable-Baselines3 PPO": "#c8641b", "Stable-Baselines3 A2C": "#777777"}


def measure(store: Store, *, quick: bool) -> None:
    """Every draw that is not measured yet."""
    for draw, rate in enumerate(RATES[: 2 if quick else None]):
        key = {"system": "Farflung", "draw": draw}
        store.once(key, lambda draw=draw, rate=rate: _farflung(draw, float(rate)))  # type: ignore[misc]
    for system, (name, draws) in PEERS.items():
        for draw, rate in enumerate(RATES[: 1 if quick else draws]):
            key = {"system": system, "draw": draw}
            store.once(key, lambda name=name, draw=draw, rate=rate: _peer(name, draw, float(rate)))  # type: ignore[misc]


def _farflung(draw: int, rate: float) -> Record:
    folder = Path(tempfile.mkdtemp(prefix="farflung-bench-"))
    limits = ("--seed", str(draw), "--until-steps", str(STEPS))
    try:
        result = train(["cartpole", "--set", f"learner.learning_rate={rate}", *limits], folder / "run").result
    finally:
        shutil.rmtree(folder)
    return {"rate": rate} | {name: result[name] for name in ("solved", "env_steps", "wall_s", "return_mean_100")}


def _peer(name: str, draw: int, rate: float) -> Record:
    answer = ask(["tests.bench.peers.sb3", name, "CartPole-v1", str(draw), str(STEPS), str(rate)])
    return {"rate": rate} | {key: answer[key] for key in ("solved", "env_steps", "wall_s", "return_mean_100")}


def shares(records: Sequence[Record], system: str) -> tuple[int, int, int, int]:
    """How many draws; of them solved, solved within SOON_STEPS, solved within SOON_S."""
    found = [record for record in records if record["system"] == system]
    solved = [record for record in found if record["solved"]]
    soon = sum(record["env_steps"] <= SOON_STEPS for record in solved)
    return len(found), len(solved), soon, sum(record["wall_s"] <= SOON_S for record in solved)


def holds(records: Sequence[Record]) -> bool:
    """Whether Farflung keeps every bar, on no fewer draws than there are."""
    draws, solved, soon, seconds = shares(records, "Farflung")
    enough = soon >= SOON_STEPS_BAR * draws and seconds >= SOON_S_BAR * draws
    return draws >= len(RATES) and solved == draws and enough


def draw(records: Sequence[Record], path: Path) -> None:
    """Steps to solve against the learning rate; an open mark where it was not solved."""
    figure = Figure(figsize=(7.5, 3.4), dpi=160, layout="constrained")
    axes = figure.subplots()
    for system, color in COLORS.items():
        found = [record for record in records if record["system"] == system]
        solved = [record for record in found if record["solved"]]
        label = f"{system}: {len(solved)} of {len(found)}"
        axes.scatter([r["rate"] for r in solved], [r["env_steps"] for r in solved], s=18, color=color, label=label)
        rest = [record for record in found if not record["solved"]]
        axes.scatter([r["rate"] for r in rest], [STEPS for _ in rest], s=22, facecolors="none", edgecolors=color)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("environment steps to a mean of 475")
    axes.set_title(
        "CartPole-v1: one draw of rate and initialisation a dot (open: not within 300 k)", loc="left", fontsize=9
    )
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, facecolor="white")
