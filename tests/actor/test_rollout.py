"""Rollouts of scripted simulators: what each row holds, where one rollout ends and the next begins."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.config import ActorSettings
from actor.envs import Simulators, make_simulators
from actor.policy import ActorCritic, log_softmax
from actor.returns import gae
from actor.rollout import Collector, Normalizer, Rollout
from tests.actor.test_envs import Counter

SMALL = ActorSettings(envs=2, rollout_steps=7)


def network(observation_size: int = 2, actions: int = 4) -> ActorCritic:
    policy = ActorCritic(observation_size, actions, (8,), "tanh", torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))  # far from uniform
    return policy


def collector(mode: AutoresetMode, settings: ActorSettings = SMALL, seed: int = 0, **options: Any) -> Collector:
    makers = [lambda length=length: Counter(length, **options) for length in (2, 3)]
    simulators = Simulators(SyncVectorEnv(makers, autoreset_mode=mode, copy=False), "Counter-v0")
    return Collector(simulators, network(), settings, seed)


def values_of(observations: list[list[float]]) -> np.ndarray:
    return network().values(torch.tensor(observations, dtype=torch.float32)).detach().numpy()


def test_rows_of_next_step_mode() -> None:
    rollout = collector(AutoresetMode.NEXT_STEP).collect()
    assert rollout.observations[:, 0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0]]
    assert rollout.valid[:, 0].tolist() == [True, True, False, True, True, False, True]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, False, True, False, False]
    assert rollout.env_steps == 5 + 6
    assert [length for _, length in rollout.episodes] == [2, 3, 2, 3]


def test_rows_of_same_step_mode() -> None:
    rollout = collector(AutoresetMode.SAME_STEP).collect()
    assert rollout.observations[:, 0].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0]]
    assert rollout.valid.all()
    assert rollout.env_steps == 14


@pytest.mark.parametrize("terminates", [True, False])
def test_next_values_are_of_the_true_successor_in_both_modes(terminates: bool) -> None:
    following = collector(AutoresetMode.NEXT_STEP, terminates=terminates).collect()
    same = collector(AutoresetMode.SAME_STEP, terminates=terminates).collect()
    np.testing.assert_allclose(following.next_values[:2, 0], values_of([[0, 1], [0, 2]]), rtol=1e-5)
    np.testing.assert_allclose(same.next_values[:4, 0], values_of([[0, 1], [0, 2], [1, 1], [1, 2]]), rtol=1e-5)
    np.testing.assert_allclose(same.values[:4, 0], values_of([[0, 0], [0, 1], [1, 0], [1, 1]]), rtol=1e-5)


@pytest.mark.parametrize("terminates", [True, False])
def test_one_episode_has_the_same_advantages_in_both_modes(terminates: bool) -> None:
    def advantages(rollout: Rollout) -> np.ndarray:
        rewards = np.ones_like(rollout.rewards)  # the sampled actions differ between the modes
        outcome = (rollout.values, rollout.next_values, rollout.terminated, rollout.truncated, rollout.valid)
        return gae(rewards, *outcome, 0.9, 0.8)[:, 0]

    following = advantages(collector(AutoresetMode.NEXT_STEP, terminates=terminates).collect())
    same = advantages(collector(AutoresetMode.SAME_STEP, terminates=terminates).collect())
    np.testing.assert_allclose(following[[0, 1, 3, 4]], same[:4], rtol=1e-5)
    assert following[2] == 0


def test_the_next_rollout_starts_where_the_last_one_stopped() -> None:
    whole = collector(AutoresetMode.NEXT_STEP, msgspec.structs.replace(SMALL, rollout_steps=14)).collect()
    halves = collector(AutoresetMode.NEXT_STEP)
    first = halves.collect().observations.copy()
    second = halves.collect()
    np.testing.assert_array_equal(np.concatenate([first, second.observations]), whole.observations)
    np.testing.assert_array_equal(second.valid, whole.valid[7:])


def test_log_probs_are_of_the_actions_taken_at_the_policys_weights() -> None:
    rollout = collector(AutoresetMode.NEXT_STEP).collect()
    logits = network().logits(torch.from_numpy(rollout.observations)).detach().numpy()
    expected = np.take_along_axis(log_softmax(logits), rollout.actions[..., None], 2)[..., 0]
    np.testing.assert_allclose(rollout.log_probs, expected, rtol=1e-4)


def test_actions_are_samples_of_the_policy() -> None:
    """Four standard errors over the share of each action, which the rows' own probabilities predict."""
    rollout = collector(AutoresetMode.SAME_STEP, msgspec.structs.replace(SMALL, rollout_steps=4000)).collect()
    logits = network().logits(torch.from_numpy(rollout.observations)).detach().numpy()
    expected = np.exp(log_softmax(logits)).mean((0, 1))
    shares = np.bincount(rollout.actions.ravel(), minlength=4) / rollout.actions.size
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / np.sqrt(rollout.actions.size))


