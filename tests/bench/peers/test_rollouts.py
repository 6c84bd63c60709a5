"""What the loops collect and count, on simulators whose episodes are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench.peers.recipe import Recipe
from tests.bench.peers.rollouts import Collector, Watch, empty, first_layers, first_policy
from tests.bench.peers.shipped import shipped
from tests.bench.peers.simulators import make


def recipe(envs: int, steps: int, target: float = 3.0) -> Recipe:
    return replace(shipped("cartpole"), envs=envs, rollout_steps=steps, target=target)


class Counting:
    """One row whose episode is three steps of reward 1; the observation is the step within it."""

    def __init__(self) -> None:
        self.place = 0

    def reset(self) -> tuple[NDArray[np.float32], Any]:
        return np.zeros((1, 1), np.float32), {}

    def step(self, actions: NDArray[np.int64]) -> Any:
        over = self.place == 3
        self.place = 0 if over else self.place + 1
        seen, ended = np.full((1, 1), self.place, np.float32), np.array([self.place == 3])
        return seen, np.array([0.0 if over else 1.0]), ended, np.zeros(1, np.bool_), {}


def test_resets_are_marked_across_rollouts() -> None:
    asked = recipe(envs=1, steps=4)
    collector = Collector(asked, Counting(), (1, 2), seed=0)
    policy = first_policy(asked, 1, 2, np.random.default_rng(0))["policy"]
    first, second = collector.collect(policy), collector.collect(policy)
    assert first.observations[:, 0, 0].tolist() == [0, 1, 2, 3, 0]
    assert first.valid[:, 0].tolist() == [1, 1, 1, 0]
    assert second.valid[:, 0].tolist() == [1, 1, 1, 0]
    assert first.terminated[:, 0].tolist() == first.ended[:, 0].tolist() == [0, 0, 1, 0]
    assert first.env_steps == 3


def test_a_watch_is_over_at_a_hundred_episodes_of_the_target() -> None:
    asked = recipe(envs=1, steps=4)
    collector, watch = Collector(asked, Counting(), (1, 2), seed=0), Watch(asked, limit=10_000)
    policy = first_policy(asked, 1, 2, np.random.default_rng(0))["policy"]
    rollouts = 1
    while not watch.over(collector.collect(policy)):
        rollouts += 1
    answer = watch.answer()
    assert (rollouts, answer["env_steps"], answer["solved"], answer["return_mean_100"]) == (100, 300, True, 3.0)
    assert answer["curve"][-1][0] == 300


def test_a_watch_is_over_at_its_limit() -> None:
    asked = recipe(envs=1, steps=4, target=1e9)
    watch, rollout = Watch(asked, limit=8), empty(asked, 1, 2)
    rollout.valid[:] = 1.0
    assert [watch.over(rollout), watch.over(rollout)] == [False, True]
    assert watch.answer()["solved"] is False


def test_an_episode_that_goes_on_into_the_next_rollout_is_counted_whole() -> None:
    asked = recipe(envs=2, steps=2)
    watch, rollout = Watch(asked, limit=10_000), empty(asked, 1, 2)
    rollout.rewards[:] = [[1.0, 5.0], [1.0, 5.0]]
    rollout.ended[:] = [[0.0, 1.0], [0.0, 0.0]]
    for _ in range(40):
        watch.over(rollout)
    assert watch.mean is None  # 40 episodes of the second row, none of the first
    rollout.ended[1, 0] = 1.0
    for _ in range(40):
        watch.over(rollout)
    first, second = [82.0, *[2.0] * 39], [5.0, *[10.0] * 79]
    assert watch.mean == pytest.approx((sum(first) + sum(second) - sum(second[:20])) / 100)


def test_first_weights_are_orthogonal_times_their_gain() -> None:
    (inner, _), (head, biases) = first_layers((4, 8, 2), 0.01, np.random.default_rng(0))
    assert inner @ inner.T == pytest.approx(2.0 * np.eye(4), abs=1e-5)
    assert head.T @ head == pytest.approx(1e-4 * np.eye(2), abs=1e-8)
    assert not biases.any()


@pytest.mark.parametrize("kind", ["gymnasium", "envpool"])
def test_both_simulators_reset_a_row_in_the_step_after_its_end(kind: str) -> None:
    if kind == "envpool":
        pytest.importorskip("envpool")
    env, inputs, actions = make(kind, "CartPole-v1", 3, seed=0)
    assert (inputs, actions) == (4, 2)
    asked = recipe(envs=3, steps=64)
    collector = Collector(asked, env, (inputs, actions), seed=0)
    rollout = collector.collect(first_policy(asked, inputs, actions, np.random.default_rng(0))["policy"])
    resets = rollout.valid == 0.0
    assert resets.any()
    assert (np.abs(rollout.observations[1:][resets]) <= 0.05).all()  # CartPole's first states
    assert not rollout.rewards[resets].any()
    assert rollout.env_steps == rollout.rewards.sum()  # each real step is worth 1
