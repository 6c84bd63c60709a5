"""Modules of a user's own that --allow-module names, found in the working directory too. Knows the import system.

Daemons and their children run without the working directory on their path: a user's actor.py or torch.py there is none
of ours. What is allowed by name is looked for there last, and nothing else is.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from protocol.errors import SettingError, UserError

OURS = ("actor", "learner", "protocol")
HOUSE = Path(__file__).resolve().parents[2]
INSTALLED = "/site-packages/"  # where a user's own code may be, and that of others who were called or look on
# Whose lines are not a user's own.
LIBRARIES = ("/torch/", "/gymnasium/", "<frozen ", *(f"{HOUSE / package}{os.sep}" for package in OURS))


class ModuleRefused(UserError):
    """A module that --allow-module cannot mean. name: of it. cause: why."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(name, cause)
        self.name, self.cause = name, cause

    def __str__(self) -> str:
        return f"--allow-module {self.name}: {self.cause}"


class Beside:
    """A finder for these top-level modules in one folder; its place is behind all others."""

    def __init__(self, folder: Path, names: frozenset[str]) -> None:
        self.folder, self.names = folder, names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks, for a top-level module."""
        return PathFinder.find_spec(name, [str(self.folder)]) if path is None and name in self.names else None


def allow(names: Iterable[str]) -> frozenset[str]:
    """Lets these modules, with their packages, be found in the working directory. Returns the names.

    Raises ModuleRefused for one of ours, and for one that is in the working directory and elsewhere too: which of them
    is meant nobody could tell.
    """
    allowed = frozenset(names)
    tops = frozenset(name.partition(".")[0] for name in allowed)
    if any(isinstance(finder, Beside) and tops <= finder.names for finder in sys.meta_path):
        return allowed  # an environment may have changed the working directory meanwhile
    beside = Beside(Path.cwd(), tops)
    for name in sorted(tops):
        _check(name, beside)
    sys.meta_path.append(beside)
    return allowed


def _check(name: str, beside: Beside) -> None:
    if name in OURS:
        raise ModuleRefused(name, "this is a package of Farflung itself; give yours another name")
    here = beside.find_spec(name)
    if here is None or here.origin is None:  # a folder that is no package is none
        return
    elsewhere = _elsewhere(name)
    if elsewhere is not None and Path(elsewhere).resolve() != Path(here.origin).resolve():
        raise ModuleRefused(name, f"there is {here.origin}, and {elsewhere} has the same name; rename yours")


def _elsewhere(name: str) -> str | None:
    """Where it would be found without the working directory."""
    if name in sys.builtin_module_names:
        return "a module of Python itself"
    found = PathFinder.find_spec(name)
    return None if found is None else found.origin


def import_allowed(module: str, allowed: frozenset[str], setting: str = "actor.env") -> ModuleType:
    """Imports a module that the machine's owner named, or one of a package that he named. Raises UserError where it is
    none of them, or cannot be: whatever it raises, and if it asks to exit.

    setting: what names the module.
    """
    if not any(module == name or module.startswith(f"{name}.") for name in allowed):
        raise UserError(
            f"{setting} asks to import module {module!r}, which this machine does not allow; "
            f"--allow-module {module} would"
        )
    allow(allowed)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = f"{setting} names module {module!r}, which cannot be imported: {error}"
        missing = (error.name or "").partition(".")[0]
        if missing and missing not in allowed and PathFinder.find_spec(missing, [str(Path.cwd())]):
            problem += f"; it is in the working directory, and --allow-module {missing} lets it be found there"
        raise UserError(problem) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UserError(f"{setting} names module {module!r}, which {raised(error)}") from error


def raised(error: BaseException) -> str:
    """What a user's code raised and where, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not any(part in frame.filename for part in LIBRARIES)]
    theirs = [frame for frame in theirs if INSTALLED not in frame.filename] or theirs
    place = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"raised SyntaxError: {error.msg} ({Path(error.filename).name}, line {error.lineno})"
    return f"raised {type(error).__name__}: {' '.join(str(error).split()) or 'without a word'}{place}"


def registered(group: str) -> list[str]:
    """Names that installed packages have registered as entry points of ``group``, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def load(setting: str, value: str, allowed: frozenset[str], group: str) -> Any:
    """What a setting names by ``MODULE:NAME``, from a module that this machine allows; or by a plain name, which an
    installed package has registered as an entry point of ``group``: who installed it has allowed it.

    Raises UserError, SettingError where there is no such thing.
    """
    module, colon, name = value.partition(":")
    if colon:
        found = getattr(import_allowed(module, allowed, setting), name, None)
        if found is None:
            raise SettingError(setting, value, f"module {module} has no {name!r}")
        return found
    registered = {point.name: point for point in entry_points(group=group)}
    if value not in registered:
        names = f"; installed packages register {', '.join(sorted(registered))}" if registered else ""
        raise SettingError(setting, value, f"one of your own is MODULE:NAME with --allow-module MODULE{names}")
    try:
        return registered[value].load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{setting} names {registered[value].value!r}, which cannot be loaded: {error}") from error
