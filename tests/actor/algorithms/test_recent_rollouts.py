"""Several rollouts as one: what goes on where, what is let go, and what is learnt from what older policies did."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from actor.algorithms.distributions import distribution
from actor.algorithms.methods import ActorCritic
from actor.algorithms.recent_rollouts import Limits, RecentRollouts
from actor.algorithms.returns import vtrace
from actor.algorithms.rollout import Collector, Rollout
from actor.config import ActorSettings
from actor.environments.registry import make_vector_envs
from actor.networks.build import build_policy
from actor.networks.flat import FlatParameters
from actor.networks.policy import Inputs, Policy
from tests.actor.counter import counters, discrete, vectors
from tests.actor.environments import masked_envs as _masked_envs  # noqa: F401  (registers Together-v0)

SETTINGS = ActorSettings(envs=2, rollout_steps=4, hidden=(8,), normalize_observations=False, normalize_returns=False)
COUNTED = discrete(4)
EVER = 1e9
ROWS = SETTINGS.envs * SETTINGS.rollout_steps
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def network() -> tuple[Policy, FlatParameters]:
    policy, flat = build_policy(SETTINGS, vectors(2, COUNTED), seed=0)
    theta = flat.vector()
    flat.load(theta + np.resize(np.linspace(-0.5, 0.5, 17, dtype=np.float32), len(theta)))
    return policy, flat


def collector(mode: AutoresetMode, policy: Policy, **changes: Any) -> Collector:
    settings = msgspec.structs.replace(SETTINGS, **changes)
    return Collector([counters(mode, 2, 3)], policy, distribution(COUNTED), settings, 0)


def joined(recent: RecentRollouts, rollout: Rollout, env_steps: int = 0, epoch: int = 1, **asked: Any) -> Rollout:
    return recent.join(rollout, epoch, env_steps, Limits(**{"most_age": EVER, "least": 1, "most": 99, **asked}))


def first_seen(rollout: Rollout) -> list[float]:
    """What the first environment showed first: which rollout is the oldest."""
    found: list[float] = rollout.observations[0, 0].tolist()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_together_they_are_the_rollout_that_would_have_been_collected_at_once(mode: AutoresetMode) -> None:
    """Of simulators that do not mind which actions are taken, and of rewards that are the actions."""
    policy, _ = network()
    parts, recent = collector(mode, policy), RecentRollouts()
    for _ in range(3):
        found = joined(recent, parts.collect())
    whole = collector(mode, policy, rollout_steps=12).collect()
    for name in ("observations", "outputs", "values", "terminated", "truncated", "valid", "starts"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found.rewards[found.valid], found.actions[..., 0][found.valid])
    assert found.next_values is not None
    assert whole.next_values is not None
    np.testing.assert_allclose(found.next_values[found.valid], whole.next_values[whole.valid], atol=1e-6)
    assert [(t, rows.tolist(), seen.tolist()) for t, rows, seen in found.finals] == [
        (t, rows.tolist(), seen.tolist()) for t, rows, seen in whole.finals
    ]
    assert found.older == 8


def test_counts_are_of_the_newest_rollout_alone() -> None:
    parts, recent = collector(AutoresetMode.SAME_STEP, network()[0]), RecentRollouts()
    joined(recent, parts.collect())
    newest = parts.collect()
    found = joined(recent, newest)
    assert (found.env_steps, found.episodes, found.moments) == (newest.env_steps, newest.episodes, newest.moments)
    assert found.valid.size == 2 * ROWS


def test_the_first_is_what_it_was_and_nobody_elses_buffer() -> None:
    parts = collector(AutoresetMode.SAME_STEP, network()[0])
    rollout = parts.collect()
    found = joined(RecentRollouts(), rollout)
    for each in fields(Rollout):
        if each.name != "finals":
            np.testing.assert_array_equal(getattr(found, each.name), getattr(rollout, each.name), err_msg=each.name)
    assert not np.shares_memory(found.observations, rollout.observations)
    kept = found.observations.copy()
    parts.collect()
    np.testing.assert_array_equal(found.observations, kept)


def test_what_is_too_old_is_let_go_but_for_as_many_as_a_gradient_needs() -> None:
    parts, recent = collector(AutoresetMode.SAME_STEP, network()[0]), RecentRollouts()
    sizes = [joined(recent, parts.collect(), steps, most_age=25).valid.size for steps in (0, 10, 20, 30, 100)]
    assert sizes == [ROWS, 2 * ROWS, 3 * ROWS, 3 * ROWS, ROWS]
    sizes = [joined(recent, parts.collect(), steps, most_age=25, least=2).valid.size for steps in (200, 300, 400)]
    assert sizes == [2 * ROWS, 2 * ROWS, 2 * ROWS]


def test_it_holds_no_more_than_it_may() -> None:
    parts, recent = collector(AutoresetMode.SAME_STEP, network()[0]), RecentRollouts()
    assert [joined(recent, parts.collect(), most=2).older for _ in range(4)] == [0, 4, 4, 4]


def test_nothing_of_another_life_of_the_learner_or_of_other_simulators_is_used() -> None:
    parts, recent = collector(AutoresetMode.SAME_STEP, network()[0]), RecentRollouts()
    joined(recent, parts.collect(), 50)
    assert joined(recent, parts.collect(), 60, epoch=2).older == 0
    assert joined(recent, parts.collect(), 40, epoch=2).older == 0  # resumed from before
    assert joined(recent, parts.collect(), 40, epoch=2).older == 4
    recent.clear()
    assert joined(recent, parts.collect(), 40, epoch=2).older == 0


@pytest.mark.parametrize("mode", MODES)
def test_where_no_policy_has_changed_it_is_generalised_advantage_estimation_of_the_longer_rollout(
    mode: AutoresetMode,
) -> None:
    policy, _ = network()
    method = ActorCritic(SETTINGS, vectors(2, COUNTED), policy)
    parts, recent = collector(mode, policy), RecentRollouts()
    for _ in range(3):
        found = joined(recent, parts.collect())
    corrected = method.targets(found)
    found.older = 0
    plain = method.targets(found)
    assert corrected.policy is not None
    assert plain.policy is not None
    valid = found.valid
    np.testing.assert_allclose(corrected.policy.advantages[valid], plain.policy.advantages[valid], atol=1e-5)
    np.testing.assert_allclose(corrected.policy.log_probs[valid], plain.policy.log_probs[valid], atol=1e-5)
    np.testing.assert_allclose(corrected.returns[valid], plain.returns[valid], atol=1e-5)


def test_what_an_older_policy_did_is_weighed_by_what_the_newest_would_do() -> None:
    policy, flat = network()
    method = ActorCritic(SETTINGS, vectors(2, COUNTED), policy)
    parts, recent = collector(AutoresetMode.SAME_STEP, policy), RecentRollouts()
    joined(recent, parts.collect())
    flat.load(flat.vector() * np.float32(1.5))
    found = joined(recent, parts.collect())
    targets = method.targets(found)
    assert targets.policy is not None
    inferred = policy.infer(Inputs(found.observations.reshape(-1, *found.observations.shape[2:])))
    outputs, values = (np.array(each).reshape(*found.observations.shape[:2], -1) for each in inferred)
    shifted = outputs - outputs.max(2, keepdims=True)
    newest = np.take_along_axis(
        shifted - np.log(np.exp(shifted).sum(2, keepdims=True)), np.vstack([found.actions, found.actions[:1]]), 2
    )[:-1, :, 0]
    np.testing.assert_allclose(targets.policy.log_probs, newest, atol=1e-5)
    old = found.outputs[:-1] - found.outputs[:-1].max(2, keepdims=True)
    acted = np.take_along_axis(old - np.log(np.exp(old).sum(2, keepdims=True)), found.actions, 2)[..., 0]
    assert np.abs(newest - acted)[:4].max() > 0.01  # the older rows
    np.testing.assert_allclose(newest[4:], acted[4:], atol=1e-5)  # those of the newest policy
    next_values = values[1:, :, 0].copy()
    assert found.next_values is not None
    for t, rows, _ in found.finals:
        next_values[t, rows] = found.next_values[t, rows]
    returns, _, corrections = vtrace(
        log_ratios=(newest - acted).astype(np.float32),
        rewards=found.rewards,
        values=values[:-1, :, 0].copy(),
        next_values=next_values,
        terminated=found.terminated,
        truncated=found.truncated,
        valid=found.valid,
        discount=SETTINGS.discount,
        lam=SETTINGS.gae_lambda,
        clip=1.0,
    )
    np.testing.assert_allclose(targets.returns, returns, atol=1e-4)
    np.testing.assert_allclose(targets.policy.advantages, corrections, atol=1e-4)


def test_what_followed_a_cut_episode_of_an_older_rollout_is_worth_what_the_newest_weights_say() -> None:
    policy, flat = network()
    method = ActorCritic(SETTINGS, vectors(2, COUNTED), policy)
    env = counters(AutoresetMode.SAME_STEP, 2, 3, terminates=False)
    parts, recent = Collector([env], policy, distribution(COUNTED), SETTINGS, 0), RecentRollouts()
    joined(recent, parts.collect())
    flat.load(flat.vector() * np.float32(1.5))
    found = joined(recent, parts.collect())
    cut = next((t, rows, seen) for t, rows, seen in found.finals if t < found.older)
    before = method.targets(found).returns
    assert found.next_values is not None
    found.next_values[cut[0], cut[1]] += 100.0  # what the older weights said
    np.testing.assert_array_equal(method.targets(found).returns, before)
    cut[2][...] += 1.0
    assert np.abs(method.targets(found).returns[cut[0], cut[1]] - before[cut[0], cut[1]]).max() > 1e-3


def test_masks_are_joined_as_what_they_are_of() -> None:
    """Of a game whose observations show which moves are legal: each row's mask belongs to its observation."""
    settings = msgspec.structs.replace(SETTINGS, env="Together-v0", rollout_steps=7, env_options={"same_step": True})
    (simulators,) = make_vector_envs(settings, frozenset())
    policy, _ = build_policy(settings, simulators.spaces, seed=0)
    sampler = distribution(simulators.spaces.actions)
    parts, recent = Collector([simulators], policy, sampler, settings, 0), RecentRollouts()
    for _ in range(3):
        found = joined(recent, parts.collect())

    def fits(masks: np.ndarray, shown: np.ndarray) -> bool:
        legal = np.stack([shown[..., 0] == 0, shown[..., 0] == 1, shown[..., 1] == 0, shown[..., 1] == 1], -1)
        return np.array_equal(masks, legal)

    assert found.masks is not None
    assert found.masks.shape == (22, 2, 4)
    assert fits(found.masks, found.observations)
    assert len(found.final_masks) == len(found.finals) == 2
    for (_, _, seen), masks in zip(found.finals, found.final_masks, strict=True):
        assert fits(masks, seen)
    assert np.take_along_axis(found.masks[:-1], found.actions, 2).all()
    simulators.close()
