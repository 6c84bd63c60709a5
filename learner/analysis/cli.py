"""The commands that look back at runs: which ones, where to, and what a person gets wrong. Knows typer and files.

``compare``, ``plot`` and ``export``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.errors import UserError

if TYPE_CHECKING:
    from learner.analysis.runs import Run

Runs = Annotated[list[Path], typer.Argument(metavar="RUN_DIR", help="Directories of runs, finished or not.")]


class Missing(UserError):
    """A package that a command needs. package: which. extra: of Farflung, that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package, self.extra = package, extra

    def __str__(self) -> str:
        return f"{self.package} is not installed: pip install 'farflung[{self.extra}]'"


def plot(
    run_dirs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PREFIX", help="Default: plot, in the run's directory if there is one only.", show_default=False
        ),
    ] = None,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Bands are 95 % of the mean over seeds instead of all seeds.")
    ] = False,
) -> None:
    """Draw returns, staleness, bytes and speed into PREFIX.png and PREFIX.svg.

    Runs that differ in their seed alone are one line with a band; others are lines of other colours.

    Exit codes: 0 drawn, 2 there is nothing to draw, it cannot be written, or matplotlib is missing.
    """
    runs = _looked_at(run_dirs)
    try:
        from learner.analysis.plot import write
    except ImportError:
        raise Missing("matplotlib", "plots") from None
    from learner.analysis.runs import grouped

    prefix = out or (runs[0].path / "plot" if len(run_dirs) == 1 else Path("plot"))
    if prefix.suffix in (".png", ".svg"):
        prefix = prefix.with_suffix("")
    try:
        written = write(grouped(runs), prefix, "bootstrap" if bootstrap else "range")
    except OSError as error:
        raise _unwritable(error, prefix) from None
    for path in written:
        typer.echo(f"wrote {path}")


def export(
    run_dirs: Runs,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Event files, in a folder for each run.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A table for each run, DIR/RUN.csv.", show_default=False)
    ] = None,
) -> None:
    """Write what runs recorded for other programs; again, it replaces what was written before.

    Exit codes: 0 written, 2 there is nothing to write, it cannot be written, or tensorboard is missing.
    """
    if tensorboard is None and csv is None:
        raise UserError("say where to: --tensorboard DIR, --csv DIR or both")
    runs = _looked_at(run_dirs)
    from learner.analysis.export import write_csv, write_tensorboard

    for run, name in zip(runs, _names(runs), strict=True):
        try:
            if tensorboard is not None:
                typer.echo(f"wrote {write_tensorboard(run, tensorboard / name)} points to {tensorboard / name}")
            if csv is not None:
                typer.echo(f"wrote {write_csv(run, csv / f'{name}.csv')} rows to {csv / f'{name}.csv'}")
        except ImportError:
            raise Missing("tensorboard", "tensorboard") from None
        except OSError as error:
            raise _unwritable(error, tensorboard or csv) from None


def compare(
    run_dirs: Runs,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it there too, a line for each run.", show_default=False),
    ] = None,
) -> None:
    """Put runs side by side: the settings in which they differ, and what came of them.

    Runs that differ in their seed alone are one column: the mean, and the least and the most.

    Exit codes: 0 compared, 2 there is nothing to compare, or the table cannot be written.
    """
    runs = _looked_at(run_dirs)
    from learner.analysis.compare import compared, text, write
    from learner.analysis.runs import grouped

    groups, names = grouped(runs), {run.path: name for run, name in zip(runs, _names(runs), strict=True)}
    typer.echo(text(compared(groups, names)))
    if csv is not None:
        try:
            write(groups, names, csv)
        except OSError as error:
            raise _unwritable(error, csv) from None
        typer.echo(f"wrote {csv}")


def _looked_at(paths: Sequence[Path]) -> list[Run]:
    """The runs that have got somewhere, each directory once; of the others, and of what is special, a note."""
    from learner.analysis.runs import UnreadableRun, load

    runs = []
    for path in dict.fromkeys(path.resolve() for path in paths):
        try:
            runs.append(load(path))
        except UnreadableRun as error:
            if len(paths) == 1:
                raise
            sys.stderr.write(f"note: {error}: left out\n")
    if not runs:
        raise UserError("none of these is the directory of a run")
    for run in runs:
        for remark in run.remarks if len(run.course) else ["it has not recorded any progress yet: left out"]:
            sys.stderr.write(f"note: {run.path}: {remark}\n")
    begun = [run for run in runs if len(run.course)]
    if not begun:
        raise UserError("no progress was recorded yet in any of these runs")
    return begun


def _names(runs: Sequence[Run]) -> list[str]:
    """What each run is called among the others: its directory's name, with the parent's where two have the same."""
    counts = Counter(run.path.name for run in runs)
    names = [run.path.name if counts[run.path.name] == 1 else "-".join(run.path.parts[-2:]) for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"two of these runs would be called {Counter(names).most_common(1)[0][0]}; name them apart")
    return names


def _unwritable(error: OSError, path: Path | None) -> UserError:
    return UserError(f"{error.filename or path}: {error.strerror or error}")
