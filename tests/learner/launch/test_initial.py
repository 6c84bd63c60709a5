"""θ₀ from a file: read back whole, and refused where it is another experiment's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from learner.launch.initial import InitialError, given, read
from protocol.manifest import digest_of
from tests.learner.books import LAYOUT, TABLE

THETA = np.arange(LAYOUT.length, dtype=np.float32)
METADATA = {
    "layout": msgspec.json.encode(LAYOUT).decode(),
    "env": "CartPole-v1",
    "observation_size": "4",
    "seed": "7",
    "actor_digest": digest_of(TABLE).hex(),
}


def written(folder: Path, theta: np.ndarray = THETA, **metadata: str) -> Path:
    path = folder / "initial.safetensors"
    safetensors.numpy.save_file({"theta": theta}, path, {**METADATA, **metadata})
    return path


def test_a_file_of_this_experiment_is_taken(tmp_path: Path) -> None:
    made = given(written(tmp_path), "CartPole-v1", 7, digest_of(TABLE))
    np.testing.assert_array_equal(made.theta, THETA)
    assert (made.layout, made.env, made.observation_size) == (LAYOUT, "CartPole-v1", 4)
    assert given(written(tmp_path), None, 7, digest_of(TABLE)).seed == 7  # a table may leave the environment out


@pytest.mark.parametrize(
    ("env", "seed", "table", "words"),
    [
        ("Acrobot-v1", 7, TABLE, "they are of CartPole-v1, and this experiment's environment is Acrobot-v1"),
        ("CartPole-v1", 8, TABLE, "they follow from seed 7, and this run's is 8"),
        ("CartPole-v1", 7, b"\x80", r"another \[actor\] table"),
    ],
)
def test_another_experiment_s_is_refused(tmp_path: Path, env: str, seed: int, table: bytes, words: str) -> None:
    with pytest.raises(InitialError, match=words):
        given(written(tmp_path), env, seed, digest_of(table))


@pytest.mark.parametrize(
    ("theta", "metadata"),
    [
        (np.zeros(9, np.float32), {}),
        (np.zeros(10, np.float64), {}),
        (THETA, {"layout": "{}"}),
        (THETA, {"observation_size": "many"}),
        (THETA, {"seed": ""}),
    ],
    ids=["another length", "another type", "no layout", "no size", "no seed"],
)
def test_what_actor_init_did_not_write(tmp_path: Path, theta: np.ndarray, metadata: dict[str, str]) -> None:
    path = written(tmp_path, theta, **metadata)
    with pytest.raises(InitialError, match=f"initial parameters {path}: `actor init` did not write this"):
        read(path)


def test_files_that_say_nothing_about_themselves(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"theta": THETA}, tmp_path / "bare")
    (tmp_path / "half").write_bytes(written(tmp_path).read_bytes()[:100])
    for name in ("bare", "half"):
        with pytest.raises(InitialError, match="did not write this"):
            read(tmp_path / name)
    with pytest.raises(InitialError, match=r"absent: No such file or directory$"):
        read(tmp_path / "absent")
