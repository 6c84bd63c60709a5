"""θ₀ from a file: read back whole, and refused where it is another experiment's."""

from __future__ import annotations

import base64
import re
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
    made = given(written(tmp_path), "CartPole-v1", 7, TABLE)
    np.testing.assert_array_equal(made.theta, THETA)
    assert (made.layout, made.env, made.observation_size) == (LAYOUT, "CartPole-v1", 4)
    assert given(written(tmp_path), None, 7, TABLE).seed == 7  # a table may leave the environment out


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
        given(written(tmp_path), env, seed, table)


def packed(**settings: object) -> dict[str, str]:
    """Metadata of a file that was made of this table."""
    table = msgspec.msgpack.encode(settings)
    return {"actor_digest": digest_of(table).hex(), "actor_table": base64.b64encode(table).decode()}


def test_a_file_that_has_its_table_names_the_settings_that_differ(tmp_path: Path) -> None:
    path = written(tmp_path, THETA, **packed(hidden=[8], discount=0.9, envs=4))
    ours = msgspec.msgpack.encode({"hidden": [64, 64], "envs": 4})
    differ = (
        "another [actor] table (actor.hidden is [8] in the file and [64, 64] in this experiment; "
        "actor.discount is 0.9 in the file and not set in this experiment): make them again"
    )
    with pytest.raises(InitialError, match=re.escape(differ)):
        given(path, None, 7, ours)
    assert given(path, None, 7, msgspec.msgpack.encode({"envs": 4, "discount": 0.9, "hidden": [8]})).seed == 7


@pytest.mark.parametrize("table", ["AA==", "no base64"])
def test_a_table_that_is_not_the_one_of_the_digest_is_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(InitialError, match="did not write this"):
        read(written(tmp_path, actor_table=table))


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
