"""Pictures of runs: return, staleness, bytes and speed, many seeds as one line. Knows matplotlib and runs; no sockets.

The colours are those of Okabe and Ito, which people with any colour blindness tell apart, the blue first; past the
last they come again, dashed. The background is white and not transparent: a page may be dark.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter
from PIL import Image

from learner.analysis.curves import Band, Course, Floats, band_of, held, mean_lag, mean_of, ratio, within
from learner.analysis.runs import Group

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
INK, FAINT = "#333333", "#e4e4e4"
POINTS = 400  # on the common axis of a group; finer is not seen
COARSE = 40  # of what is noisy from moment to moment: a point is the mean of what lies between
STYLE: Any = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "farflung",  # the same runs give the same file
}
BANDS = {
    "range": "band: least to greatest seed",
    "bootstrap": "band: 95 % of the mean, bootstrapped over seeds",
}
SIZE = (9.6, 6.4)  # inches
ACROSS, HANDLE = 72 * SIZE[0] - 24, 48  # points that a legend has room for, and what is beside each name of it
DPI, SHADES = 150, 128  # a palette is a third of the bytes, and a README loads them each time

Curve = Callable[[Course, Floats], Floats]  # one seed's values on a grid


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. against: "steps" or "seconds". curve: of one seed. dashed: a second one beside it.

    from_zero: whether its ordinate begins there. points: of the grid.
    """

    title: str
    against: str
    curve: Curve
    dashed: Curve | None = None
    from_zero: bool = True
    points: int = POINTS


def write(groups: Sequence[Group], prefix: Path, band: Band) -> list[Path]:
    """PREFIX.png and PREFIX.svg. Raises OSError."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = draw(groups, band)
        png, svg = (prefix.with_name(f"{prefix.name}.{kind}") for kind in ("png", "svg"))
        figure.savefig(svg, facecolor="white", metadata={"Date": None})
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=DPI, facecolor="white")
    with Image.open(pixels) as image:
        image.convert("RGB").quantize(SHADES).save(png, optimize=True)
    return [png, svg]


def draw(groups: Sequence[Group], band: Band) -> Figure:
    """The picture of these groups, each with one run at least that has got somewhere."""
    figure = Figure(figsize=SIZE, layout="constrained")
    places = figure.subplot_mosaic("aaabbb;ccddee", height_ratios=[3, 2])
    panels = {
        "a": Panel("return, mean of 100 episodes", "steps", _return("steps"), from_zero=False),
        "b": Panel("", "seconds", _return("seconds"), from_zero=False),
        "c": Panel("lag, updates", "steps", mean_lag, points=COARSE),
        "d": Panel("megabytes: received, and sent (dashed)", "steps", _sent("received_bytes"), _sent("sent_bytes")),
        "e": Panel("environment steps per second", "seconds", _speed, points=COARSE),
    }
    for name, panel in panels.items():
        _fill(places[name], panel, groups, band)
    for name in ("a", "b"):
        _targets(places[name], groups)
        _evaluations(places[name], panels[name], groups)
    places["b"].sharey(places["a"])
    places["b"].tick_params(labelleft=False)
    _head(figure, places["a"], groups)
    figure.supxlabel(caption(groups, band), fontsize=8, color=INK, x=0.01, ha="left")
    return figure


def _return(against: str) -> Curve:
    def curve(course: Course, grid: Floats) -> Floats:
        return held(axis(course, against), _at(course, course.return_mean, against), grid)

    return curve


def _sent(name: str) -> Curve:
    def curve(course: Course, grid: Floats) -> Floats:
        return within(axis(course, "steps"), _at(course, getattr(course, name), "steps"), grid) / 1e6

    return curve


def _speed(course: Course, grid: Floats) -> Floats:
    """Steps per second of the time between two points; what a new life takes back is not counted against it."""
    taken = np.concatenate([[0.0], np.maximum(np.diff(course.env_steps), 0.0).cumsum()])
    reached = within(course.seconds, taken, grid)
    return ratio(np.diff(reached, prepend=np.nan), np.diff(grid, prepend=np.nan))


def axis(course: Course, against: str) -> Floats:
    """The course's abscissa, which never falls."""
    return course.env_steps[course.kept] if against == "steps" else course.seconds


def _at(course: Course, values: Floats, against: str) -> Floats:
    return values[course.kept] if against == "steps" else values


def _fill(axes: Axes, panel: Panel, groups: Sequence[Group], band: Band) -> None:
    calm(axes)
    axes.tick_params(labelsize=8.5)
    axes.set_title(panel.title, loc="left", color=INK, fontsize=9.5)
    axes.set_xlabel("environment steps" if panel.against == "steps" else "seconds of training", color=INK, fontsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    drawn = False
    for number, group in enumerate(groups):
        courses = [run.course for run in group.runs]
        grid = np.linspace(0.0, max(axis(course, panel.against)[-1] for course in courses), panel.points)
        look = _look(number)
        ends = [axis(course, panel.against)[-1] for course in courses]
        drawn |= _lines(axes, grid, np.array([panel.curve(course, grid) for course in courses]), ends, look, band)
        if panel.dashed is not None:
            values = np.array([panel.dashed(course, grid) for course in courses])
            drawn |= _lines(axes, grid, values, ends, look | {"linestyle": (0, (4, 2))}, band)
    axes.set_xlim(left=0.0)
    if panel.from_zero:
        axes.set_ylim(bottom=0.0)
    if not drawn:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=INK, fontsize=8.5)


