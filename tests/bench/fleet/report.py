"""FLEET.md and its pictures, from the records of all runs. Knows records, files and matplotlib; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from learner.analysis.plot import COLORS, FAINT, INK, STYLE, calm
from tests.bench.fleet.costs import Costs
from tests.bench.machine import versions
from tests.bench.store import Record, origins

# Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", table 2: mean over seven Atari games of how
# many times sooner than with one thread a score is reached.
PAPER_THREADS = (1, 2, 4, 8, 16)
PAPER = {
    "one-step Q": (1.0, 3.0, 6.3, 13.3, 24.1),
    "one-step Sarsa": (1.0, 2.8, 5.9, 13.1, 22.1),
    "n-step Q": (1.0, 2.7, 5.9, 10.7, 17.2),
    "A3C": (1.0, 2.1, 3.7, 6.9, 12.5),
}
PICTURES = {"speedup": "times sooner than one actor", "steps": "steps, as a multiple of one actor's"}
PAPER_WORDS = (
    "Median seconds of one actor over median seconds of the fleet. The paper's rows are its table 2: threads of one "
    "machine, means over seven Atari games."
)
NEVER = "not reached"


def write(records: Sequence[Record], out: Path) -> None:
    """FLEET.md and two pictures into ``out``."""
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    sections = [head(), beside_the_paper(records)]
    for name, shows in PICTURES.items():
        path = out / "pictures" / f"fleet-{name}.png"
        draw(records, name, path)
        sections.append(f"![{shows}, against actors](pictures/{path.name})")
    sections += [experiment(name, found) for name, found in _groups(records).items()]
    (out / "FLEET.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    print(f"wrote {out / 'FLEET.md'}")


def head() -> str:
    """What was measured, and how."""
    costs = Costs()
    programs = ", ".join(f"{name} {version}" for name, version in versions().items() if name != "stable-baselines3")
    return (
        "# A fleet in virtual time\n\n"
        "Written by `make bench-fleet`. The product's workers, compressors, state machines, optimizer and weight "
        "stream, and virtual time: one step of one environment takes an actor "
        f"{costs.step_ms:g} ms, a minibatch's gradient {costs.gradient_ms:g} ms, a message {costs.up_ms:g} ms up, "
        f"{costs.apply_ms:g} ms at the learner and {costs.down_ms:g} ms down. Rollouts and gradients take up to "
        f"{costs.jitter:.0%} more or less by chance.\n\n"
        "Seconds are virtual, until the last 100 training episodes have the experiment's target as their mean. All "
        "settings are as shipped. Medians are over all seeds listed; a run that ended at its step limit counts as one "
        "that takes for ever.\n\n"
        f"* Versions: {programs}"
    )


def beside_the_paper(records: Sequence[Record]) -> str:
    """Speed-ups of all experiments, and the paper's."""
    sizes = _sizes(records, PAPER_THREADS)
    rows = [[name, *_speedups(found, sizes)] for name, found in _groups(records).items()]
    paper = {name: dict(zip(PAPER_THREADS, times, strict=True)) for name, times in PAPER.items()}
    told = [
        [f"Mnih et al. 2016, {name}", *(f"{times[size]:g}" if size in times else "" for size in sizes)]
        for name, times in paper.items()
    ]
    lines = [
        "## Times sooner than one actor",
        "",
        PAPER_WORDS,
        "",
        *_table(["", *map(str, sizes)], [*rows, *told]),
    ]
    return "\n".join(lines)


def experiment(name: str, records: Sequence[Record]) -> str:
    """One experiment: medians for each size, then every seed."""
    sizes = _sizes(records)
    speedups = _speedups(records, sizes)
    rows = [[str(size), speedup, *_medians(_of(records, size))] for size, speedup in zip(sizes, speedups, strict=True)]
    seeds = [_seed(record) for record in sorted(records, key=lambda r: (r["actors"], r["seed"]))]
    summary = ["actors", "times sooner", "solved", "seconds", "range", "thousand steps", "messages", "kB up"]
    each = ["actors", "seed", "solved", "seconds", "thousand steps", "return", "messages", "kB up", "lag", "busy"]
    told = f"Commits measured: {origins(records)}."
    lines = [f"## {name}", "", told, "", *_table([*summary, "lag, updates", "busy"], rows), "", *_table(each, seeds)]
    return "\n".join(lines)


