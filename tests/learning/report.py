"""The evidence: LEARNING.md and its picture, from the records of all runs. Knows records and plots; runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, median

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learner.analysis.plot import FAINT, INK, POINTS
from tests.bench.machine import description, versions
from tests.bench.store import Record, Store, origins
from tests.learning import beyond, codecs, lag, momentum, pixels, pong_thin, thin
from tests.learning.robustness import rates
from tests.learning.tasks import TASKS, Task

COLORS = ("#1d6fb8", "#c8641b", "#3a8f4d", "#8a4fa3")
COLUMNS = 3
FILES = ("learning", "robustness", "pixels", "lag", "codecs", "momentum", "thin", "pong_thin", "beyond")
STUDIES = {"robustness": rates.holds, "pixels": pixels.holds, "thin": thin.holds} | {
    "pong_thin": pong_thin.holds,
    "beyond": beyond.holds,
}  # that have bars
HARMLESS = {"applied", "draining"}  # the last gradients find a learner that has all it wants
WORDS = (
    "Mean return of the last 100 training episodes, exploration included. Seconds from the first environment step; two "
    "actors and the learner on this machine. Every seed of every task is listed; settings were chosen on other seeds."
)


def read(results: Path) -> dict[str, list[Record]]:
    """The records of every file."""
    return {name: Store(results, name).read() for name in FILES}


def write(results: Path, out: Path) -> None:
    """LEARNING.md and its pictures into ``out``."""
    found = read(results)
    records = found["learning"]
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    lines = ["# What is learnt", "", f"Written by `make learn`. {WORDS}", ""]
    lines += [f"* Machine: {description()}"]
    lines += [f"* Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}"]
    lines += ["* Commits are named with what was measured at them.", ""]
    lines += tasks_section(records, pictures)
    sections = {
        "robustness": robustness_section(found["robustness"], pictures),
        "pixels": pixels_section(found["pixels"]),
        "lag": lag_section(found["lag"], pictures),
        "codecs": codecs_section(found["codecs"], pictures),
        "momentum": momentum_section(found["momentum"], pictures),
        "thin": thin_section(found["thin"], pictures),
        "pong_thin": pong_thin_section(found["pong_thin"]),
        "beyond": beyond_section(found["beyond"]),
    }
    for name, section in sections.items():
        lines += [*section, "", f"Commits measured: {origins(found[name])}."] if section else []
    (out / "LEARNING.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {out / 'LEARNING.md'}")


def tasks_section(records: Sequence[Record], out: Path) -> list[str]:
    """Every task, then every seed; nothing where only studies were asked for."""
    if not records:
        return []
    draw(records, out / "learning.png")
    return [
        "![mean return against environment steps, each task](pictures/learning.png)",
        "",
        *_table(("task", "bar", "reached", "steps, median", "seconds, median", "seconds, each seed", "commit")),
        *[_row(task, _of(task, records)) for task in TASKS if _of(task, records)],
        "",
        "## Every seed",
        "",
        *_table(("task", "seed", "reached", "return", "best", "steps", "seconds", "shell to exit", "staleness")),
        *[_seed(task, record) for task in TASKS for record in _of(task, records)],
    ]


def robustness_section(records: Sequence[Record], out: Path) -> list[str]:
    """Learning rates: who solved how many draws, and how soon."""
    if not records:
        return []
    rates.draw(records, out / "robustness.png")
    soon, seconds = f"within {rates.SOON_STEPS // 1000} k steps", f"within {rates.SOON_S:g} s"
    rows = []
    for system in rates.COLORS:
        draws, *counts = rates.shares(records, system)
        if draws:
            rows.append(_cells([system, str(draws), *(f"{count} ({count / draws:.0%})" for count in counts)]))
    return [
        "",
        "## Fifty learning rates",
        "",
        (
            "CartPole-v1 with the learning rate drawn log-uniformly from 1e-4 to 1e-2, each draw with its own "
            f"initialisation, at most {rates.STEPS // 1000} k steps. Farflung's bars: all, "
            f"{rates.SOON_STEPS_BAR:.0%} and {rates.SOON_S_BAR:.0%}{_verdict(rates.holds(records))}."
        ),
        "",
        *_table(("system", "draws", "solved", soon, seconds)),
        *rows,
        "",
        "![steps to solve against the learning rate](pictures/robustness.png)",
    ]


def pixels_section(records: Sequence[Record]) -> list[str]:
    """Pong's throughput: the bare parts, the whole, the peer."""
    if not records:
        return []

    def middle(field: str) -> float:
        return float(median(record[field] for record in records))

    parts = [f"{middle(field):.0f}" for field in ("simulator_us", "forward_us", "gradient_us")]
    rates = [f"{middle(field):,.0f}" for field in ("both_bare", "alone", "whole", "peer")]
    columns = (
        *("simulator, us", "forward, us", "gradients, us", "both cores, bare sum", "one core alone, bare"),
        *("whole system", "SB3 A2C"),
    )
    return [
        "",
        "## Pong, training throughput",
        "",
        (
            "Microseconds of one core per agent step (four frames), and agent steps/s: two cores doing nothing but the "
            "parts, at the same time; one that has the machine to itself; `learner run pong` with two actors; and "
            f"Stable-Baselines3 A2C in the same minutes. Medians of {len(records)} rounds. Bars: "
            f"{pixels.SHARE_BAR:.0%} of the bare sum, {pixels.PEER_BAR:g} times the peer"
            f"{_verdict(pixels.holds(records))}. Of twice the core alone it is {middle('share_of_alone'):.0%}."
        ),
        "",
        *_table((*columns, "share", "times the peer")),
        _cells([*parts, *rates, f"{middle('share'):.2f}", f"{middle('times'):.1f}"]),
    ]


