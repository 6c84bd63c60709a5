"""The torch loop's targets against the plain recursion, and one rollout's learning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.bench.peers.loop_torch import Learner, advantages_of
from tests.bench.peers.rollouts import empty, first_policy, logits_of
from tests.bench.peers.shipped import shipped


def test_advantages_are_those_of_each_row_alone() -> None:
    recipe = replace(shipped("cartpole"), envs=2, rollout_steps=3, reward_scale=1.0, discount=0.5, gae_lambda=0.5)
    rollout = empty(recipe, 1, 2)
    rollout.valid[:] = 1.0
    rollout.rewards[:] = [[1.0, 1.0], [2.0, 2.0], [4.0, 0.0]]
    rollout.terminated[1, 1] = rollout.ended[1, 1] = 1.0
    rollout.valid[2, 1] = 0.0
    values = np.array([[0.0, 0.0], [8.0, 8.0], [4.0, 4.0], [2.0, 2.0]], np.float32)
    found = advantages_of(recipe, rollout, values)
    assert found[:, 0] == pytest.approx([5.0 - 0.25 * 3.75, -4.0 + 0.25 * 1.0, 1.0])
    assert found[:, 1] == pytest.approx([5.0 - 0.25 * 6.0, -6.0, 0.0])


def test_what_is_rewarded_becomes_likelier_in_the_policy_that_acts() -> None:
    recipe = replace(shipped("cartpole"), envs=2, rollout_steps=8, minibatch=8, reward_scale=100.0)
    generator = np.random.default_rng(0)
    learner = Learner(recipe, first_policy(recipe, 4, 2, generator))
    rollout = empty(recipe, 4, 2)
    rollout.valid[:] = rollout.terminated[:] = rollout.ended[:] = 1.0
    rollout.observations[:] = generator.standard_normal(rollout.observations.shape)
    rollout.actions[:] = [0, 1]
    rollout.rewards[:] = [1.0, 0.0]
    seen = rollout.observations[:-1].reshape(-1, 4)
    rollout.logits[:] = logits_of(learner.policy, seen).reshape(rollout.logits.shape)
    learner.learn(rollout, env_steps=0)
    first, second = logits_of(learner.policy, seen).T
    assert np.median(first - second) > 0.2  # of about 0 before