def _medians(records: Sequence[Record]) -> list[str]:
    def middle(field: str) -> float:
        return float(median(record[field] for record in records))

    taken = [record["seconds"] for record in records]
    return [
        f"{sum(record['solved'] for record in records)} of {len(records)}",
        _told(_to_target(records, "seconds"), "{:.1f}"),
        f"{min(taken):.1f} to {max(taken):.1f}",
        _told(_to_target(records, "env_steps") / 1e3, "{:,.0f}"),
        f"{middle('messages'):,.0f}",
        f"{middle('received_bytes') / 1e3:,.0f}",
        f"{middle('lag_mean_updates'):.1f}",
        f"{middle('busy_share'):.0%}",
    ]


def _seed(record: Record) -> list[str]:
    mean = record["return_mean_100"]
    return [
        str(record["actors"]),
        str(record["seed"]),
        "yes" if record["solved"] else "no",
        f"{record['seconds']:.1f}",
        f"{record['env_steps'] / 1e3:,.0f}",
        "" if mean is None else f"{mean:.1f}",
        f"{record['messages']:,}",
        f"{record['received_bytes'] / 1e3:,.0f}",
        f"{record['lag_mean_updates']:.1f}",
        f"{record['busy_share']:.0%}",
    ]


def _to_target(records: Iterable[Record], field: str) -> float:
    """Median; infinity where half of the seeds or more did not get there."""
    return float(median(record[field] if record["solved"] else math.inf for record in records))


def ratios(records: Sequence[Record], field: str) -> dict[int, float]:
    """By actors: the fleet's median over that of one actor; none where either was not reached, or there is none."""
    middles = {size: _to_target(_of(records, size), field) for size in _sizes(records)}
    alone = middles.get(1, math.inf)
    if math.isinf(alone):
        return {}
    return {size: middle / alone for size, middle in middles.items() if math.isfinite(middle)}


def _speedups(records: Sequence[Record], sizes: Sequence[int]) -> list[str]:
    found, measured = ratios(records, "seconds"), _sizes(records)
    return [f"{1.0 / found[size]:.1f}" if size in found else NEVER * (size in measured) for size in sizes]


def draw(records: Sequence[Record], name: str, path: Path) -> None:
    """One picture against the number of actors: a line for each experiment, the paper's in grey."""
    speedup = name == "speedup"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
        axes = figure.subplots()
        _axes(axes, _sizes(records, PAPER_THREADS), speedup)
        for number, (label, found) in enumerate(_groups(records).items()):
            points = sorted(ratios(found, "seconds" if speedup else "env_steps").items())
            heights = [1.0 / y if speedup else y for _, y in points]
            color = COLORS[number % len(COLORS)]
            axes.plot([x for x, _ in points], heights, color=color, marker="o", markersize=4, label=label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
        axes.set_title(f"{PICTURES[name]}; medians over seeds", loc="left", color=INK, fontsize=10)
        figure.savefig(path, facecolor="white")


def _axes(axes: Axes, sizes: Sequence[int], speedup: bool) -> None:
    """Both logarithmic. As good as can be: as many times sooner as there are actors, with as many steps as one."""
    calm(axes)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(sizes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("actors, or the paper's threads" if speedup else "actors", color=INK)
    axes.plot(sizes, sizes if speedup else [1.0] * len(sizes), color=FAINT, linewidth=1.5, zorder=0)
    for label, times in PAPER.items() if speedup else ():
        axes.plot(PAPER_THREADS, times, color="#999999", linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        ends = (PAPER_THREADS[-1], times[-1])
        beside = (4, -8 if "Sarsa" in label else -2)  # below the line that ends just above it
        axes.annotate(f"paper's {label}", ends, beside, textcoords="offset points", fontsize=7.5, color="#777777")


def _groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    names = dict.fromkeys(str(record["experiment"]) for record in records)
    return {name: [record for record in records if record["experiment"] == name] for name in names}


def _of(records: Sequence[Record], actors: int) -> list[Record]:
    return [record for record in records if record["actors"] == actors]


def _sizes(records: Iterable[Record], always: Iterable[int] = ()) -> list[int]:
    return sorted({record["actors"] for record in records} | set(always))


def _told(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else NEVER


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    aligned = ["---", *["---:"] * (len(names) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (names, aligned, *rows)]
