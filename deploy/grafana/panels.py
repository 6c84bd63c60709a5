"""What a dashboard is made of: boards, panels, queries, and short words for PromQL. Pure; knows no Grafana.

Learners are chosen by ``$instance``, or many by their ``$run``; actors by the run that they work for. Names of metrics
are those of ``learner/monitoring/metrics.py`` and ``actor/monitoring/metrics.py``; names with colons are recorded by
``deploy/prometheus/farflung.rules.yml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "lines", "stack", "heat", "spread", "bars", "table"]
COLUMNS = 24  # of Grafana's grid
STAT, HALF, THIRD, QUARTER = (4, 4), (12, 9), (8, 8), (6, 8)  # width and height in it

GOOD, WARN, BAD = "green", "orange", "red"
Steps = tuple[tuple[float | None, str], ...]  # from which value on which colour; the first from None on
RUN_INFO = 'farflung_learner_run_info{run=~"$run"}'
PLAIN: Steps = ((None, "blue"),)


@dataclass(frozen=True)
class Query:
    """expr: PromQL. legend: of its series, in Grafana's notation. In a table the column's name, and unit its unit."""

    expr: str
    legend: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Panel:
    """kind: a number with its recent course (stat); lines; areas that add up (stack); a histogram's buckets over time
    (heat); how many series are at which height (spread); the newest value of each series as a bar (bars);
    a line for each run and a column for each query (table).

    says: what is seen, and when to worry. unit: Grafana's code. size: width and height. most: of the axis. reach: how
    far it goes at least, where there may be nothing but zeros.
    """

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "lines"
    size: tuple[int, int] = HALF
    steps: Steps = PLAIN
    decimals: int | None = None
    most: float | None = None
    reach: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Board:
    """One question. panels: in reading order, filling the grid line by line. many: it shows runs side by side."""

    name: str
    question: str
    panels: tuple[Panel, ...]
    many: bool = False

    @property
    def uid(self) -> str:
        """Stable, so that links to it stay whole."""
        return f"farflung-{self.name.lower()}"


def learner(metric: str, **labels: str) -> str:
    """One metric of the chosen learners. labels: exact values, or ~ and a pattern."""
    return f"farflung_learner_{metric}{_chosen(labels)}"


def recorded(metric: str, **labels: str) -> str:
    """One recorded series of them."""
    return f"farflung:{metric}{_chosen(labels)}"


def of_runs(metric: str, by: str = "run") -> str:
    """A series of the learners of all chosen runs, one for each run."""
    return f"max by ({by}) ({metric} * on (job, instance) group_left ({by}) {RUN_INFO})"


def process(metric: str, **labels: str) -> str:
    """What the system says of their processes."""
    return f"process_{metric}{_chosen({'job': 'farflung-learner', **labels})}"


def rate(metric: str, by: str = "") -> str:
    """What a counter of theirs gains in a second, added up."""
    return f"sum{by and f' by ({by})'} (rate({learner(metric)}[$__rate_interval]))"


def unsaved_age() -> str:
    """Since the newest checkpoint or, before the first, since training began; 0 where there is nothing new to save.

    A run that stands still has made nothing new either; there the age goes on, so that it does not look well.
    """
    age = f"({learner('checkpoint_age_seconds')} or {learner('training_seconds')})"
    saved = f"({learner('checkpoint_version')} == {learner('version')} unless {learner('stalled')} == 1)"
    return f"{age} unless {saved} or 0 * {learner('version')}"


def quantile(share: float, metric: str) -> str:
    """Of a histogram of theirs, over the last minutes."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', by='le')})"


def _chosen(labels: dict[str, str]) -> str:
    wanted = [f'{name}="{value}"' if value[:1] != "~" else f'{name}=~"{value[1:]}"' for name, value in labels.items()]
    return "{" + ",".join(['instance=~"$instance"', *wanted]) + "}"


def stat(title: str, says: str, unit: str, expr: str, steps: Steps = PLAIN, decimals: int | None = None) -> Panel:
    """One number."""
    return Panel(title, says, unit, (Query(expr),), "stat", STAT, steps, decimals)


def spread_of(metric: str) -> tuple[Query, ...]:
    """Fastest, middle and slowest of what all actors told."""
    legends = {"1": "highest", "0.5": "median", "0": "lowest"}
    return tuple(Query(f"max({learner(metric, quantile=q)})", legend) for q, legend in legends.items())


def quantiles_of(metric: str) -> tuple[Query, ...]:
    """Three of a histogram."""
    return tuple(Query(quantile(share, metric), f"{share:.0%} below") for share in (0.5, 0.9, 0.99))
