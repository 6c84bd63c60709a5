"""What result.json says, of states that tests wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learner.events import CheckpointWritten
from learner.launch.run_directory import RunDirectory
from learner.monitoring.result import host, result_of, versions
from tests.learner.books import learner_state, trained


def test_a_result_tells_what_was_saved_and_how_it_ended(tmp_path: Path) -> None:
    """As the state machine has it, at the end of a run that reaches its target and cannot save what reached it."""
    state = learner_state(trained([480.0] * 100))
    state.shutdown.solved = True
    state.saving.written(CheckpointWritten(2, tmp_path), 0.0)
    told = result_of(state, now=1.0, started_at=0.0, exit_code=1)
    assert (told["version"], told["checkpoint_version"], told["exit_code"]) == (3, 2, 1)


def test_the_result_has_every_promised_key(tmp_path: Path) -> None:
    state = learner_state(trained([480.0] * 100))
    state.training_since, state.shutdown.solved = 10.0, True
    told = result_of(state, now=15.0, started_at=8.0, exit_code=0)
    assert told["return_mean_100"] == 480.0
    assert (told["wall_s"], told["total_s"]) == (5.0, 7.0)
    assert told["bytes_per_gradient"] == 125.0
    assert told["compression"] == pytest.approx(0.32)  # ten parameters make forty bytes
    assert (told["lag_mean_updates"], told["lag_max_updates"]) == (pytest.approx(7 / 3), 5)
    assert (told["target_version"], told["evaluations"], told["evaluated_best_mean"]) == (None, 0, None)
    promised = {"env", "seed", "env_steps", "version", "parameters", "received_bytes", "sent_bytes", "versions", "host"}
    assert told.keys() >= promised | {"solved", "rulings"}
    with RunDirectory.prepare(tmp_path, resume=False) as directory:
        directory.write_result(told)
    assert json.loads((tmp_path / "result.json").read_text()) == told


def test_a_result_of_nothing() -> None:
    told = result_of(learner_state(), now=1.0, started_at=0.0, exit_code=0)
    assert (told["return_mean_100"], told["compression"], told["wall_s"]) == (None, None, 0.0)
    assert (told["exit_code"], told["checkpoint_version"]) == (0, None)


def test_versions_and_host_are_plain() -> None:
    assert {"python", "torch", "numpy", "pyzmq", "farflung"} <= versions().keys()
    assert json.dumps(host())
