"""Learning curves over seeds as one picture for each task. Knows matplotlib and records; no clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from learner.analysis.plot import INK, POINTS, STYLE, calm, short
from tests.bench.store import Record
from tests.bench.training import FARFLUNG, LIBRARY, Task

COLORS = {
    FARFLUNG: "#1d6fb8",
    "loop: JAX, Gymnasium": "#2e8b57",
    "loop: JAX, EnvPool": "#8e5ba6",
    "loop: torch, Gymnasium": "#777777",
    LIBRARY: "#c8641b",
}
SHORT = {LIBRARY: "SB3 PPO"}
SECONDS, STEPS = 1, 0  # columns of a curve's point
WIDE = 8.0  # ratio of two systems' times above which seconds need a logarithmic axis


def draw(task: Task, records: Sequence[Record], path: Path) -> bool:
    """Mean return of 100 episodes against seconds and against environment steps: median, and the band of all seeds.

    Returns whether there was anything to draw.
    """
    groups = {name: [r for r in records if r["system"] == name and r["curve"]] for name in COLORS}
    groups = {name: found for name, found in groups.items() if found}
    if not groups:
        return False
    with mpl.rc_context(STYLE | {"font.size": 10}):
        figure = Figure(figsize=(9.6, 3.7), dpi=200, layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, column in zip(panels, (SECONDS, STEPS), strict=True):
            _panel(axes, task, groups, column)
            axes.set_xlabel("seconds of training" if column == SECONDS else "environment steps", color=INK)
        panels[0].set_ylabel("return, mean of 100 episodes", color=INK)
        panels[0].set_title(f"{task.env}, median and range over seeds", loc="left", color=INK, fontsize=11)
        figure.savefig(path, facecolor="white")
    return True


def _panel(axes: Axes, task: Task, groups: dict[str, list[Record]], column: int) -> None:
    calm(axes)
    ends = {name: max(r["curve"][-1][column] for r in found) for name, found in groups.items()}
    logarithmic = column == SECONDS and max(ends.values()) > WIDE * min(ends.values())
    first = min(r["curve"][0][column] for found in groups.values() for r in found)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    for name, found in groups.items():
        grid = _grid(max(first, 0.1), ends[name], logarithmic)
        until = float(np.median([r["curve"][-1][column] for r in found]))
        _band(axes, name, grid, np.array([_held(r, column, grid) for r in found]), until)
        _name(axes, name, found, column)
    axes.axhline(task.target, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        f"solved: {task.target:g}",
        (0.0, task.target),
        (3, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
    )
    axes.xaxis.set_major_formatter(FuncFormatter(short))


def _band(axes: Axes, name: str, grid: NDArray[np.float64], curves: NDArray[np.float64], until: float) -> None:
    """curves: float64 [seeds, points]; NaN before a seed has 100 episodes, so a point with any NaN is left out.

    until: where half of the seeds have ended, and the median with them.
    """
    drawn = ~np.isnan(curves).any(0)
    if len(curves) > 1:
        low, high = curves[:, drawn].min(0), curves[:, drawn].max(0)
        axes.fill_between(grid[drawn], low, high, color=COLORS[name], alpha=0.16, linewidth=0)
    shown = drawn & (grid <= until)
    axes.plot(grid[shown], np.median(curves[:, shown], 0), color=COLORS[name], linewidth=2, solid_capstyle="round")


def _name(axes: Axes, name: str, found: Sequence[Record], column: int) -> None:
    """The label at the curve itself, and a dot where each seed ended."""
    ends = sorted((r["curve"][-1][column], r["curve"][-1][2]) for r in found)
    axes.scatter([x for x, _ in ends], [y for _, y in ends], s=12, color=COLORS[name], zorder=3, linewidth=0)
    middle = float(np.median([end[0] for end in ends]))
    seeds = f"{len(found)} seed{'s' * (len(found) > 1)}"
    unit = f"{middle:.1f} s" if column == SECONDS else f"{middle / 1000:,.0f} k steps"
    unsolved = sum(not r["solved"] for r in found)
    told = f" ({unsolved} not solved)" if unsolved else ""
    row = list(reversed(COLORS)).index(name)
    axes.annotate(
        f"{SHORT.get(name, name)}, {seeds}: {unit}{told}",
        (0.985, 0.05 + 0.07 * row),
        xycoords="axes fraction",
        ha="right",
        color=COLORS[name],
        fontweight="bold",
        fontsize=8.5,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5},
    )


def _held(record: Record, column: int, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """A seed's curve on the common axis: NaN before its first point, its last value after its end."""
    curve = np.array(record["curve"], np.float64)
    return np.interp(grid, curve[:, column], curve[:, 2], left=np.nan)


def _grid(first: float, last: float, logarithmic: bool) -> NDArray[np.float64]:
    return np.geomspace(first, last, POINTS) if logarithmic else np.linspace(first, last, POINTS)