def lag_section(records: Sequence[Record], out: Path) -> list[str]:
    """Staleness rules under injected lag."""
    if not records:
        return []
    lag.draw(records, out / "staleness.png")
    rows = []
    for house in lag.HOUSES:
        for rule in lag.HOUSES[house].rules:
            cells = [lag.retained(records, house, rule, late) for late in lag.LAGS]
            rows.append(_cells([house, rule, *map(_spread, cells)]))
    return [
        "",
        "## Staleness",
        "",
        (
            "CartPole-v1, actor and learner in one process, every gradient late by exactly so many updates once that "
            f"many were computed; the mean of the learning curve over {lag.STEPS // 1000} k steps, median (and range) "
            f"of {lag.SEEDS} seeds. `kl_target`, which changes the length of updates as well, is off but where a row "
            "names it. All but the last rows send each update by itself. As shipped a message is a rollout's sum, "
            "which its actor has at once, however late the stream shows it: lags count messages there, and late is "
            f"what others learnt. Mean lags measured with one actor and single updates: {_measured(records)}."
        ),
        "",
        *_table(("settings", "rule", *(f"lag {late}" for late in lag.LAGS))),
        *rows,
        "",
        "![mean return against injected lag, each rule](pictures/staleness.png)",
    ]


def codecs_section(records: Sequence[Record], out: Path) -> list[str]:
    """What learning notices of each codec."""
    if not records:
        return []
    codecs.draw(records, out / "codecs.png")
    rows = []
    for way in codecs.WAYS:
        found = codecs.runs(records, way)
        if found:
            rows.append(_cells([way, f"{codecs.fewer(found):,.1f}", *_reached(found)]))
    return [
        "",
        "## Codecs",
        "",
        (
            "CartPole-v1 to 475, two actors and the learner in one process, each gradient a lag of "
            f"{codecs.LAG} late; preconditioned updates in every codec, else the shipped settings; at most "
            f"{codecs.STEPS // 1000} k steps (+: not solved by then). Payloads alone, without headers."
        ),
        "",
        *_table(("codec", "times fewer bytes than f32", "solved", "steps, median", "thousand steps, each seed")),
        *rows,
        "",
        "![steps to solve against bytes, each codec](pictures/codecs.png)",
    ]


