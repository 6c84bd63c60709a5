"""Run directories for who looks back at them: what ran, how far it came, which belong together. Knows files.

Nothing is written and no lock is taken, so a run may be looked at while it goes on.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from learner.analysis.curves import Course, comparable, differences, read
from learner.config import RunSettings, learner_settings
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Manifest
from protocol.settings import flat
from protocol.settings import read as convert

WIDEST = 24  # characters of a value in a label; `learner compare` has more of it
DEFAULTS = "defaults"  # what a group is called that sets nothing of what others set


class UnreadableRun(UserError):
    """A directory that cannot be looked at. path: which. cause: why."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"run directory {self.path}: {self.cause}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run. experiment: its tables as plain values, and where it began with weights of another a table [initial].

    result: of its newest life, None while that goes on.
    """

    path: Path
    env: str
    seed: int
    target: float | None
    experiment: dict[str, dict[str, Any]]
    created: str | None
    course: Course
    result: dict[str, Any] | None

    @property
    def remarks(self) -> list[str]:
        """What a reader of its curve should know."""
        found = []
        if self.result is None:
            found.append("it has not ended, or its learner was killed: shown as far as it came")
        if self.course.lives > 1:
            found.append(f"{self.course.lives} lives: seconds are added up, the time between them is left out")
        if self.course.torn:
            found.append(f"{self.course.torn} torn lines of progress.jsonl were left out")
        if self.course.few:
            found.append("fewer than 100 episodes: the mean is of as many as there were")
        return found


def load(path: Path) -> Run:
    """What stands in a run's directory. Raises UnreadableRun where there is no run in it."""
    if not path.is_dir():
        raise UnreadableRun(path, "it is a file" if path.exists() else "there is no such directory")
    experiment = _experiment(path)
    manifest = _manifest(path)
    course = read(_bytes(path, "progress.jsonl", "nothing was recorded yet"))
    run = experiment.get("run", {})
    env = str(experiment.get("actor", {}).get("env", "")) if manifest is None else manifest.env
    target = run.get("until_return")
    return Run(
        path=path,
        env=env or "unknown environment",
        seed=int(run.get("seed", 0)),
        target=None if target is None else float(target),
        experiment=experiment | _initial(manifest),
        created=None if manifest is None else manifest.created,
        course=course,
        result=_result(path),
    )


def _experiment(path: Path) -> dict[str, dict[str, Any]]:
    data = _bytes(path, "experiment.toml", "is it a run directory?")
    try:
        return _filled(tomllib.loads(data.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadableRun(path, f"experiment.toml: {error}") from None


def _filled(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """With the defaults of settings that an earlier version did not have, and under the names of today."""
    with contextlib.suppress(UserError, AttributeError, TypeError):  # another version's: as it stands
        filled = {
            "run": flat(convert("run", RunSettings, tables.get("run", {}), kept=True)),
            "learner": flat(learner_settings(tables.get("learner", {}), kept=True)),
        }
        return tables | {name: _plain(table) for name, table in filled.items()}
    return tables


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """As TOML has it: what is unset or empty is not there."""
    plain: dict[str, Any] = msgspec.to_builtins(table)
    return {name: value for name, value in plain.items() if value is not None and value != ""}


def _manifest(path: Path) -> Manifest | None:
    with contextlib.suppress(OSError, UserError):
        return manifests.decode((path / "manifest.json").read_bytes())
    return None


def _initial(manifest: Manifest | None) -> dict[str, dict[str, Any]]:
    """What it began with, as a setting: another run's weights make another experiment."""
    if manifest is None or manifest.initial is UNSET:
        return {}
    origin = manifest.initial
    file = Path(origin.path)
    name = file.parent.parent.name if file.parent.name == "checkpoints" else file.name
    chosen = {"only": [*origin.only], "except": [*origin.leave], "optimizer": origin.optimizer}
    return {
        "initial": {"weights": f"{name}@{origin.version}", **{key: value for key, value in chosen.items() if value}}
    }


def _result(path: Path) -> dict[str, Any] | None:
    """result.json, unless it is of an earlier life than the newest."""
    with contextlib.suppress(OSError, msgspec.DecodeError, ValueError):
        result = msgspec.json.decode((path / "result.json").read_bytes(), type=dict[str, Any])
        epoch = int((path / "epoch").read_text())
        return result if result.get("epoch") == epoch else None
    return None


def _bytes(path: Path, name: str, hint: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError:
        raise UnreadableRun(path, f"it has no {name}; {hint}") from None
    except OSError as error:
        raise UnreadableRun(path, f"{name}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one experiment, alike but for the seed. label: what tells it from the other groups."""

    label: str
    runs: tuple[Run, ...]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """The groups, in the order in which their first runs were named."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(comparable(run.experiment, run.env), []).append(run)
    told = differences([members[0].experiment for members in found.values()])
    several = len({run.env for run in runs}) > 1
    return [
        Group(_label(members[0].env, words, several), tuple(members))
        for members, words in zip(found.values(), told, strict=True)
    ]


def _label(env: str, words: Mapping[str, str | None], several: bool) -> str:
    """The environment where it tells them apart, then the settings that do."""
    telling = [(key, word) for key, word in words.items() if key != "actor.env"]
    settings = dict(sorted(telling, key=lambda each: each[1] is None))  # what is set tells more
    each = [f"{key} unset" if word is None else f"{key}={_cut(word)}" for key, word in settings.items()]
    shown = ", ".join(each[:3]) + (" ..." if len(each) > 3 else "")
    if settings and all(word is None for word in settings.values()):
        shown = DEFAULTS
    return ": ".join(part for part in (env if several or not shown else "", shown) if part)


def _cut(word: str) -> str:
    return word if len(word) <= WIDEST else f"{word[: WIDEST - 3]}..."
