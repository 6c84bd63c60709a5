"""Simulators as arrays: both autoreset modes, rows that failed, the episodes' book."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.config import ActorSettings
from actor.environments.child_protocol import FailureKind
from actor.environments.registry import make_vector_envs
from actor.environments.vector import VectorEnv
from actor.spaces import Spaces
from tests.actor import counter
from tests.actor.counter import simulators_of


def counters(mode: AutoresetMode, *lengths: int, **options: Any) -> VectorEnv:
    simulators = counter.counters(mode, *lengths, **options)
    simulators.reset(0)
    return simulators


def actions(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)[:, None]


def test_next_step_mode_masks_the_row_that_only_resets() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 2, 9)
    steps, starts = [], []
    for _ in range(4):
        step = simulators.step(actions(1, 2))
        steps.append((step.observations[0].tolist(), step.rewards[0], bool(step.terminated[0]), bool(step.valid[0])))
        starts.append(step.starts.tolist())
        assert step.final_observations is None
        assert step.valid[1]
    before, last, reset, after = steps
    assert (before, last) == (([0, 1], 1, False, True), ([0, 2], 1, True, True))
    assert (reset, after) == (([1, 0], 0, False, False), ([1, 1], 1, False, True))
    assert starts == [[False, False], [False, False], [True, False], [False, False]]


def test_same_step_mode_hands_over_the_true_successor() -> None:
    simulators = counters(AutoresetMode.SAME_STEP, 2, 9)
    first, second = simulators.step(actions(1, 2)), simulators.step(actions(1, 2))
    assert first.final_observations is None
    assert second.valid.all()
    assert (first.starts.tolist(), second.starts.tolist()) == ([False, False], [True, False])
    assert second.observations.tolist() == [[1, 0], [0, 2]]
    assert second.final_observations is not None
    assert second.final_observations.tolist() == [[0, 2], [0, 2]]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("terminates", [True, False])
def test_the_book_of_episodes(mode: AutoresetMode, terminates: bool) -> None:
    simulators = counters(mode, 2, 3, terminates=terminates)
    finished = []
    for t in range(7):
        step = simulators.step(actions(t % 4, 1))
        finished.append(step.episodes)
        assert not (step.truncated if terminates else step.terminated).any()
    if mode is AutoresetMode.NEXT_STEP:
        assert finished == [[], [(1.0, 2)], [(3.0, 3)], [], [(3.0, 2)], [], [(3.0, 3)]]
    else:
        assert finished == [[], [(1.0, 2)], [(3.0, 3)], [(5.0, 2)], [], [(1.0, 2), (3.0, 3)], []]


def test_a_reset_closes_the_book() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 2)
    simulators.step(actions(3))
    simulators.reset(1)
    assert simulators.step(actions(1)).episodes == []
    assert simulators.step(actions(1)).episodes == [(2.0, 2)]
    simulators.reset(1)
    assert simulators.step(actions(1)).valid.all()


def test_actions_that_start_elsewhere_are_numbered_from_zero() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 5, start=7)
    assert simulators.spaces.actions.sizes == (4,)
    assert simulators.step(actions(3)).rewards.tolist() == [3.0]


class Scripted:
    """An engine whose answers are written down: of each step (observation, reward, truncated, valid, cut)."""

    restarts_cut_rows = True
    failure_counts: ClassVar[dict[FailureKind, int]] = {}
    first_failures: ClassVar[dict[FailureKind, str]] = {}
    masks = final_masks = None
    masked_by = "none"

    def __init__(self, *script: tuple[float, float, bool, bool, bool]) -> None:
        self.count = 1
        self._script = iter(script)

    def reset(self, seed: int) -> np.ndarray:
        return np.zeros((1, 1), np.float32)

    def send(self, actions: np.ndarray) -> None:
        self.sent = actions

    def receive(self) -> Any:
        seen, *flags = next(self._script)
        self.observations = np.full((1, 1), seen, np.float32)
        self.rewards, self.truncated, self.valid, self.cut = (np.array([flag]) for flag in flags)
        self.terminated = np.zeros(1, np.bool_)
        self.final_observations = None
        return self

    def close(self) -> None:
        pass


def test_a_row_that_failed_is_not_valid_and_its_episode_is_in_no_book() -> None:
    """Two good steps, a failure, one step of waiting, then an episode of two steps."""
    lost, waits = (2.0, 0.0, False, False, True), (9.0, 0.0, False, False, False)
    engine = Scripted(
        (1.0, 5.0, False, True, False),
        lost,
        waits,
        (10.0, 3.0, False, True, False),
        (11.0, 4.0, True, True, False),
    )
    simulators = VectorEnv(engine, Spaces((1,), "float32", counter.discrete(2)), next_step_autoreset=False)
    simulators.reset(0)
    steps = []
    for _ in range(5):
        step = simulators.step(actions(0))
        steps.append((bool(step.valid[0]), bool(step.starts[0]), step.rewards[0], step.episodes))
    assert steps[:3] == [(True, False, 5.0, []), (False, True, 0.0, []), (False, True, 0.0, [])]
    assert steps[3:] == [(True, False, 3.0, []), (True, True, 4.0, [(7.0, 2)])]


def test_the_running_episodes_are_in_the_book_too() -> None:
    simulators = counters(AutoresetMode.NEXT_STEP, 2, 9)
    seen = []
    for _ in range(4):
        simulators.step(actions(1, 2))
        returns, lengths = simulators.unfinished()
        seen.append((returns.tolist(), lengths.tolist()))
    assert seen == [([1, 2], [1, 1]), ([0, 4], [0, 2]), ([0, 6], [0, 3]), ([1, 8], [1, 4])]


@pytest.mark.parametrize("vectorization", ["sync", "processes"])
def test_seeds_of_any_size_are_cut_before_the_rows_add_to_them(vectorization: Literal["sync", "processes"]) -> None:
    """The emulator of Atari games refuses more than 31 bits, in this process and in others."""
    settings = ActorSettings(env="CartPole-v1", envs=2, vectorization=vectorization)
    (simulators,) = make_vector_envs(settings, counter.NONE_ALLOWED)
    try:
        first = simulators.reset((1 << 32) - 2)
    finally:
        simulators.close()
    env = gymnasium.make("CartPole-v1")
    for row in range(2):
        np.testing.assert_array_equal(first[row], env.reset(seed=(1 << 30) - 2 + row)[0])


class Pairs(gymnasium.Env[Any, Any]):
    """Observes a dictionary; every episode takes two steps."""

    def __init__(self) -> None:
        self.observation_space = Dict({"b": Discrete(3), "a": Box(-9, 9, (2,), np.float32)})
        self.action_space = Discrete(2)
        self._taken = 0

    def _observe(self) -> dict[str, Any]:
        return {"a": np.array([self._taken, -self._taken], np.float32), "b": np.int64(self._taken)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._taken = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._taken += 1
        return self._observe(), 1.0, False, self._taken == 2, {}


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_last_observation_of_a_dictionary_is_flattened_like_the_others(mode: AutoresetMode) -> None:
    simulators = simulators_of(SyncVectorEnv([Pairs, Pairs], autoreset_mode=mode, copy=False), mode)
    assert simulators.reset(0).tolist() == [[0, 0, 1, 0, 0]] * 2
    simulators.step(actions(0, 1))
    step = simulators.step(actions(0, 1))
    last = step.observations if mode is AutoresetMode.NEXT_STEP else step.final_observations
    assert last is not None
    assert last.tolist() == [[2, -2, 0, 0, 1]] * 2


class Threaded:
    """A vector environment that steps between ``send`` and ``recv``, as those written in C++ do."""

    num_envs = 2
    single_observation_space = Box(-9, 9, (1,), np.float32)

    def __init__(self) -> None:
        self.log: list[str] = []

    def send(self, actions: np.ndarray) -> None:
        self.log.append(f"send {actions.tolist()}")

    def recv(self) -> tuple[Any, ...]:
        self.log.append("recv")
        nothing = np.zeros(2, np.bool_)
        return np.ones((2, 1), np.float32), np.ones(2), nothing, nothing, {}


def test_an_environment_with_threads_works_between_the_halves_of_a_step() -> None:
    from actor.environments.inprocess import InProcessEngine

    env = Threaded()
    simulators = VectorEnv(
        InProcessEngine(env, next_step_autoreset=True, on_failure=lambda *_: None),
        Spaces((1,), "float32", counter.discrete(2)),
        next_step_autoreset=True,
    )
    simulators.send(actions(0, 1))
    assert env.log == ["send [0, 1]"]
    assert simulators.receive().rewards.tolist() == [1.0, 1.0]
    assert env.log[1:] == ["recv"]