def momentum_section(records: Sequence[Record], out: Path) -> list[str]:
    """Momentum and residuals where gradients are late."""
    if not records:
        return []
    momentum.draw(records, out / "momentum.png")
    rows = []
    for density, decay in product(momentum.DENSITIES, momentum.DECAYS):
        for beta1 in momentum.betas(decay):
            cells = [_thousands(momentum.steps(records, density, decay, beta1, fleet)) for fleet in momentum.FLEETS]
            rows.append(_cells([f"{density:.1%}", str(decay), beta1, *cells]))
    return [
        "",
        "## Momentum, residuals and lag",
        "",
        (
            "Thousand steps of CartPole-v1 to 475, each seed (+: not solved by then), everything in one process; "
            f"settings are chosen by this table, so its seeds, from {momentum.FIRST} on, are no others' evidence. "
            '"Follows": at most so much, with `momentum_lag` as it ships.'
        ),
        "",
        *_table(("density", "decay", "β1", *(f"{actors} actors, lag {late}" for actors, late in momentum.FLEETS))),
        *rows,
        "",
        "![steps to solve against momentum, each fleet](pictures/momentum.png)",
    ]


def thin_section(records: Sequence[Record], out: Path) -> list[str]:
    """Whole runs over thin streams."""
    if not records:
        return []
    thin.draw(records, out / "thin.png")
    rows = []
    for task, actors, way in product(thin.TASKS, thin.FLEETS, thin.WAYS):
        found = thin.runs(records, task, actors, way)
        if found:
            fewer = [f"{min(map(side, found)):,.1f}" for side in (thin.up, thin.down)]
            lag = f"{median(record['lag_mean_updates'] for record in found):.0f}"
            rows.append(_cells([task, str(actors), way, *fewer, *_reached(found), lag]))
    bars = " and ".join(
        f"{thin.STEPS_BAR[n]:g} with {n}, {thin.DOWN_BAR[n]:g} times fewer bytes down" for n in thin.FLEETS
    )
    return [
        "",
        "## Thin streams",
        "",
        (
            "Whole runs of `learner run`, sparse and dense updates with otherwise equal settings; bytes with headers, "
            "the least of all seeds. A version's way down is the stream and all that was sent to anybody else. Bars: "
            f"{thin.UP_BAR:g} times fewer bytes up; solved within so many times the dense steps: {bars}"
            f"{_verdict(thin.holds(records))}."
        ),
        "",
        *_table(
            ("task", "actors", "codec", "fewer up", "fewer down", "solved", "steps, median", "thousand steps", "lag")
        ),
        *rows,
        "",
        "![mean return against bytes sent](pictures/thin.png)",
    ]


def pong_thin_section(records: Sequence[Record]) -> list[str]:
    """Pong at a fixed number of steps."""
    if not records:
        return []
    rows = []
    for way in pong_thin.WAYS:
        found = pong_thin.returns(records, way)
        fewer = [r["dense_bytes"] / r["bytes_per_gradient"] for r in records if r["way"] == way]
        each = ", ".join(f"{value:.1f}" for value in found)
        mean = f"{fmean(found):.1f} ± {pong_thin.error(found):.1f}"
        rows.append(_cells([way, f"{median(fewer):,.0f}", mean, each]))
    return [
        "",
        "## Pong over a thin stream",
        "",
        (
            f"Mean return of the last 100 episodes after {pong_thin.STEPS // 1000} k steps, seeds from "
            f"{pong_thin.FIRST} on, mean and standard error; two actors and the learner in one process. Bar: within "
            f"one standard error of dense{_verdict(pong_thin.holds(records))}. Payloads alone, without headers."
        ),
        "",
        *_table(("codec", "times fewer bytes than f32", "return", "each seed")),
        *rows,
    ]


