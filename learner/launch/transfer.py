"""Which layers of another run's θ a new run begins with, by name and shape. Pure. Knows arrays and names, not files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.launch.initial import Initial, InitialError
from protocol.layout import Layout
from protocol.manifest import Origin
from protocol.moments import Moments

# Rows that another run's statistics count for at most: after as many of its own the new run's weigh half. A policy is
# used to its statistics, so they may not jump with the first rollouts, which are thousands of rows.
MOST_ROWS = 100_000
NAMED, LISTED = 5, 20  # layers in a refusal; names where a pattern matches none
OPTIMIZER = "optimizer."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to begin with. path: a run's directory or a checkpoint. best: of a directory, the best evaluated one.

    only, leave: patterns of layers, as in a shell; without any all layers have to fit. optimizer: its state, too.
    """

    path: Path
    best: bool = False
    only: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    optimizer: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Another run's checkpoint. path: its file. version: of its θ. arrays: as ``Parameters.checkpoint_arrays``.

    optimizer: the name of the one that it was trained with; empty where nobody asked.
    """

    path: Path
    run: str
    version: int
    layout: Layout
    arrays: dict[str, NDArray[Any]]
    optimizer: str = ""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a run begins with. theta: float32 [P], owned. arrays: of statistics and optimizer, to be restored beside it.

    origin: for the manifest. statistics: in words, what became of them.
    """

    theta: NDArray[np.float32]
    arrays: dict[str, NDArray[Any]]
    origin: Origin
    statistics: str

    def told(self) -> dict[str, object]:
        """Fields of the event ``initial_weights``."""
        origin = self.origin
        return {
            "from": origin.path,
            "version": origin.version,
            "copied_layers": origin.copied_layers,
            "copied_parameters": origin.copied_parameters,
            "left_layers": len(origin.left),
            "left": some(origin.left, NAMED),
            "statistics": self.statistics,
            "optimizer": origin.optimizer,
        }


def fit(first: Initial, source: Source, wanted: Wanted, optimizer: str) -> Fitted:
    """θ₀ with the source's layers in the places of those of the same name. first, optimizer: the new run's own.

    Raises InitialError where layers do not fit and no pattern leaves them out, where a pattern matches none, where
    nothing would be copied, and for an optimizer's state that is another's.
    """
    here, there = _shapes(first.layout), _shapes(source.layout)
    _check_patterns(wanted, sorted(here.keys() | there.keys()))
    differing = [name for name in [*here, *(there.keys() - here.keys())] if here.get(name) != there.get(name)]
    if differing and not (wanted.only or wanted.leave):
        raise InitialError(wanted.path, _misfit(differing, here, there))
    copied = [name for name in here if name not in differing and _chosen(name, wanted)]
    if not copied:
        raise InitialError(wanted.path, "no layer would be copied: of what the patterns leave none has the same shape")
    theta = np.array(first.theta, np.float32)
    new, old = first.layout.slices(), source.layout.slices()
    for name in copied:
        theta[new[name]] = source.arrays["theta"][old[name]]
    moments, statistics = _moments(source.arrays, first.observation_size)
    state = _optimizer(source, first.layout, len(copied), optimizer) if wanted.optimizer else {}
    origin = Origin(
        path=str(source.path),
        run=source.run,
        version=source.version,
        only=wanted.only,
        leave=wanted.leave,
        copied_layers=len(copied),
        copied_parameters=sum(new[name].stop - new[name].start for name in copied),
        left=tuple(name for name in here if name not in copied),
        statistics_rows=0 if moments is None else moments.count,
        optimizer=wanted.optimizer,
    )
    return Fitted(theta, _kept(moments) | state, origin, statistics)


def some(names: Sequence[str], most: int) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, and {len(names) - most} more"


def _shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    return {entry.name: entry.shape for entry in layout.entries}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _chosen(name: str, wanted: Wanted) -> bool:
    return (not wanted.only or _matches(name, wanted.only)) and not _matches(name, wanted.leave)


def _check_patterns(wanted: Wanted, names: Sequence[str]) -> None:
    for flag, patterns in (("only", wanted.only), ("except", wanted.leave)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                cause = f"--initial-{flag} {pattern!r} matches no layer; there are {some(names, LISTED)}"
                raise InitialError(wanted.path, cause)


def _misfit(differing: Sequence[str], here: dict[str, tuple[int, ...]], there: dict[str, tuple[int, ...]]) -> str:
    """In which layers they differ, and how to leave those out."""
    words = [f"{name} is {_shape(here.get(name))} here and {_shape(there.get(name))} there" for name in differing]
    count = "1 layer differs" if len(differing) == 1 else f"{len(differing)} layers differ"
    if len(differing) == len(here.keys() | there.keys()):
        return f"no layer fits: {some(words, NAMED)}"
    flags = " ".join(f"--initial-except '{pattern}'" for pattern in _leaving(differing, [*here, *there]))
    return f"{count}: {some(words, NAMED)}; {flags} would begin without"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _leaving(differing: Sequence[str], names: Sequence[str]) -> list[str]:
    """Patterns that match these: of all that is under one dotted path where all of it differs, or they are many."""
    parents = dict.fromkeys(name.rpartition(".")[0] for name in differing)
    found: list[str] = []
    for parent in parents:
        beneath = {name for name in names if name.rpartition(".")[0] == parent}
        own = [name for name in differing if name in beneath]
        whole = parent and (len(own) == len(beneath) or (len(own) > NAMED and len(parents) > 1))
        found += [f"{parent}.*"] if whole and len(own) > 1 else own
    return found


def _moments(arrays: dict[str, NDArray[Any]], size: int) -> tuple[Moments | None, str]:
    """The statistics that are taken along, and what became of them in words. size: numbers that the new run keeps."""
    if "observations.count" not in arrays or not int(arrays["observations.count"]):
        return None, "there are none" if size else "none are kept"
    count, mean, m2 = int(arrays["observations.count"]), arrays["observations.mean"], arrays["observations.m2"]
    if len(mean) != size:
        return None, f"left: of {len(mean)} numbers there, {size} here"
    kept = min(count, MOST_ROWS)
    return Moments(kept, mean.copy(), m2 * (kept / count)), f"taken: {count} rows, which count as {kept}"


def _kept(moments: Moments | None) -> dict[str, NDArray[Any]]:
    if moments is None:
        return {}
    count = np.array(moments.count, np.int64)
    return {"observations.count": count, "observations.mean": moments.mean, "observations.m2": moments.m2}


def _optimizer(source: Source, layout: Layout, copied: int, own: str) -> dict[str, NDArray[Any]]:
    """Its state's arrays. own: the new run's optimizer. Raises InitialError."""
    cause = None
    state = {name: array for name, array in source.arrays.items() if name.startswith(OPTIMIZER)}
    if source.optimizer != own:
        cause = f"its optimizer is {source.optimizer}, and this run's is {own}"
    elif copied < len(layout.entries) or layout != source.layout:
        cause = "its optimizer's state is of all its layers, and not all of them are copied"
    elif own == "preconditioned":
        cause = "with learner.optimizer = 'preconditioned' actors keep the moments, and no checkpoint has any"
    elif not state:
        cause = "there is no state in it: the best checkpoint is written without, and sgd without momentum keeps none"
    if cause is not None:
        raise InitialError(source.path, f"--initial-optimizer: {cause}")
    return state
