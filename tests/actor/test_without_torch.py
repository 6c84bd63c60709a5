"""A machine without torch: what its actors do all the same, and what they say of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from actor.initial import initial
from tests.actor.evaluation.rundirs import checkpoint, run_directory, settings_of

WITHOUT = "import sys; sys.modules['torch'] = None\n"  # an import of None fails
COMMAND = f"{WITHOUT}from actor.cli import main; main()"
WORKER = f"""{WITHOUT}
from actor.worker import TrainingWorker
from tests.actor.test_worker import GRADIENTS, List, SMALL, weights_of, welcome
link, worker = List(weights_of(SMALL)), TrainingWorker(welcome(), frozenset())
worker.step(link, 1)
assert len(link.works) == GRADIENTS
import actor.service
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


def test_first_weights_are_made(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[actor]\nenv = "CartPole-v1"\nhidden = [8]\nenvs = 4\n')
    done = python(COMMAND, "init", str(file), "--seed", "3", "--out", str(tmp_path / "theta"))
    assert (done.returncode, done.stderr) == (0, "")
    theta = safetensors.numpy.load_file(tmp_path / "theta")["theta"]
    np.testing.assert_array_equal(theta, initial(settings_of(), 3, ()).theta)


def test_a_worker_trains() -> None:
    done = python(WORKER)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_is_evaluated_and_recorded(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoints", 1, {"theta": run_directory(tmp_path)})
    done = python(COMMAND, "evaluate", str(tmp_path), "--episodes", "2")
    assert (done.returncode, done.stderr) == (0, "")
    done = python(COMMAND, "watch", str(tmp_path), "--out", str(tmp_path / "a.mp4"), "--max-steps", "3")
    assert done.returncode == 0, done.stderr
    assert "  4 frames" in done.stdout


@pytest.mark.parametrize("command", ["check", "init"])
def test_a_network_that_needs_it_is_refused(tmp_path: Path, command: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[actor]\nenv = "CartPole-v1"\nmemory = "lstm"\n')
    done = python(COMMAND, command, str(file))
    words = "error: not installed here: torch; actor.memory = 'lstm' needs it, an mlp without a memory does not\n"
    assert (done.returncode, done.stderr) == (2, words)
