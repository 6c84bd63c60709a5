"""A machine without torch or simulators: what it can run, and what it says of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from learner.config import Experiment, RunSettings, learner_settings
from learner.launch import requirements
from learner.launch.requirements import NotInstalled, require

FILE = Path("initial.safetensors")


def experiment(actors: int, optimizer: str = "preconditioned") -> Experiment:
    return Experiment(run=RunSettings(actors=actors), learner=learner_settings({"optimizer": optimizer}))


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize("optimizer", ["preconditioned", "rmsprop_paper", "lion"])
def test_a_bare_machine_serves_actors_of_others(optimizer: str) -> None:
    require(experiment(0, optimizer), FILE)


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize(
    ("asked", "initial", "words"),
    [
        (experiment(2), FILE, "gymnasium; say --actors 0"),
        (experiment(0), None, "gymnasium; say --initial FILE"),
        (experiment(0, "adam"), FILE, "torch; learner.optimizer = adam needs it"),
        (experiment(0, "adamw"), FILE, "adamw needs it; preconditioned, rmsprop_paper, lion do not"),
    ],
)
def test_what_a_bare_machine_cannot_do(asked: Experiment, initial: Path | None, words: str) -> None:
    with pytest.raises(NotInstalled, match=words):
        require(asked, initial)


def test_a_whole_machine_is_asked_nothing() -> None:
    require(experiment(2, "adam"), None)


def test_the_learner_needs_neither_torch_nor_simulators() -> None:
    script = """
import sys
sys.modules.update(dict.fromkeys(["torch", "gymnasium", "ale_py", "Box2D"]))  # an import of None fails
import learner.security.cli, learner.analysis.replay, learner.daemon
import numpy as np
from learner.config import learner_settings
from learner.optim.optimizers import make_optimizer
for name in sys.argv[1:]:
    optimizer = make_optimizer(learner_settings({"optimizer": name}), np.zeros(3, np.float32))
    optimizer.step(np.ones(3, np.float32), 0.1, 1.0)
"""
    command = [sys.executable, "-c", script, *requirements.WITHOUT_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
