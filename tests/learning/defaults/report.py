"""What all runs came to, as tables. Pure but for the file that it writes.

A run's score is the mean return of its last 100 training episodes. Ours is above a peer's where the means differ by
more than the standard error of their difference, and below likewise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from tests.bench.store import Record, origins
from tests.learning.defaults.tasks import ASKED_FOR, DEVELOPMENT, REPORTING, Task
from tests.reference.markdown import table

MEASURED = Path(__file__).parent / "measured"  # the lines behind what is published, kept beside it
OURS, TUNED = "farflung", "tuned"
PEERS = {"ppo": "Stable-Baselines3 PPO", "a2c": "Stable-Baselines3 A2C"}
HEAD = """# Untuned environments

Written by `python -m tests.learning.defaults`. Farflung beside Stable-Baselines3's PPO and A2C, all at their defaults:
no experiment file, no setting, equal environment steps. Mean return of the last 100
training episodes, mean over seeds from 0 and its standard error. Ours are of two actors in virtual time.

A row is *above* or *below* where ours and the better of the two differ by more than the standard error of the
difference. The last column is Farflung with the shipped experiment of the environment, where there is one, for as many
steps; it judges nothing. Defaults were chosen on other environments and other seeds
(`tests/learning/defaults/tasks.py`).
"""


class Score(NamedTuple):
    """Of several seeds. error: of the mean."""

    mean: float
    error: float
    seeds: int

    def __str__(self) -> str:
        if self.seeds == 1:
            return f"{self.mean:.4g} (1)"
        return f"{self.mean:.4g} ± {self.error:.2g} ({self.seeds})"


def score(returns: Sequence[float]) -> Score:
    """Of one seed the error is not known, and counts as none."""
    return Score(mean(returns), stdev(returns) / math.sqrt(len(returns)) if len(returns) > 1 else 0.0, len(returns))


def verdict(ours: Score, others: Sequence[Score]) -> str:
    """Against the best of the others."""
    best = max(others, key=lambda other: other.mean)
    difference, error = ours.mean - best.mean, math.hypot(ours.error, best.error)
    return "above" if difference > error else "below" if difference < -error else "even"


def _returns(records: Iterable[Record]) -> dict[tuple[str, str], list[float]]:
    """By task and who."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in sorted(records, key=lambda record: int(record["seed"])):
        if record["return_mean_100"] is not None:
            found[record["task"], record["who"]].append(float(record["return_mean_100"]))
    return found


def rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """A line for each task that ours were measured on."""
    found = _returns(records)
    return [_row(task, found) for task in REPORTING if found[task.name, OURS]]


def _row(task: Task, found: dict[tuple[str, str], list[float]]) -> tuple[str, ...]:
    ours = score(found[task.name, OURS])
    others = {who: score(found[task.name, who]) for who in PEERS if found[task.name, who]}
    judged = verdict(ours, [*others.values()]) if others else ""
    cells = (str(others.get(who, "")) for who in PEERS)
    tuned = str(score(found[task.name, TUNED])) if found[task.name, TUNED] else ""
    return (task.name, f"{task.steps // 1000} k", str(ours), *cells, judged, tuned)


def written(records: Sequence[Record]) -> str:
    """The whole file."""
    lines = rows(records)
    counts = [f"{sum(line[-2] == word for line in lines)} {word}" for word in ("above", "even", "below")]
    heads = ("environment", "steps", "Farflung", *PEERS.values(), "", "its experiment file")
    told = f"Commits measured: {origins(record for record in records if record['who'] in (OURS, TUNED))}."
    return f"{HEAD}\n{', '.join(counts)}. {told}\n\n{table(heads, lines)}{_asked_for(records)}{_seeds(records)}"


def _seeds(records: Sequence[Record]) -> str:
    """What every mean is of."""
    found = _returns(records)
    names = {OURS: "Farflung", **PEERS, TUNED: "its experiment file"}
    lines = [
        (task.name, names[who], ", ".join(f"{value:.4g}" for value in found[task.name, who]))
        for task in (*REPORTING, *ASKED_FOR)
        for who in names
        if found[task.name, who]
    ]
    return f"\n## Each seed\n\n{table(('environment', 'who', 'return, seeds from 0'), lines)}"


def _asked_for(records: Sequence[Record]) -> str:
    """Tasks that are given a setting, or are larger. Empty where none was measured."""
    found = _returns(records)
    measured = [task for task in ASKED_FOR if found[task.name, OURS]]
    lines = [
        (
            task.name,
            f"{task.steps // 1000} k",
            ", ".join(f"`{setting}`" for setting in task.settings) or "none",
            str(score(found[task.name, OURS])),
        )
        for task in measured
    ]
    heads = ("environment", "steps", "settings", "Farflung")
    best = "The best return of a T-maze is 1, of a MiniGrid task about 0.97, of the chain 1."
    words = f"\n## Memory, and rewards that are rare\n\nOurs alone. {best}\n\n"
    return f"{words}{table(heads, lines)}" if lines else ""


def write(records: Sequence[Record], folder: Path) -> None:
    """DEFAULTS.md."""
    (folder / "DEFAULTS.md").write_text(written(records), encoding="utf-8")


def development(records: Iterable[Record]) -> str:
    """A line for each set of settings, a column for each task: the mean return of its last 100 episodes."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        found[tuple(record["settings"])][record["task"]].append(record["return_mean_100"] or 0.0)
    lines = []
    for settings, tasks in found.items():
        cells = [" ".join(f"{value:.4g}" for value in tasks[task.name]) or "-" for task in DEVELOPMENT]
        lines.append((" ".join(settings) or "defaults", *cells))
    return table(("settings", *(task.name for task in DEVELOPMENT)), lines)
