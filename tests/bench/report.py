"""The report: RESULTS.md from what the parts measured, and its pictures. Knows records and files; measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.bench.machine import description, versions
from tests.bench.store import Record, Store
from tests.bench.training import FARFLUNG, LIBRARY, LOOPS, TASKS, Task

BAR = 0.8  # share of the bare rate that an actor and a learner must reach
TRAINING_WORDS = (
    "Seconds from the first environment step until the last 100 training episodes have that mean; seconds from the "
    "shell to the command's exit; all systems in turns on the same machine. Memory is the sum of the largest resident "
    "sets of a system's processes, what they share counted in each."
)
LOOP_WORDS = (
    "A loop is plain PPO in one process with the recipe that Farflung ships, as many environments as all of its actors "
    "have, minibatches of the same size, and dense Adam (β1 0.9). JAX's loops compile all learning from a rollout into "
    "one call, before the first environment step, and learn in a second thread while they collect; torch's takes "
    "turns. A loop has its simulators beside it: it takes no actor on another machine, and where its process or a "
    "simulator ends, so does the run. EnvPool's simulators are C++ of its own, which for LunarLander-v3 is not quite "
    "the same task. Simulators that are themselves written in JAX are not compared."
)
SHARE_WORDS = (
    "Environment steps/s that the parts alone make, which are the simulators, the forward pass and the gradients, in a "
    "process on each of two cores at once; beside it `learner run` with its two actors and the learner on the same "
    "cores. On both sides the policy stays as it is at first, so that the simulators do the same work. Past the target "
    "is a run with its own learning rate that goes on when it has solved its task; Pong would take too long to."
)
ACTOR_WORDS = (
    "Microseconds per environment step of the bare parts, steps/s of their sum, and steps/s of the actor: its worker "
    "in a bare process, and the whole program with a learner on another core. Shares are of the bare sum; the bar "
    f"is {BAR}."
)
LEARNER_WORDS = (
    "Gradients/s that `learner run` applies, fed over ipc by another process, beside decoding the same "
    f"payloads and stepping the same optimizer in a bare loop. The bar is {BAR} for each load."
)


def write(results: Path, out: Path) -> None:
    """RESULTS.md and a picture for each task that was measured, into ``out``."""
    sections = [_head(results)]
    for task in TASKS:
        if records := Store(results, task.part).read():
            sections.append(training(task, records))
            sections.append(_picture(task, records, out))
    if records := Store(results, "share").read():
        sections.append(share(records))
    if records := Store(results, "actor").read():
        sections.append(actor(records))
    if records := Store(results, "learner").read():
        sections.append(learner(records))
    path = out / "RESULTS.md"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def _head(results: Path) -> str:
    records = [record for path in sorted(results.glob("*.jsonl")) for record in Store(results, path.stem).read()]
    days = sorted({str(record["at"])[:10] for record in records})
    commits = sorted({str(record["commit"]) for record in records})
    programs = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        "# Measurements\n\n"
        f"Written by `make bench` on {' to '.join([days[0], days[-1]] if len(days) > 1 else days) or 'no day'} UTC, "
        f"commit {', '.join(commits) or 'none'}.\n\n"
        f"* Machine: {description()}\n* Versions: {programs}\n"
        "* Medians are over the seeds or rounds listed; nothing is left out."
    )


def training(task: Task, records: Sequence[Record]) -> str:
    """All systems on one task: medians first, then every seed."""
    groups = _grouped(records, "system")
    lines = [
        f"## {task.env} to a mean return of {task.target:g}",
        "",
        TRAINING_WORDS,
        *(["", LOOP_WORDS] if groups.keys() & LOOPS.keys() else []),
        "",
        *_table(
            (
                "system",
                "solved",
                "seconds, median",
                "shell to exit, median",
                "steps, median",
                "steps/s, median",
                "memory, median",
                "seconds of each seed",
            ),
            [_medians(name, found) for name, found in groups.items()],
        ),
        "",
        *_verdicts(task, groups),
        "",
        *_table(
            (
                "system",
                "seed",
                "solved",
                "seconds",
                "shell to exit",
                "steps",
                "steps/s",
                "memory",
                "return",
                "compression",
            ),
            [_seed(record) for found in groups.values() for record in sorted(found, key=lambda r: int(r["seed"]))],
        ),
    ]
    return "\n".join(lines)


def _grouped(records: Sequence[Record], field: str) -> dict[str, list[Record]]:
    """Records by one of their fields, its values in the order that they came in."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(str(record[field]), []).append(record)
    return groups


def _verdicts(task: Task, groups: dict[str, list[Record]]) -> list[str]:
    """What the numbers say of the bars, in words; nothing before ours and another system ran."""
    ours = groups.get(FARFLUNG)
    peers = {name: found for name, found in groups.items() if name != FARFLUNG}
    if not ours or not peers:
        return []
    return [
        *(_verdict(name, task.bar if name == LIBRARY else None, ours, found) for name, found in peers.items()),
        f"* Fewer bytes up than float32, headers included, least of all seeds: {_least(ours):.1f} times (bar: 30).",
    ]


def _verdict(name: str, bar: float | None, ours: Sequence[Record], peers: Sequence[Record]) -> str:
    """How many times as long as ours a peer takes by the medians; below 1 the peer is the faster one."""
    times = median(record["wall_s"] for record in peers) / median(record["wall_s"] for record in ours)
    return f"* {name} takes {times:.2f} times Farflung's seconds by the medians{_unsolved(ours, peers)}{_bar(bar)}."


