"""What momentum, a residual's decay and density do where gradients are late. Knows processes and records.

CartPole-v1 in one process (``turns.py``, mixed), fleets that are late by about 1, 15 and 47 updates. Settings are
chosen by this study, so its seeds are not those that anything is shown on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from tests.bench.machine import ask
from tests.bench.store import Record, Store
from tests.learning.turns import EACH

FLEETS = ((2, 1), (16, 15), (16, 47))  # actors, gradients under way besides the one that is applied
DENSITIES, DECAYS, BETAS = (0.01, 0.002), (0.9, 0.95, 1.0), (0.0, 0.5, 0.9)
FOLLOWING = ("0.5, follows", "0.9, follows")  # at most so much, momentum_lag as it ships; the others are fixed
FOLLOWED = 0.95  # the decay with which they were tried
SEEDS, FIRST, STEPS = 3, 101, 400_000
COLORS = {0.9: "#1d6fb8", 0.95: "#3a8f4d", 1.0: "#c8641b"}


def measure(store: Store, *, quick: bool) -> None:
    """Every combination that is not measured yet."""
    ways = [(*way, beta1) for way in product(DENSITIES, DECAYS, FLEETS) for beta1 in betas(way[1])]
    for density, decay, (actors, late), beta1 in ways[: 2 if quick else None]:
        for seed in range(FIRST, FIRST + (1 if quick else SEEDS)):
            key = {"density": density, "decay": decay, "beta1": beta1, "actors": actors, "lag": late, "seed": seed}
            store.once(key, lambda k=key: _run(k))  # type: ignore[misc]


def betas(decay: float) -> tuple[str, ...]:
    """The β1 that were tried with this decay."""
    return (*map(str, BETAS), *(FOLLOWING if decay == FOLLOWED else ()))


def _run(key: Record) -> Record:
    most, _, follows = str(key["beta1"]).partition(", ")
    settings = [f"actor.density={key['density']}", f"actor.residual_decay={key['decay']}", f"actor.beta1={most}"]
    settings += [*EACH, *([] if follows else ["actor.momentum_lag=0"])]
    fleet = ["--actors", str(key["actors"]), "--lag", str(key["lag"]), "--mixed"]
    record = ask(["tests.learning.turns", *fleet, "cartpole", str(key["seed"]), f"run.until_steps={STEPS}", *settings])
    return {name: record[name] for name in ("solved", "env_steps", "lag_mean_updates", "bytes_per_gradient")}


def steps(records: Sequence[Record], density: float, decay: float, beta1: str, fleet: tuple[int, int]) -> list[Record]:
    """The runs of one combination, by seed."""
    wanted = (density, decay, beta1, *fleet)
    names = ("density", "decay", "beta1", "actors", "lag")
    found = [record for record in records if tuple(record[name] for name in names) == wanted]
    return sorted(found, key=lambda record: record["seed"])


def draw(records: Sequence[Record], path: Path) -> None:
    """A panel for each fleet: steps to solve against β1, median and every seed; hollow: not solved by then."""
    figure = Figure(figsize=(11.4, 3.4), dpi=160, layout="constrained")
    places = betas(FOLLOWED)
    for axes, fleet in zip(figure.subplots(1, len(FLEETS), sharey=True), FLEETS, strict=True):
        for number, (density, decay) in enumerate(product(DENSITIES, DECAYS)):
            color, style = COLORS[decay], "-" if density == DENSITIES[0] else ":"
            found = {beta1: steps(records, density, decay, beta1, fleet) for beta1 in betas(decay)}
            fixed = [beta1 for beta1 in map(str, BETAS) if found[beta1]]
            middle = [median(run["env_steps"] for run in found[beta1]) / 1000 for beta1 in fixed]
            axes.plot(list(map(places.index, fixed)), middle, style, color=color, label=f"{density:.1%}, decay {decay}")
            for beta1, runs in found.items():
                for run in runs:
                    face = color if run["solved"] else "none"
                    place = places.index(beta1) + 0.05 * (number - 2.5)
                    axes.scatter(place, run["env_steps"] / 1000, s=14, color=color, facecolors=face, linewidths=0.8)
        axes.set_xticks(range(len(places)), places, fontsize=7)
        axes.set_xlabel("β1")
        axes.set_title(f"{fleet[0]} actors, {fleet[1]} updates late", loc="left", fontsize=9)
    figure.axes[0].set_ylabel("thousand steps to 475")
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, facecolor="white")