def test_the_seed_decides_the_actions() -> None:
    first, again, other = (collector(AutoresetMode.NEXT_STEP, seed=seed).collect().actions for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rewards_are_scaled_for_learning_and_reported_raw() -> None:
    plain = collector(AutoresetMode.NEXT_STEP).collect()
    scaled = collector(AutoresetMode.NEXT_STEP, msgspec.structs.replace(SMALL, reward_scale=0.5)).collect()
    np.testing.assert_array_equal(scaled.rewards, plain.rewards * np.float32(0.5))
    assert scaled.episodes == plain.episodes


NORMALIZING = msgspec.structs.replace(SMALL, normalize_observations=True)
NORMALIZER = Normalizer(np.array([1, 0.5], np.float32), np.array([2, 100], np.float32))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_observations_are_stored_as_the_policy_saw_them(mode: AutoresetMode) -> None:
    plain, eager = collector(mode).collect(), collector(mode, NORMALIZING)
    eager.normalizer = NORMALIZER
    rollout = eager.collect()
    expected = np.clip((plain.observations - [1, 0.5]) * [2, 100], -10, 10).astype(np.float32)
    np.testing.assert_array_equal(rollout.observations, expected)
    terminal = values_of([[-2.0, 10.0]])  # (0, 2) normalised and clipped
    np.testing.assert_allclose(rollout.next_values[1, :1], terminal, rtol=1e-5)


def test_a_normalizer_set_between_rollouts_holds_from_the_first_row() -> None:
    plain, eager = collector(AutoresetMode.NEXT_STEP), collector(AutoresetMode.NEXT_STEP, NORMALIZING)
    np.testing.assert_array_equal(eager.collect().observations, plain.collect().observations)
    eager.normalizer = NORMALIZER
    expected = np.clip((plain.collect().observations - [1, 0.5]) * [2, 100], -10, 10).astype(np.float32)
    np.testing.assert_array_equal(eager.collect().observations, expected)


def test_moments_are_of_raw_observations_at_valid_steps() -> None:
    plain, eager = collector(AutoresetMode.NEXT_STEP).collect(), collector(AutoresetMode.NEXT_STEP, NORMALIZING)
    eager.normalizer = NORMALIZER
    rollout = eager.collect()
    assert plain.moments is None
    assert rollout.moments is not None
    raw = plain.observations[plain.valid].astype(np.float64)
    count, mean, m2 = rollout.moments
    assert count == rollout.env_steps == len(raw)
    np.testing.assert_allclose(mean, raw.mean(0))
    np.testing.assert_allclose(m2, raw.var(0) * count)


def test_cartpole_end_to_end() -> None:
    settings = ActorSettings(envs=4, rollout_steps=50)
    simulators = make_simulators(settings, frozenset())
    rollout = Collector(simulators, network(4, 2), settings, 0).collect()
    simulators.close()
    assert (rollout.observations.shape, rollout.rewards.dtype.name) == ((50, 4, 4), "float32")
    assert len(rollout.episodes) > 2
    assert all(score == length for score, length in rollout.episodes)
    assert not rollout.valid.all()
    assert not rollout.rewards[~rollout.valid].any()
