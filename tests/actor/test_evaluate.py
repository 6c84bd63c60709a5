"""Scoring: which episodes are counted, the statistics of them, and the newest checkpoint that is whole."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from actor.config import ActorSettings
from actor.envs import Simulators, Step, make_simulators
from actor.evaluate import Unreadable, evaluate, newest, play, quotas, read_checkpoint, summary
from actor.initial import initial
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Manifest, digest_of

TABLE = {"env": "CartPole-v1", "hidden": [8], "envs": 4}


class Clockwork(Simulators):
    """Environment ``row`` finishes an episode of return ``row`` every ``row + 1`` steps."""

    def __init__(self, count: int) -> None:
        self.count, self.now = count, 0

    def reset(self, seed: int) -> np.ndarray:
        return np.zeros((self.count, 1), np.float32)

    def step(self, actions: np.ndarray) -> Step:
        self.now += 1
        done = np.array([self.now % (row + 1) == 0 for row in range(self.count)])
        zeros = np.zeros(self.count, np.float32)
        episodes = [(float(row), row + 1) for row in np.flatnonzero(done).tolist()]
        halves = np.arange(self.count) % 2 == 0  # some terminate, some are truncated
        observations = np.zeros((self.count, 1), np.float32)
        return Step(observations, zeros, done & halves, done & ~halves, np.ones(self.count, bool), None, episodes)


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros(len(observations), np.int64)


@given(st.integers(1, 300), st.integers(1, 64))
def test_quotas_are_even_and_whole(episodes: int, environments: int) -> None:
    made = quotas(episodes, environments)
    assert made.sum() == episodes
    assert made.max() - made.min() <= 1


def test_short_episodes_are_not_counted_more_often() -> None:
    finished = play(Clockwork(4), still, quotas(10, 4), seed=0)
    assert sorted(score for score, _ in finished) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_a_greedy_policy_is_repeatable_and_each_episode_counts_once() -> None:
    def push(observations: np.ndarray) -> np.ndarray:
        return (observations[:, 2] > 0).astype(np.int64)

    runs = []
    for _ in range(2):
        simulators = make_simulators(ActorSettings(env="CartPole-v1", envs=3), frozenset())
        runs.append(play(simulators, push, quotas(7, 3), seed=5))
        simulators.close()
    assert runs[0] == runs[1]
    assert len(runs[0]) == 7
    assert all(score == length for score, length in runs[0])  # CartPole pays one for each step


def test_statistics_of_four_episodes() -> None:
    score = summary("E", 9, [(1.0, 10), (2.0, 10), (3.0, 20), (6.0, 20)])
    assert (score.mean, score.min, score.max, score.length_mean) == (3.0, 1.0, 6.0, 15.0)
    assert score.std == pytest.approx(math.sqrt(14 / 3))
    assert score.ci95 == pytest.approx(3.182 * score.std / 2)  # Student's t with three degrees of freedom


def test_one_episode_says_nothing_about_the_spread() -> None:
    score = summary("E", 0, [(5.0, 1)])
    assert (score.std, score.ci95) == (0.0, math.inf)


def test_many_episodes_come_near_the_normal_quantile() -> None:
    score = summary("E", 0, [(float(n % 2), 1) for n in range(1000)])
    assert score.ci95 == pytest.approx(1.96 * score.std / math.sqrt(1000), rel=0.01)


def checkpoint(folder: Path, version: int, arrays: dict[str, np.ndarray], spoil: bool = False) -> Path:
    """A file as the learner writes it."""
    header = msgspec.json.encode({"format": 1, "manifest": "", "version": version, "epoch": 1, "counters": {}}).decode()
    digest = hashlib.blake2b(header.encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    if spoil:
        arrays = {**arrays, "theta": arrays["theta"] + 1}
    path = folder / f"checkpoint-{version:012d}.safetensors"
    folder.mkdir(exist_ok=True)
    path.write_bytes(safetensors.numpy.save(arrays, {"farflung": header, "digest": digest.hexdigest()}))
    return path


def run_directory(folder: Path, **changes: object) -> np.ndarray:
    """A manifest for ``TABLE``; returns θ₀."""
    table = msgspec.msgpack.encode({**TABLE, **changes})
    made = initial(msgspec.msgpack.decode(table, type=ActorSettings), 1, ())
    manifest = Manifest(
        run="r",
        env="CartPole-v1",
        seed=1,
        layout=made.layout,
        observation_size=made.observation_size,
        actor_table=table,
        actor_digest=digest_of(table),
        created="today",
    )
    (folder / "manifest.json").write_bytes(manifests.encode(manifest))
    return made.theta


def test_a_run_is_scored(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    checkpoint(tmp_path / "checkpoints", 12, {"theta": theta})
    score = evaluate(tmp_path, 6, 0, ())
    assert (score.env, score.version, score.episodes) == ("CartPole-v1", 12, 6)
    assert 5 < score.mean < 500
    assert score == evaluate(tmp_path, 6, 0, ())


def test_observations_are_normalised_as_in_training(tmp_path: Path) -> None:
    theta = run_directory(tmp_path, normalize_observations=True)
    scores = []
    for version, mean in ((1, 0.0), (2, 100.0)):
        moments = {
            "observations.count": np.array(10, np.int64),
            "observations.mean": np.full(4, mean),
            "observations.m2": np.full(4, 10.0),
        }
        checkpoint(tmp_path / "checkpoints", version, {"theta": theta, **moments})
        scores.append(evaluate(tmp_path, 8, 0, ()).mean)
    assert scores[0] != scores[1]  # the second sees the clip on every axis and always pushes one way
    assert scores[1] < 12


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    theta = np.arange(3, dtype=np.float32)
    checkpoint(tmp_path, 1, {"theta": theta})
    checkpoint(tmp_path, 2, {"theta": theta})
    checkpoint(tmp_path, 3, {"theta": theta}, spoil=True)
    (tmp_path / "checkpoint-000000000004.safetensors").write_bytes(b"short")
    (tmp_path / "checkpoint.tmp").write_bytes(b"half written")
    assert newest(tmp_path).version == 2


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="there is no checkpoint yet"):
        newest(tmp_path / "checkpoints")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 8, safetensors.numpy.save({"theta": np.zeros(1)})])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Unreadable, match="not a checkpoint"):
        read_checkpoint(tmp_path / "file")


def test_a_directory_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"manifest\.json: No such file"):
        evaluate(tmp_path, 1, 0, ())


def test_another_network_is_refused(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    manifest = manifests.decode((tmp_path / "manifest.json").read_bytes())
    table = msgspec.msgpack.encode({**TABLE, "hidden": [9]})
    changed = msgspec.structs.replace(manifest, actor_table=table, actor_digest=digest_of(table))
    (tmp_path / "manifest.json").write_bytes(manifests.encode(changed))
    checkpoint(tmp_path / "checkpoints", 1, {"theta": theta})
    with pytest.raises(UserError, match="network"):
        evaluate(tmp_path, 1, 0, ())
