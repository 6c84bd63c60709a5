"""Draws the dashboards of a real Prometheus with matplotlib: a rendering of their JSON, no screenshot of Grafana.

Each panel stands where its JSON puts it, asks what its JSON asks, with its title, unit, legend and thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.deploy import rules
from tests.deploy.drill.server import SCRAPE_S, Labels, Prometheus

Json = dict[str, Any]
Course = tuple[str, list[float], list[float]]  # its legend, moments in seconds since the beginning, values
COLUMNS, CELL_IN = 24, (0.68, 0.36)  # of the grid, in inches
GAP = 0.006  # between panels, of the figure's width
PAPER, PANEL, INK, FAINT = "#f4f5f5", "#ffffff", "#24292e", "#7b8087"
COLOURS = {"green": "#37872d", "orange": "#e0752d", "red": "#c4162a", "blue": "#1f60c4"}
LINES = ("#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#8f8f8f", "#b5a300", "#0f9b8e")
PREFIXES = (("bytes", 1024.0, ("B", "KiB", "MiB", "GiB")), ("Bps", 1000.0, ("B/s", "kB/s", "MB/s", "GB/s")),
            ("short", 1000.0, ("", " K", " M", " G")))  # fmt: skip
FOOT = "Rendered from the dashboard's JSON and a real Prometheus (python -m tests.deploy.drill well); no screenshot."


def all_boards(prometheus: Prometheus, folder: Path, begin: float, end: float) -> None:
    """One PNG for each dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    for uid, board in rules.boards().items():
        draw(board, Source(prometheus, begin, end), folder / f"{uid}.png")


class Source:
    """What the panels ask: one Prometheus, one stretch of time."""

    def __init__(self, prometheus: Prometheus, begin: float, end: float) -> None:
        self._prometheus, self.begin, self.end = prometheus, begin, end

    def courses(self, panel: Json) -> list[Course]:
        """Of all its queries, in order."""
        found: list[Course] = []
        step_s = max(SCRAPE_S, (self.end - self.begin) / 240)
        for target in panel["targets"]:
            expr = rules.asked(target["expr"], interval=f"{round(8 * SCRAPE_S)}s")
            for labels, course in self._prometheus.courses(expr, self.begin, self.end, step_s):
                moments, values = [at - self.begin for at, _ in course], [value for _, value in course]
                found.append((legend(target["legendFormat"], labels), moments, values))
        return found


def legend(pattern: str, labels: Labels) -> str:
    """Grafana's {{label}} filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), pattern)


def draw(board: Json, source: Source, path: Path) -> None:
    """The whole grid."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    panels = rules.panels(board)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2  # for title and foot
    figure = pyplot.figure(figsize=(COLUMNS * CELL_IN[0], rows * CELL_IN[1]), facecolor=PAPER)
    figure.text(0.008, 1 - 0.55 / rows, f"{board['title']}  ", size=15, weight="bold", color=INK, va="center")
    figure.text(0.992, 1 - 0.55 / rows, board["description"], size=12, color=FAINT, va="center", ha="right")
    figure.text(0.008, 0.4 / rows, FOOT, size=8, color=FAINT, va="center")
    for panel in panels:
        _panel(figure, panel, rows, source)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
    print(f"wrote {path}")