def _look(number: int) -> dict[str, Any]:
    """Of a group, by its place."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number // len(COLORS) % len(DASHES)]}


def _lines(axes: Axes, grid: Floats, values: Floats, ends: Sequence[float], look: dict[str, Any], band: Band) -> bool:
    """Whether there was anything. values: float64 [seeds, points]. ends: of each seed, where its own line stops."""
    recorded = ~np.isnan(values).all(1)
    if not recorded.any():
        return False
    values = values[recorded]
    if len(values) > 1:
        for seed, end in zip(values, np.array(ends)[recorded], strict=True):
            axes.plot(grid, np.where(grid <= end, seed, np.nan), linewidth=0.6, alpha=0.5, **look)
    begun = np.maximum.accumulate(~np.isnan(values), axis=1).all(0)  # a mean of fewer jumps with each that joins
    spread = band_of(values, band)
    if spread is not None:
        axes.fill_between(grid, *spread, where=begun, color=look["color"], alpha=0.14, linewidth=0)
    axes.plot(grid, np.where(begun, mean_of(values), np.nan), linewidth=1.9, solid_capstyle="round", **look)
    return True


def _targets(axes: Axes, groups: Sequence[Group]) -> None:
    axes.margins(y=0.08)  # room for the word above the line
    for target in sorted({run.target for group in groups for run in group.runs if run.target is not None}):
        axes.axhline(target, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "bottom"}
        axes.annotate(f"target {target:g}", (0.0, target), (3, 2), fontsize=8, color=INK, **place)


def _evaluations(axes: Axes, panel: Panel, groups: Sequence[Group]) -> None:
    """What evaluators measured, with its confidence interval, as diamonds."""
    for number, group in enumerate(groups):
        scores = [score for run in group.runs for score in run.course.scores]
        if scores:
            x = [score.env_steps if panel.against == "steps" else score.seconds for score in scores]
            half = [0.0 if np.isnan(score.ci95) else score.ci95 for score in scores]
            mark: dict[str, Any] = {
                "color": COLORS[number % len(COLORS)],
                "markeredgecolor": "white",
                "elinewidth": 1.0,
            }
            axes.errorbar(x, [score.mean for score in scores], half, fmt="D", markersize=5, zorder=4, **mark)


def _head(figure: Figure, axes: Axes, groups: Sequence[Group]) -> None:
    """One group has a title; several have a legend."""
    names = legend(groups)
    if len(groups) == 1:
        figure.suptitle(names[0], x=0.01, ha="left", color=INK, fontsize=12, fontweight="bold")
        return
    handles = [
        axes.plot([], [], color=COLORS[n % len(COLORS)], linestyle=DASHES[n // len(COLORS) % len(DASHES)], linewidth=2)[
            0
        ]
        for n in range(len(groups))
    ]
    envs = {run.env for group in groups for run in group.runs}
    if len(envs) == 1:
        axes.set_title(f"{envs.pop()}: {axes.get_title(loc='left')}", loc="left", color=INK, fontsize=9.5)
    columns = max(1, min(3, len(groups), int(ACROSS // (max(map(_width, names)) + HANDLE))))
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK)


def legend(groups: Sequence[Group]) -> list[str]:
    """What each group is called: by its settings, or by its first run where these do not fit or do not tell."""
    counts = [_count(len(group.runs), "seed") for group in groups]
    names = [f"{group.label}, {count}" for group, count in zip(groups, counts, strict=True)]
    if max(map(_width, names)) + HANDLE > ACROSS or len({group.label for group in groups}) < len(groups):
        names = [_fitting(group.runs[0].path.name, count) for group, count in zip(groups, counts, strict=True)]
    return [name.replace("$", r"\$") for name in names]  # which would begin mathematics


def _fitting(name: str, count: str) -> str:
    """As much of both ends as there is room for."""
    found, half = f"{name}, {count}", len(name) // 2
    while _width(found) + HANDLE > ACROSS:
        half -= 1
        found = f"{name[:half]}...{name[-half:]}, {count}"
    return found


def _width(text: str) -> float:
    """In points."""
    font = FontProperties(size=mpl.rcParams["font.size"])
    return float(TextPath((0, 0), text.replace("$", r"\$"), prop=font).get_extents().width)


def caption(groups: Sequence[Group], band: Band) -> str:
    """What the lines are, in words, and what is special about these runs."""
    runs = [run for group in groups for run in group.runs]
    words = ["Thick: mean over seeds, one that ended counting with its last return; thin: each seed"]
    if any(len(group.runs) > 1 for group in groups):
        words.append(BANDS[band])
    else:
        words = ["One seed each" if len(groups) > 1 else "One seed"]
    if any(run.course.scores for run in runs):
        words.append("diamonds: evaluations, 95 %")
    if open_ended := sum(run.result is None for run in runs):
        words.append(f"{open_ended} of {len(runs)} not ended")
    if resumed := sum(run.course.lives > 1 for run in runs):
        words.append(f"{resumed} resumed")
    return "; ".join(words) + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def calm(axes: Axes) -> None:
    """A faint grid and one spine: what is left to see are the curves."""
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#bbbbbb")


def short(value: float, _: int) -> str:
    """A tick: 0, 0.5, 250, 40 k, 1.5 M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= (size if unit == "M" else 10 * size):
            return f"{value / size:,.10g} {unit}"
    return f"{value:,.10g}"