def beyond_section(records: Sequence[Record]) -> list[str]:
    """Runs that go on past their target, each seed."""
    if not records:
        return []
    rows, missing = [], []
    for name, seed in product(beyond.CASES, range(beyond.SEEDS)):
        found = [record for record in records if (record["experiment"], record["seed"]) == (name, seed)]
        rows += [_beyond_row(record) for record in found]
        missing += [] if found else [f"{name} {seed}"]
    held = all(beyond.fallen_share(record) <= beyond.FALLEN_SHARE for record in records)
    return [
        "",
        "## Past the target",
        "",
        (
            f"Every shipped experiment, and FrozenLake-v1 without slipping ({beyond.CERTAIN}, with `kl_target`), on to "
            f"{beyond.TIMES} times the steps that the target took, {beyond.LEAST_STEPS // 1000} k at least; two actors "
            f"and the learner in one process, in turns. Fallen is a mean of 100 training episodes below "
            f"{beyond.KEPT:.0%} of the target; bar: for at most {beyond.FALLEN_SHARE:.0%} of the steps since"
            f"{_verdict(held)}. Not measured yet: {', '.join(missing) or 'none'}."
        ),
        "",
        *_table(("experiment", "seed", "target", "reached at", "went on to", "lowest since", "at the end", "fallen")),
        *rows,
    ]


def _beyond_row(record: Record) -> str:
    means, reached = beyond.since(record), record["reached_at"]
    ends = [f"{min(means):.4g}", f"{means[-1]:.4g}"] if means else ["none", "none"]
    at = "never" if reached is None else f"{reached:,}"
    share = beyond.fallen_share(record)
    fallen = f"{share:.1%}{_verdict(share <= beyond.FALLEN_SHARE)}"
    target = f"{record['target']:g}"
    return _cells([record["experiment"], str(record["seed"]), target, at, f"{record['env_steps']:,}", *ends, fallen])


def _reached(found: Sequence[Record]) -> tuple[str, str, str]:
    """How many solved it, the median of their steps, and the steps of each."""
    solved = f"{sum(record['solved'] for record in found)} of {len(found)}"
    return solved, f"{median(record['env_steps'] for record in found) / 1000:.0f} k", _thousands(found)


def _thousands(found: Sequence[Record]) -> str:
    return ", ".join(f"{record['env_steps'] / 1000:.0f}{'' if record['solved'] else '+'}" for record in found)


def _spread(found: Sequence[float]) -> str:
    return f"{median(found):.0f} ({min(found):.0f} to {max(found):.0f})" if found else ""


def _measured(records: Sequence[Record]) -> str:
    means = [lag.measured(records, late) for late in lag.LAGS]
    return ", ".join("none" if mean is None else f"{mean:.1f}" for mean in means)


def missed(found: Mapping[str, Sequence[Record]], asked: Collection[str] = ()) -> list[str]:
    """The parts whose bar does not hold, of those asked for and those with records. found: as ``read`` gives it."""
    tasks = {task.name: (_of(task, found["learning"]), partial(_holds, task)) for task in TASKS}
    studies = {name: (found[name], holds) for name, holds in STUDIES.items()}
    judged = {name: part for name, part in (tasks | studies).items() if name in asked or part[0]}
    return [name for name, (records, holds) in judged.items() if not holds(records)]


def _verdict(held: bool) -> str:
    return "" if held else " (missed)"


def _of(task: Task, records: Sequence[Record]) -> list[Record]:
    ours = (record for record in records if record["task"] == task.name and record["seed"] in task.each_seed)
    return sorted(ours, key=lambda record: record["seed"])


def _holds(task: Task, found: Sequence[Record]) -> bool:
    """Whether every seed that the task asks for was run and they keep its bar."""
    if len(found) < task.seeds:
        return False
    if task.below is not None:
        return all(record["best"] is None or record["best"] < task.below for record in found)
    if not all(set(record["rulings"]) <= HARMLESS for record in found):
        return False
    in_time = task.median_s is None or median(record["wall_s"] for record in found) < task.median_s
    return in_time and all(record["solved"] for record in found)


