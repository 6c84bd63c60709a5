"""The experiments that come with Farflung, by name: both commands take them. Knows where they are installed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import UserError, nearest


class UnknownExperiment(UserError):
    """No shipped experiment has this name. known: those that have one."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(name, self.known)

    def __str__(self) -> str:
        closest = nearest(self.name, self.known)
        hint = f"; did you mean {closest}?" if closest else ""
        return f"no experiment is named {self.name!r}; there are {', '.join(self.known) or 'none'}{hint}"


def experiment_file(text: str) -> Path:
    """What a person means by EXPERIMENT: a TOML file, or the name of one of these. Raises UnknownExperiment."""
    return Path(text) if text.endswith(".toml") or os.sep in text else named(text)


def named(name: str) -> Path:
    """The shipped experiment of that name: package data in a wheel, deploy/experiments in a checkout."""
    root = Path(__file__).resolve().parents[1]
    folders = (root / "learner" / "experiments", root / "deploy" / "experiments")
    known = {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}
    if name not in known:
        raise UnknownExperiment(name, known)
    return known[name]