def _panel(figure: Any, panel: Json, rows: int, source: Source) -> None:
    place = panel["gridPos"]
    left, width = place["x"] / COLUMNS + GAP / 2, place["w"] / COLUMNS - GAP
    bottom, height = 1 - (place["y"] + place["h"] + 1.1) / rows, place["h"] / rows
    gap = GAP * COLUMNS * CELL_IN[0] / (rows * CELL_IN[1])
    card = figure.add_axes((left, bottom + gap / 2, width, height - gap), facecolor=PANEL)
    card.set(xticks=[], yticks=[])
    for spine in card.spines.values():
        spine.set_color("#d8d9da")
    inch_w, inch_h = width * COLUMNS * CELL_IN[0], height * rows * CELL_IN[1]
    card.text(0.1 / inch_w, 1 - 0.17 / inch_h, panel["title"], size=9.5, weight="bold", color=INK, va="center")
    inner = (left + 0.62 / inch_w * width, bottom + gap / 2 + 0.62 / inch_h * height,
             width * (1 - 0.8 / inch_w), height * (1 - 1.05 / inch_h))  # fmt: skip
    courses = source.courses(panel)
    if panel["type"] == "stat":
        _stat(card, panel, courses)
        return
    axes = figure.add_axes(inner, facecolor=PANEL)
    axes.tick_params(labelsize=7.5, colors=FAINT, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color("#c0c2c5")
    DRAWN[panel["type"]](axes, panel, courses)


def _unit(panel: Json) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


def told(value: float, unit: str, decimals: int | None = None) -> str:
    """A number as Grafana's units say it."""
    if not np.isfinite(value):
        return "–"
    if unit == "bool_on_off":
        return "On" if value else "Off"
    if unit == "percentunit":
        return f"{100 * value:.{decimals if decimals is not None else 1}f} %"
    if unit == "s":
        return _seconds(value)
    for name, base, names in PREFIXES:
        if unit == name:
            power = min(len(names) - 1, int(np.log(max(abs(value), 1.0)) / np.log(base)))
            return (
                f"{value / base**power:.{3 if power else 4}g}{names[power] if unit == 'short' else ' ' + names[power]}"
            )
    text = f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return text + unit.removeprefix("suffix:") if unit.startswith("suffix:") else text


def short(unit: str) -> str:
    """For the marks of an axis: words would not fit."""
    return "none" if unit.startswith("suffix: ") else unit


def _seconds(value: float) -> str:
    if value == 0:
        return "0 s"
    for bound, scale, name in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (60.0, 1.0, "s"), (3600.0, 1 / 60, "min")):
        if abs(value) < bound:
            return f"{value * scale:.3g} {name}"
    return f"{value / 3600:.3g} h"


