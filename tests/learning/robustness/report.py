"""What fifty draws of eight settings came to: ROBUSTNESS.md and its picture. Knows records, rliable and plots.

Interquartile means, their stratified bootstrap intervals and performance profiles are rliable's (Agarwal et al. 2021,
"Deep reinforcement learning at the edge of the statistical precipice", sections 4.1 to 4.3).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learner.analysis.plot import FAINT
from tests.bench.store import Record, origins
from tests.learning.robustness.draws import CASES, COUNT, MIDDLES, Case
from tests.reference.markdown import table

OURS, PEER = "Farflung", "Stable-Baselines3 PPO"
COLORS = {OURS: "#1d6fb8", PEER: "#c8641b"}
BAR = 1.3  # times the peer's interquartile mean, in each environment
TAUS = np.linspace(0.0, 1.2, 61)
REPS = 5_000
HEAD = f"""# Draws of eight settings

Written by `python -m tests.learning.robustness`. Learning rate, rollout, minibatches, passes, entropy weight, clip,
1 - λ and 1 - γ, each drawn log-uniformly from one decade, the same draws for both systems and every environment
(`draws.py`). All else is at either's defaults: Farflung normalises what it sees and what it is paid and lets its rate
fall, the peer does neither. Its rollouts end with a whole one, which is up to a tenth more steps.

A score is 0 at about chance and 1 at a good policy's return. It is of the last 100 training episodes at equal steps,
one run for each draw, whose number is its seed. A run that ended no episode, or failed, scores 0. The interquartile
mean is of the draws that both systems were measured with; beside it is the 95 % interval of a stratified bootstrap
(rliable). It leaves out the worst quarter and the best; the tenth percentile is of the worst. Bar: {BAR:g} times the
peer's interquartile mean in each environment.
"""


def scores(records: Sequence[Record], cases: Sequence[Case] = CASES) -> dict[str, dict[str, list[float]]]:
    """By system, then task: of the draws that both systems have, in their order."""
    by_run = {(record["system"], record["task"], record["draw"]): record["return_mean_100"] for record in records}
    found: dict[str, dict[str, list[float]]] = {OURS: {}, PEER: {}}
    for case in cases:
        draws = sorted({draw for _, task, draw in by_run if task == case.task})
        both = [draw for draw in draws if all((system, case.task, draw) in by_run for system in found)]
        for system, tasks in found.items():
            returns = (by_run[system, case.task, draw] for draw in both)
            if both:
                # No episode has ended: nothing was shown to be learnt.
                tasks[case.task] = [0.0 if one is None else case.score(float(one)) for one in returns]
    return found


def intervals(of: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """By name: interquartile mean, and the ends of its interval."""
    from rliable.library import get_interval_estimates
    from rliable.metrics import aggregate_iqm

    matrices = {name: np.array(values)[:, None] for name, values in of.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # how rliable hands its seed on
        points, ends = get_interval_estimates(
            matrices, lambda x: np.array([aggregate_iqm(x)]), reps=REPS, random_state=np.random.RandomState(0)
        )
    return {name: (float(points[name][0]), float(ends[name][0][0]), float(ends[name][1][0])) for name in of}


def holds(ours: float, theirs: float) -> bool:
    """Whether the bar is kept, of two interquartile means."""
    return ours > 0.0 and ours >= BAR * theirs


def write(records: Sequence[Record], folder: Path) -> bool:
    """ROBUSTNESS.md, and profiles.png beside it. Returns whether every bar is kept, on all draws."""
    found = scores(records)
    lines, kept = [], []
    for case in CASES:
        if case.task in found[OURS]:
            each = intervals({system: tasks[case.task] for system, tasks in found.items()})
            kept.append(holds(each[OURS][0], each[PEER][0]) and len(found[OURS][case.task]) == COUNT)
            count = len(found[OURS][case.task])
            cells = (f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in (each[OURS], each[PEER]))
            ratio = f"{each[OURS][0] / each[PEER][0]:.2f}" if each[PEER][0] else "-"
            verdict = ratio if holds(each[OURS][0], each[PEER][0]) else f"{ratio} (missed)"
            worst = " and ".join(f"{np.percentile(of[case.task], 10):.2f}" for of in found.values())
            lines.append((case.task, f"{case.steps // 1000} k", str(count), *cells, verdict, worst))
    heads = ("environment", "steps", "draws", OURS, PEER, "ratio", "tenth percentile, either's")
    told = table(heads, lines)
    middles = ", ".join(f"{name} {value:g}" for name, value in MIDDLES.items())
    text = (
        f"{HEAD}\n{told}\n\nMiddles of the decades: {middles}.\n\n"
        "![share of draws that score more than so much, each environment](profiles.png)\n\n"
        f"Commits measured: {origins(record for record in records if record['system'] == OURS)}.\n"
    )
    (folder / "ROBUSTNESS.md").write_text(text, encoding="utf-8")
    draw(found, folder / "profiles.png")
    return len(kept) == len(CASES) and all(kept)


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A panel for each environment: the share of draws that score more than so much, with its interval."""
    from rliable.library import create_performance_profile

    tasks = [case.task for case in CASES if case.task in found[OURS]]
    figure = Figure(figsize=(3.4 * max(len(tasks), 1), 2.9), dpi=160, layout="constrained")
    panels: Any = figure.subplots(1, max(len(tasks), 1), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=False):
        matrices = {system: np.array(of[task])[:, None] for system, of in found.items()}
        profiles, ends = create_performance_profile(matrices, TAUS)
        for system, color in COLORS.items():
            axes.plot(TAUS, profiles[system], color=color, label=system)
            axes.fill_between(TAUS, *ends[system], color=color, alpha=0.16, linewidth=0)
        axes.set_title(task, loc="left", fontsize=9.5)
        axes.grid(color=FAINT, linewidth=0.7)
        axes.set_xlabel("score", fontsize=8)
        axes.set_ylim(0, 1.02)
    panels[0].set_ylabel("share of draws with more", fontsize=8)
    panels[0].legend(frameon=False, fontsize=7.5)
    figure.savefig(path, facecolor="white")
