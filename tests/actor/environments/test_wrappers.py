"""Wrappers by their names: what may be imported, what they are given, and what is said where one cannot be."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import ClipReward

from actor.config import ActorSettings, Wrapper
from actor.environments.inprocess import InProcessEngine
from actor.environments.isolated import make_isolated_engine
from actor.environments.registry import check, describe, make_one, make_vector_envs
from actor.environments.wrappers import apply, find
from protocol.errors import SettingError, UserError
from protocol.process import modules
from tests.actor.counter import NONE_ALLOWED, Counter

MODULE = __name__
HERE = frozenset({MODULE})
CLIP = Wrapper("gymnasium.wrappers:ClipReward", {"min_reward": 0.0, "max_reward": 0.25})
STACK = Wrapper("gymnasium.wrappers:FrameStackObservation", {"stack_size": 3})


class Doubled(gymnasium.RewardWrapper[Any, Any]):
    """Pays twice, and something more."""

    def __init__(self, env: gymnasium.Env[Any, Any], more: float = 0.0) -> None:
        super().__init__(env)
        self.more = more

    def reward(self, reward: Any) -> float:
        return 2.0 * float(reward) + self.more


class Closing(Counter):
    """Counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def no_wrapper(env: gymnasium.Env[Any, Any]) -> int:
    return 3


number = 3


def paid(*wrappers: str | Wrapper, action: int = 3) -> float:
    env = apply(Counter(), find(wrappers, HERE))
    env.reset()
    return float(env.step(action)[1])


def test_they_go_around_it_in_their_order() -> None:
    doubled = Wrapper(f"{MODULE}:Doubled", {"more": 1.0})
    assert paid(doubled) == 7.0
    assert paid(CLIP, doubled) == 1.5
    assert paid(doubled, CLIP) == 0.25
    assert paid(f"{MODULE}:Doubled") == 6.0


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ("elsewhere:Doubled", "actor.wrappers asks to import module 'elsewhere', which this machine does not allow"),
        (f"{MODULE}:Absent", f"actor.wrappers = '{MODULE}:Absent': module {MODULE} has no 'Absent'"),
        (f"{MODULE}:number", "not a wrapper: it cannot be called"),
        ("Doubled", "actor.wrappers = 'Doubled': one of your own is MODULE:NAME with --allow-module MODULE"),
        (
            "gymnasium.wrappers:ClipRewards",
            "Gymnasium has no such wrapper; did you mean gymnasium.wrappers:ClipReward?",
        ),
        ("gymnasium.wrappers:importlib", "Gymnasium has no such wrapper"),
        ("gymnasium.wrappers:vector", "Gymnasium has no such wrapper"),
        ("gymnasium.wrappers.vector:ClipReward", "actor.wrappers asks to import module 'gymnasium.wrappers.vector'"),
        ("gymnasium.wrappers:RecordVideo", "it writes files or opens windows where the experiment says"),
    ],
)
def test_a_name_that_may_not_be_is_refused_before_anything_is_made(wrapper: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        find([wrapper], HERE)
    with pytest.raises(UserError, match=re.escape(said)):
        check(ActorSettings(wrappers=(wrapper,)), HERE)


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        (Wrapper(f"{MODULE}:Doubled", {"factor": 2}), "cannot be made with {'factor': 2}: TypeError: "),
        ("gymnasium.wrappers:TransformReward", "cannot be made: TypeError: "),
        (f"{MODULE}:no_wrapper", "it gave int, and no gymnasium.Env"),
    ],
)
def test_one_that_cannot_be_made_is_named(wrapper: str | Wrapper, said: str) -> None:
    name = wrapper if isinstance(wrapper, str) else wrapper.wrapper
    with pytest.raises(SettingError, match=re.escape(f"actor.wrappers = '{name}': ") + ".*" + re.escape(said)):
        describe(ActorSettings(wrappers=(wrapper,)), HERE)


def test_what_cannot_be_wrapped_is_closed() -> None:
    counter = Closing()
    with pytest.raises(SettingError):
        apply(counter, find([CLIP, "gymnasium.wrappers:TransformReward"], NONE_ALLOWED))
    assert counter.closed == 1


def test_what_writes_files_is_there_for_who_allows_it(tmp_path: Path) -> None:
    find(
        [Wrapper("gymnasium.wrappers:RecordVideo", {"video_folder": str(tmp_path)})], frozenset({"gymnasium.wrappers"})
    )


def test_an_installed_package_may_register_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(group: str) -> list[EntryPoint]:
        assert group == "farflung.wrappers"
        return [EntryPoint("doubled", f"{MODULE}:Doubled", group)]

    monkeypatch.setattr(modules, "entry_points", points)
    env = apply(Counter(), find(["doubled"], NONE_ALLOWED))
    env.reset()
    assert env.step(3)[1] == 6.0


@pytest.mark.parametrize("vectorization", ["auto", "sync"])
def test_a_task_with_vectors_of_its_own_is_stepped_one_by_one(vectorization: Any) -> None:
    settings = ActorSettings(envs=2, wrappers=(CLIP, STACK), vectorization=vectorization)  # CartPole has some
    assert describe(settings, NONE_ALLOWED).observation_shape == (12,)
    (group,) = make_vector_envs(settings, NONE_ALLOWED)
    try:
        assert isinstance(group.engine, InProcessEngine)
        inner = group.engine.env.envs[0].env
        assert [type(inner).__name__, type(inner.env)] == ["FrameStackObservation", ClipReward]
        group.reset(0)
        step = group.step(np.zeros((2, 1), np.int64))
        assert (step.observations.shape, step.rewards.tolist()) == ((2, 12), [0.25, 0.25])
    finally:
        group.close()


def test_a_task_that_has_nothing_but_vectors_cannot_be_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.registry["CartPole-v1"]
    monkeypatch.setattr(spec, "entry_point", None)
    with pytest.raises(SettingError, match=r"actor\.wrappers = \['gymnasium.wrappers:ClipReward'\]: none: CartPole-v1"):
        check(ActorSettings(wrappers=(CLIP,)), NONE_ALLOWED)


def test_a_child_process_wraps_its_own() -> None:
    settings = ActorSettings(envs=1, wrappers=(CLIP, STACK), vectorization="processes")
    engine = make_isolated_engine(settings, 1, NONE_ALLOWED, print)
    try:
        assert engine.spaces.observation_shape == (12,)
        assert engine.reset(0).shape == (1, 12)
        assert engine.step(np.array([0])).rewards.tolist() == [0.25]
    finally:
        engine.close()


def test_a_child_process_refuses_in_the_same_words() -> None:
    settings = ActorSettings(envs=1, wrappers=("gymnasium.wrappers:TransformReward",), vectorization="processes")
    with pytest.raises(UserError, match=r"actor\.wrappers = 'gymnasium\.wrappers:TransformReward': it cannot be made"):
        make_isolated_engine(settings, 1, NONE_ALLOWED, print)


def test_one_by_itself_is_wrapped_too() -> None:
    env = make_one("CartPole-v1", {}, NONE_ALLOWED, (CLIP,))
    assert isinstance(env, ClipReward)
    env.close()
