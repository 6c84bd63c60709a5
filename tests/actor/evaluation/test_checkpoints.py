"""Which file of a run directory is read, and what is no checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from actor.config import read_settings
from actor.evaluation.checkpoints import Unreadable, best, newest, read_checkpoint, read_manifest
from protocol.manifest import digest_of
from tests.actor.evaluation.rundirs import checkpoint, moments_of, run_directory

THETA = np.arange(3, dtype=np.float32)


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, {"theta": THETA})
    checkpoint(tmp_path, 2, {"theta": THETA})
    checkpoint(tmp_path, 3, {"theta": THETA}, spoil=True)
    (tmp_path / "checkpoint-000000000004.safetensors").write_bytes(b"short")
    (tmp_path / "checkpoint.tmp").write_bytes(b"half written")
    assert newest(tmp_path).version == 2


@pytest.mark.parametrize(
    ("experiment", "envs"),
    [('[run]\nseed = 1\n[actor]\nenv = "CartPole-v1"\nhidden = [8]\nenvs = 2\n', 2), ("[actor", 4), (None, 4)],
)
def test_a_run_is_what_its_last_life_made_of_it(tmp_path: Path, experiment: str | None, envs: int) -> None:
    run_directory(tmp_path)
    if experiment is not None:
        (tmp_path / "experiment.toml").write_text(experiment)
    manifest = read_manifest(tmp_path)
    assert read_settings(manifest.actor_table).envs == envs
    assert manifest.actor_digest == digest_of(manifest.actor_table)


def test_the_best_is_a_file_of_its_own(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9, {"theta": THETA})
    checkpoint(tmp_path, 4, {"theta": THETA, **moments_of(2)}, name="best.safetensors")
    assert newest(tmp_path).version == 9
    found = best(tmp_path)
    assert found.version == 4
    assert found.moments is not None
    assert found.moments.count == 10


def test_a_run_that_nobody_evaluated_has_no_best(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9, {"theta": THETA})
    with pytest.raises(Unreadable, match=r"best\.safetensors: there is none: nobody has evaluated the run"):
        best(tmp_path)


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="there is no checkpoint yet"):
        newest(tmp_path / "checkpoints")


def test_a_directory_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"no run's directory: it has no manifest"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 8, safetensors.numpy.save({"theta": np.zeros(1)})])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Unreadable, match="not a checkpoint"):
        read_checkpoint(tmp_path / "file")
