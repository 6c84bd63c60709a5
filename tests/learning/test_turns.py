"""The lag that the staleness study injects: asked for, it is what the learner's own mathematics finds."""

from __future__ import annotations

import pytest

from learner.launch.experiment_file import load
from learner.optim.drift import Ring
from learner.progress import LAG_BUCKETS
from protocol.shipped import named
from tests.learning.turns import Run, begin, train

LAG = 3
SMALL = [
    "run.until_steps=400",
    "actor.envs=2",
    "actor.local_steps=1",
    "actor.rollout_steps=8",
    "actor.passes=2",
    "actor.hidden=[8]",
    "learner.staleness_rule=gap",
]


def late(actors: int, *settings: str) -> Run:
    return train(load(named("cartpole"), [*SMALL, *settings], {}), actors, LAG)


def test_every_gradient_of_one_actor_is_late_by_what_was_asked() -> None:
    lags = late(actors=1).progress.lags
    assert lags.count > 10 * LAG
    assert lags.largest == LAG
    assert lags.buckets[LAG_BUCKETS.index(4)] == lags.count - LAG  # the bucket of 3 and 4
    assert lags.total == sum(range(LAG)) + LAG * (lags.count - LAG)


def test_two_actors_in_turns_mix_the_lags() -> None:
    assert late(actors=2).progress.lags.largest > LAG


def test_the_ring_of_a_rule_takes_each_version_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(Ring, "keep", lambda ring, version, theta: kept.append(version))
    late(1, "learner.optimizer=adam", "actor.codec=f32")
    assert kept == list(range(len(kept)))
    assert len(kept) > 10 * LAG


def test_weights_are_made_once_for_each_version() -> None:
    run, workers = begin(load(named("cartpole"), SMALL, {}), 1, 0)
    first = run.weights()
    assert run.weights() is first
    for worker, link in workers:
        worker.step(link, 0)
        worker.close()
    assert run.weights() is not first
    assert run.weights().version == run.parameters.version > 0
