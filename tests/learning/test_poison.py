"""The poisoning that the study injects: who sends what, and that one group makes one step."""

from __future__ import annotations

import numpy as np
import pytest

from actor.events import Work
from learner.launch.experiment_file import load
from learner.optim.aggregation import Rule
from protocol.codecs.registry import codec
from protocol.shipped import named
from tests.learning.poison import ACTORS, HOSTILE, POISON, SETTINGS, Groups, poisoned, train
from tests.learning.turns import Run

SMALL = [
    *SETTINGS,
    "run.until_steps=300",
    "actor.envs=1",
    "actor.local_steps=1",
    "actor.rollout_steps=8",
    "actor.passes=2",
    "actor.hidden=[8]",
]


def short(rule: Rule | None, hostile: int = HOSTILE) -> Run:
    return train(load(named("cartpole"), SMALL, {}), rule, hostile)


def test_one_gradient_of_each_makes_one_version() -> None:
    run = short("median")
    assert run.parameters.version == run.gradients // ACTORS > 3
    assert set(run.progress.rulings) == {"applied"}
    assert run.progress.lags.largest == 0


def test_without_a_rule_each_gradient_makes_one() -> None:
    run = short(None)
    assert run.parameters.version == run.gradients


def test_a_run_is_repeated_to_the_bit() -> None:
    assert short("trimmed_mean").parameters.digest() == short("trimmed_mean").parameters.digest()


def test_a_hostile_actor_sends_ten_times_the_opposite() -> None:
    value = np.linspace(-1.0, 2.0, 700, dtype=np.float32)
    encoded = codec("i8").encode(value)
    honest = Work(1, 5, "i8", 700, 700, encoded.buffer, encoded.decoded, None, None)
    sent = poisoned(honest)
    assert isinstance(sent.decoded, np.ndarray)
    np.testing.assert_allclose(sent.decoded, np.float32(POISON) * value, atol=abs(POISON) * 2.0 / 120)
    np.testing.assert_array_equal(codec("i8").decode(sent.payload, 700, 700), sent.decoded)
    assert (sent.base_version, sent.codec) == (5, "i8")


def test_only_the_hostile_ones_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    counted = 0

    def apply(run: Groups, work: Work) -> int:
        nonlocal counted
        counted += 1
        return original(run, work)

    def noted(work: Work, poison: float) -> Work:
        turns.append((counted - 1) % ACTORS)
        return work

    original = Groups.apply
    monkeypatch.setattr(Groups, "apply", apply)
    monkeypatch.setattr("tests.learning.poison.poisoned", noted)
    run = short("mean", hostile=3)
    assert set(turns) == {0, 1, 2}
    assert len(turns) // 3 == run.parameters.version
