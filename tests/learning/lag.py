"""What each staleness rule retains when gradients are late by 0, 4, 16 and 64 updates. Knows processes and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from tests.bench.machine import ask
from tests.bench.store import Record, Store
from tests.learning.turns import EACH

LAGS = (0, 4, 16, 64)
RULES = ("none", "scale", "gap", "compensate")
# cartpole's kl_target sets the length of updates too, or ends the passes of a rollout, by how far the actor sees its
# policy move, which lag also delays. The rules are compared without that; the shipped settings show what a user gets.
UNCONTROLLED = "actor.kl_target=0"


@dataclass(frozen=True, slots=True)
class House:
    """settings: besides the study's. actors: that take turns; the lags of several are a mix, right in the mean."""

    settings: tuple[str, ...]
    actors: int = 1
    rules: tuple[str, ...] = RULES


HOUSES = {
    "preconditioned, top 5 %": House((*EACH, UNCONTROLLED)),
    "the same with kl_target": House(EACH),
    "adam, f32": House(
        (*EACH, "learner.optimizer=adam", "actor.codec=f32", "learner.learning_rate=2e-3", UNCONTROLLED)
    ),
    "as shipped: a message a rollout": House((), rules=("none", "compensate")),
    "the same, four actors": House((), actors=4, rules=("none", "compensate")),
}
SEEDS = 3
STEPS = 150_000
COLORS = {"none": "#333333", "scale": "#c8641b", "gap": "#1d6fb8", "compensate": "#3a8f4d"}


def measure(store: Store, *, quick: bool) -> None:
    """Every combination that is not measured yet."""
    for name, house in list(HOUSES.items())[: 1 if quick else None]:
        for lag in LAGS[: 2 if quick else None]:
            for rule in house.rules:
                for seed in range(1 if quick else SEEDS):
                    key = {"house": name, "lag": lag, "rule": rule, "seed": seed}
                    store.once(key, lambda h=house, a=lag, r=rule, n=seed: _run(h, a, r, n))  # type: ignore[misc]


def _run(house: House, lag: int, rule: str, seed: int) -> Record:
    full = ("learner.full_lag_updates=0",) if rule == "scale" else ()
    asked = [
        "tests.learning.turns",
        "--actors",
        str(house.actors),
        "--lag",
        str(lag),
        "cartpole",
        str(seed),
        "run.until_return=1e9",
    ]
    return ask([*asked, f"run.until_steps={STEPS}", f"learner.staleness_rule={rule}", *full, *house.settings])


def mean_return(record: Record) -> float:
    """Area under the learning curve divided by its length: what a run retains, early and late."""
    points: list[tuple[int, float]] = record["curve"]
    return sum(mean for _, mean in points) / len(points)


def retained(records: Sequence[Record], house: str, rule: str, late: int) -> list[float]:
    """mean_return of every seed of one combination."""
    return [mean_return(r) for r in records if (r["house"], r["rule"], r["lag"]) == (house, rule, late)]


def measured(records: Sequence[Record], late: int) -> float | None:
    """The mean lag of the gradients that were asked to be late by so many updates; None where none were."""
    single = [name for name, house in HOUSES.items() if EACH[0] in house.settings]
    found = [r["lag_mean_updates"] for r in records if r["lag"] == late and r["house"] in single]
    return sum(found) / len(found) if found else None


def draw(records: Sequence[Record], path: Path) -> None:
    """A panel for each house: the mean return over the run against the lag, median and range over seeds."""
    figure = Figure(figsize=(15.0, 3.2), dpi=160, layout="constrained")
    for axes, house in zip(figure.subplots(1, len(HOUSES), sharey=True), HOUSES, strict=True):
        for rule, color in COLORS.items():
            if rule not in HOUSES[house].rules:
                continue
            runs = [retained(records, house, rule, late) for late in LAGS]
            places = [index for index, found in enumerate(runs) if found]
            low, high = [min(runs[i]) for i in places], [max(runs[i]) for i in places]
            axes.plot(places, [median(runs[i]) for i in places], color=color, marker="o", markersize=4, label=rule)
            axes.fill_between(places, low, high, color=color, alpha=0.12, linewidth=0)
        axes.set_xticks(range(len(LAGS)), [str(late) for late in LAGS])
        axes.set_xlabel("lag, updates")
        axes.set_title(house, loc="left", fontsize=9)
    figure.axes[0].set_ylabel(f"mean return over {STEPS // 1000} k steps")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, facecolor="white")