def _unsolved(ours: Sequence[Record], peers: Sequence[Record]) -> str:
    """A run that ended unsolved would have taken longer, so that a ratio is a bound, or with both nothing at all."""
    if not all(record["solved"] for record in ours):
        return ", which says nothing, for Farflung did not solve every seed"
    return "" if all(record["solved"] for record in peers) else ", at least, for it did not solve every seed"


def _bar(bar: float | None) -> str:
    return "" if bar is None else f" (bar: {bar:g})"


def _least(records: Sequence[Record]) -> float:
    return float(min(record["compression"] for record in records))


def _medians(system: str, records: Sequence[Record]) -> list[str]:
    memory = [record["peak_bytes"] for record in records if record.get("peak_bytes") is not None]
    return [
        system,
        f"{sum(record['solved'] for record in records)} of {len(records)}",
        f"{median(record['wall_s'] for record in records):.2f}",
        f"{median(record['total_s'] for record in records):.1f}",
        f"{median(record['env_steps'] for record in records) / 1000:,.0f} k",
        f"{median(_rate(record) for record in records):,.0f}",
        _megabytes(median(memory) if memory else None),
        ", ".join(f"{record['wall_s']:.2f}" for record in sorted(records, key=lambda r: int(r["seed"]))),
    ]


def _seed(record: Record) -> list[str]:
    mean, compression = record["return_mean_100"], record.get("compression")
    return [
        record["system"],
        str(record["seed"]),
        "yes" if record["solved"] else "no",
        f"{record['wall_s']:.2f}",
        f"{record['total_s']:.1f}",
        f"{record['env_steps']:,}",
        f"{_rate(record):,.0f}",
        _megabytes(record.get("peak_bytes")),
        "" if mean is None else f"{mean:.1f}",
        "" if compression is None else f"{compression:.1f}",
    ]


def _rate(record: Record) -> float:
    """Environment steps per second."""
    return float(record["env_steps"] / record["wall_s"])


def _megabytes(size: float | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"


def share(records: Sequence[Record]) -> str:
    """The whole system on two cores beside what its parts alone do there."""
    columns = ("experiment", "bare sum, steps/s", "real run", "share", "past the target", "share of each round")
    groups = _grouped(records, "experiment")
    return _rates("The system's share of two cores", SHARE_WORDS, columns, groups, _share_row)


def _rates(
    title: str,
    words: str,
    columns: Sequence[str],
    groups: Mapping[str, Sequence[Record]],
    row: Callable[[str, Sequence[Record]], list[str]],
) -> str:
    """A section of one table, with a row for each group. All groups have as many rounds."""
    rounds = len(next(iter(groups.values())))
    table = _table(columns, [row(name, found) for name, found in groups.items()])
    return "\n".join([f"## {title}", "", f"{words} Medians of {rounds} rounds, in turns.", "", *table])


def _share_row(name: str, records: Sequence[Record]) -> list[str]:
    shares = [record["real"] / record["both_bare"] for record in records]
    past = None if records[0]["past"] is None else median(record["past"] for record in records)
    return [
        name,
        f"{median(record['both_bare'] for record in records):,.0f}",
        f"{median(record['real'] for record in records):,.0f}",
        f"{median(shares):.2f}",
        "" if past is None else f"{past:,.0f}",
        ", ".join(f"{one:.2f}" for one in shares),
    ]


def actor(records: Sequence[Record]) -> str:
    """One actor beside the bare sum."""
    columns = (
        "experiment",
        "simulator",
        "forward",
        "gradients",
        "bare sum",
        "worker alone",
        "share",
        "`actor run`",
        "share",
    )
    return _rates("One actor on one core", ACTOR_WORDS, columns, _grouped(records, "experiment"), _actor_row)


def _actor_row(name: str, records: Sequence[Record]) -> list[str]:
    def middle(field: str) -> float:
        return float(median(record[field] for record in records))

    parts = [f"{middle(field):.1f}" for field in ("simulator_us", "forward_us", "gradient_us")]
    rates = [
        part for field in ("worker", "actor") for part in (f"{middle(field):,.0f}", f"{middle(f'{field}_share'):.2f}")
    ]
    return [name, *parts, f"{middle('bare'):,.0f}", *rates]


def learner(records: Sequence[Record]) -> str:
    """The learner beside decoding and applying alone."""
    columns = ("load", "parameters", "bare loop", "learner", "share", "snapshots/s", "refused")
    return _rates("The learner under load", LEARNER_WORDS, columns, _grouped(records, "case"), _learner_row)


def _learner_row(name: str, records: Sequence[Record]) -> list[str]:
    return [
        name if records[0]["judged"] else f"{name} (for information)",
        f"{records[0]['parameters']:,}",
        f"{median(record['bare'] for record in records):,.0f}",
        f"{median(record['learner'] for record in records):,.0f}",
        f"{median(record['learner'] / record['bare'] for record in records):.2f}",
        f"{median(record['snapshots_per_s'] for record in records):.0f}",
        f"{sum(record['refused'] for record in records)}",
    ]


def _picture(task: Task, records: Sequence[Record], out: Path) -> str:
    try:
        from tests.bench.curves import draw
    except ImportError:
        return "(No picture: matplotlib, of the extra `compare`, is not installed.)"
    path = out / "pictures" / f"{task.part}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not draw(task, records, path):
        return "(No picture: no run got as far as 100 episodes.)"
    return f"![{task.env}: mean return against seconds and against environment steps](pictures/{path.name})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    aligned = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, aligned, *rows)]