def bar(task: Task) -> str:
    """The bar in words."""
    if task.below is not None:
        return f"stays below {task.below:g} in {task.steps:,} steps"
    words = [f">= {task.target:g}"]
    if task.name in ("acrobot", "pendulum"):
        words.append(f"within {task.steps:,} steps")
    if task.name == "pong":
        words.append(f"within {task.seconds / 60:g} min")
    if task.median_s is not None:
        words.append(f"median under {task.median_s:g} s")
    return ", ".join([*words, f"{task.seeds} of {task.seeds}"])


def _row(task: Task, found: Sequence[Record]) -> str:
    held = sum(_holds_one(task, record) for record in found)
    seconds = ", ".join(f"{record['wall_s']:.1f}" for record in found)
    steps, wall = median(r["env_steps"] for r in found), median(r["wall_s"] for r in found)
    cells = (
        task.name,
        bar(task),
        f"{held} of {len(found)}{_verdict(_holds(task, found))}",
        f"{steps / 1000:,.0f} k",
        f"{wall:.1f}",
        seconds,
        origins(found),
    )
    return _cells(cells)


def _holds_one(task: Task, record: Record) -> bool:
    if task.below is not None:
        return record["best"] is None or bool(record["best"] < task.below)
    return bool(record["solved"])


def _seed(task: Task, record: Record) -> str:
    numbers = [_number(record[name]) for name in ("return_mean_100", "best")]
    ends = (f"{record['env_steps']:,}", f"{record['wall_s']:.1f}", f"{record['total_s']:.1f}")
    reached = "yes" if _holds_one(task, record) else "no"
    return _cells((task.name, str(record["seed"]), reached, *numbers, *ends, f"{record['lag_mean_updates']:.1f}"))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _table(head: Sequence[str]) -> list[str]:
    return [_cells(head), _cells(["---"] * len(head))]


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def draw(records: Sequence[Record], path: Path) -> None:
    """A panel for each group of tasks: the median of all seeds and their range, against environment steps."""
    groups = list(dict.fromkeys(task.group for task in TASKS if _of(task, records)))
    rows = -(-len(groups) // COLUMNS)
    with mpl.rc_context({"font.size": 8.5, "font.family": "sans-serif"}):
        figure = Figure(figsize=(3.7 * COLUMNS, 2.5 * rows), dpi=160, layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False).reshape(-1)
        for axes, group in zip(panels, groups, strict=False):
            _panel(axes, [task for task in TASKS if task.group == group], records)
        for axes in panels[len(groups) :]:
            axes.set_visible(False)
        figure.savefig(path, facecolor="white")


def _panel(axes: Axes, tasks: Sequence[Task], records: Sequence[Record]) -> None:
    axes.set_title(tasks[0].group, loc="left", fontsize=9.5, color=INK)
    axes.grid(color=FAINT, linewidth=0.7)
    axes.axhline(tasks[0].target, color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
    for task, color in zip(tasks, COLORS, strict=False):
        curves = [np.array(r["curve"], np.float64) for r in _of(task, records) if r["curve"]]
        if not curves:
            continue
        grid = np.linspace(max(c[0, 0] for c in curves), max(c[-1, 0] for c in curves), POINTS)
        held = np.array([np.interp(grid, curve[:, 0], curve[:, 2]) for curve in curves])
        axes.fill_between(grid / 1000, held.min(0), held.max(0), color=color, alpha=0.16, linewidth=0)
        axes.plot(
            grid / 1000, np.median(held, 0), color=color, linewidth=1.6, label=f"{task.label}, {len(curves)} seeds"
        )
        axes.scatter([c[-1, 0] / 1000 for c in curves], [c[-1, 2] for c in curves], s=8, color=color, zorder=3)
    axes.legend(frameon=False, fontsize=7.5, loc="lower right")
    axes.set_xlabel("thousand environment steps", fontsize=7.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
