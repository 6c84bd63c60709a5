"""What is other in ``[learner]`` of a run that goes on, and what the state of its optimizer forbids. Knows files.

To be asked before a life is written down: a setting that is refused must not stand in the run's directory.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import safetensors
from msgspec import structs

from learner.config import SGD, Experiment, LearnerSettings
from learner.durability import checkpoint as checkpoints
from learner.durability import journal as journals
from learner.launch.transfer import OPTIMIZER
from learner.optim.optimizers import state_names
from protocol.errors import SettingError
from protocol.manifest import Changes
from protocol.settings import choices, flat

ANNEAL_STEPS = "anneal_steps"


def learner_changes(before: Experiment, after: Experiment) -> Changes:
    """Settings of ``[learner]`` that differ, with both values, None where one reads none.

    How long the rate falls is none of them where that is as long as the run goes, before and after: who changes
    run.until_steps knows.
    """
    one, other = flat(before.learner), flat(after.learner)
    names = [name for name in one | other if one.get(name) != other.get(name)]
    if one.get(ANNEAL_STEPS) == before.run.until_steps and other.get(ANNEAL_STEPS) == after.run.until_steps:
        names = [name for name in names if name != ANNEAL_STEPS]
    return {f"learner.{name}": (one.get(name), other.get(name)) for name in names}


def require_state(folder: Path, journal: Path, before: Experiment | None, learner: LearnerSettings) -> None:
    """Raises SettingError where the optimizer that is asked for cannot go on from what the run's checkpoints hold.

    folder: of these. before: the experiment of the life before, None where that cannot be read.
    """
    held = _held(folder, journal)
    if held is None or held == {*state_names(learner.optimizer)}:
        return
    chosen = learner.optimizer
    key: str = "learner.optimizer"
    value: str | float = chosen.name
    if isinstance(chosen, SGD) and held in ({*state_names(SGD())}, {*state_names(SGD(momentum=0.5))}):
        key, value = "learner.momentum", chosen.momentum
    its = " or ".join(_holders(held)) or "an optimizer that this version does not have"
    had = "" if before is None else f", and had {before.learner.optimizer.name!r} last"
    rest = f"write that, or begin another run with its weights: --initial {folder.parent}"
    raise SettingError(key, value, f"the run goes on from the optimizer state of {its}{had}: {rest}")


def _held(folder: Path, journal: Path) -> set[str] | None:
    """Names of the optimizer's arrays, as the newest file says that can be read; None where there is none."""
    found = [*checkpoints.listed(folder), *journals.bases(journal).items()]
    for _, path in sorted(found, key=lambda each: each[0], reverse=True):
        with (
            contextlib.suppress(OSError, ValueError, safetensors.SafetensorError),
            safetensors.safe_open(path, framework="numpy") as file,
        ):
            return {name.removeprefix(OPTIMIZER) for name in [*file.keys()] if name.startswith(OPTIMIZER)}
    return None


def _holders(held: set[str]) -> list[str]:
    """In words, the optimizers that keep exactly these arrays."""
    words = []
    for name, kind in choices(LearnerSettings, "optimizer").items():
        made = kind()
        if isinstance(made, SGD):
            words += [f"{name!r} with learner.momentum = 0"] if held == {*state_names(made)} else []
            made = structs.replace(made, momentum=0.5)
            words += [f"{name!r} with learner.momentum above 0"] if held == {*state_names(made)} else []
        elif held == {*state_names(made)}:
            words.append(repr(name))
    return words