def _stat(card: Any, panel: Json, courses: list[Course]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if not courses:
        card.text(0.5, 0.45, "No data", ha="center", va="center", size=16, color=FAINT, transform=card.transAxes)
        return
    _, moments, values = courses[0]
    colour = COLOURS["blue"]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or values[-1] >= step["value"]:
            colour = COLOURS.get(step["color"], colour)
    text = told(values[-1], defaults["unit"], defaults.get("decimals"))
    card.text(0.5, 0.55, text, ha="center", va="center", size=21, weight="bold", color=colour, transform=card.transAxes)
    course = card.inset_axes((0.0, 0.0, 1.0, 0.3))
    course.axis("off")
    finite = np.nan_to_num(np.array(values))
    course.fill_between(moments, finite, min(0.0, finite.min()), color=colour, alpha=0.15, linewidth=0)
    course.plot(moments, finite, color=colour, linewidth=1.2)
    course.margins(x=0)


def _time(axes: Any, courses: list[Course]) -> None:
    end = max((moments[-1] for _, moments, _ in courses), default=1.0)
    axes.set_xlim(0, end)
    axes.xaxis.set_major_formatter(lambda x, _: f"{int(x // 60)}:{int(x % 60):02d}")


def _lines(axes: Any, panel: Json, courses: list[Course]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    axes.grid(visible=True, color="#e9eaeb", linewidth=0.8)
    axes.set_axisbelow(True)
    if custom.get("stacking", {}).get("mode") == "normal":
        _stacked(axes, courses)
    else:
        for colour, (name, moments, values) in zip(LINES * 4, courses, strict=False):
            axes.plot(moments, values, color=colour, linewidth=1.6, label=f"{name}  {told(values[-1], unit)}")
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
    elif defaults.get("min") is not None:
        axes.set_ylim(defaults["min"], 1.08 * axes.dataLim.ymax or 1.0)
    if defaults.get("max") is not None:
        axes.set_ylim(top=defaults["max"])
    axes.yaxis.set_major_formatter(lambda y, _: told(y, short(unit)))
    axes.yaxis.set_minor_formatter(lambda *_: "")
    _time(axes, courses)
    _legend(axes, courses)


def _stacked(axes: Any, courses: list[Course]) -> None:
    """Areas on top of each other, on the moments of the longest."""
    moments = max((course[1] for course in courses), key=len, default=[])
    heights = [np.nan_to_num(np.interp(moments, at, values, left=0, right=0)) for _, at, values in courses]
    if heights:
        axes.stackplot(moments, heights, colors=LINES, alpha=0.75, labels=[name for name, _, _ in courses], linewidth=0)


def _legend(axes: Any, courses: list[Course]) -> None:
    if courses:
        columns = min(6, len(courses))
        axes.legend(loc="upper left", bbox_to_anchor=(-0.06, -0.09), ncols=columns, fontsize=7.5, frameon=False,
                    labelcolor=INK, handlelength=1.0, columnspacing=1.2, borderaxespad=0.4)  # fmt: skip


def _heat(axes: Any, panel: Json, courses: list[Course]) -> None:
    if panel["options"]["calculate"]:
        _spread(axes, panel, courses)
        return
    buckets = sorted(courses, key=lambda course: float(course[0]))
    if not buckets:
        return
    sums = np.nan_to_num(np.array([values for _, _, values in buckets]))
    counts = np.maximum(0.0, np.diff(sums, axis=0, prepend=0.0))
    moments = buckets[0][1]
    edges = np.arange(len(buckets) + 1)
    steps = np.append(moments, moments[-1] + moments[-1] / max(1, len(moments) - 1))
    axes.pcolormesh(steps, edges, np.ma.masked_less_equal(counts**0.5, 0.0), cmap="Blues", vmin=0.0)
    names = ["∞" if name == "+Inf" else told(float(name), _unit(panel)) for name, _, _ in buckets]
    axes.set_yticks(edges[1:], [f"≤ {name}" for name in names])
    _time(axes, courses)


def _spread(axes: Any, panel: Json, courses: list[Course]) -> None:
    moments = np.concatenate([np.array(at) for _, at, _ in courses]) if courses else np.zeros(1)
    values = np.concatenate([np.array(v) for _, _, v in courses]) if courses else np.zeros(1)
    top = float(values.max()) * 1.1 or 1.0
    counts, x, y = np.histogram2d(moments, values, bins=(48, 24), range=((0, moments.max() or 1), (0, top)))
    axes.pcolormesh(x, y, np.ma.masked_less_equal(counts.T**0.5, 0.0), cmap="Blues", vmin=0.0)
    axes.yaxis.set_major_formatter(lambda value, _: told(value, _unit(panel)))
    _time(axes, courses)


def _bars(axes: Any, panel: Json, courses: list[Course]) -> None:
    last = sorted(((values[-1], name) for name, _, values in courses), reverse=True)
    axes.barh(range(len(last)), [value for value, _ in last], color=COLOURS["blue"], alpha=0.45, height=0.6)
    for row, (value, name) in enumerate(last):
        axes.text(0, row, f" {name}  {told(value, _unit(panel), 0)}", va="center", size=9, color=INK)
    axes.set_yticks([])
    axes.set_xlim(0, 1.25 * max((value for value, _ in last), default=1.0))
    axes.set_ylim(-0.8, max(3.2, len(last) - 0.2))
    axes.xaxis.set_major_formatter(lambda x, _: told(x, _unit(panel)))


DRAWN: dict[str, Callable[[Any, Json, list[Course]], None]] = {
    "timeseries": _lines,
    "heatmap": _heat,
    "bargauge": _bars,
}
