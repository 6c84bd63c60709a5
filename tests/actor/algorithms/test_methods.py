"""Targets of every method on a small rollout made by hand, against plain loops that look like the papers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from actor.algorithms.exploration import EpsilonGreedy, epsilon_at
from actor.algorithms.gradients import Minibatch, minibatches
from actor.algorithms.methods import ActionValues, ActorCritic, PolicySample, PolicyTargets, Targets
from actor.algorithms.own import make_method
from actor.algorithms.returns import gae, vtrace
from actor.algorithms.rollout import Collector, Rollout
from actor.config import ActorSettings
from actor.environments.registry import make_vector_envs
from actor.networks.build import build_policy
from actor.networks.policy import Inputs, Policy
from actor.spaces import Spaces
from protocol.errors import UserError
from tests.actor.counter import counters, discrete, vectors
from tests.actor.environments import masked_envs as _masked_envs  # noqa: F401  (registers Strict-v0)

T, B, D, A, GAMMA = 4, 2, 2, 3, 0.9
SPACES = vectors(D, discrete(A))
Algorithm = Literal["n_step_q", "one_step_q", "one_step_sarsa"]
VALUE_METHODS: tuple[Algorithm, ...] = ("n_step_q", "one_step_q", "one_step_sarsa")


def settings_of(**changes: Any) -> ActorSettings:
    return ActorSettings(**{"hidden": (6,), "discount": GAMMA, "rollout_steps": T, "envs": B, **changes})


def theta_of(settings: ActorSettings, spaces: Spaces, seed: int) -> np.ndarray:
    length = build_policy(settings, spaces, 0)[1].layout().length
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32) * np.float32(0.5)


def at(settings: ActorSettings, theta: np.ndarray, spaces: Spaces = SPACES) -> Policy:
    policy, flat = build_policy(settings, spaces, 0)
    flat.load(theta)
    return policy


def with_masks(rollout: Rollout) -> Rollout:
    """The same, where not all was allowed; what was taken always was."""
    rng = np.random.default_rng(4)
    masks = rng.random((T + 1, B, A)) < 0.4
    np.put_along_axis(masks, np.concatenate([rollout.actions, rollout.next_actions[None]]), True, 2)
    last = np.array([[True, False, True]])
    return replace(rollout, masks=masks, final_masks=[last])


def by_hand(kind: str) -> Rollout:
    """Environment 0 resets one step later: row 1 ends, row 2 only resets. Environment 1 resets at once, at row 1.

    kind: ``terminated`` or ``truncated``, how both end.
    """
    rng = np.random.default_rng(0)
    end, nothing = np.zeros((T, B), np.bool_), np.zeros((T, B), np.bool_)
    end[1] = True
    valid, starts = np.ones((T, B), np.bool_), np.zeros((T, B), np.bool_)
    valid[2, 0] = False
    starts[3, 0] = starts[2, 1] = True
    rewards = rng.standard_normal((T, B)).astype(np.float32)
    rewards[2, 0] = 0.0
    return Rollout(
        observations=rng.standard_normal((T + 1, B, D)).astype(np.float32),
        actions=rng.integers(0, A, (T, B, 1)),
        outputs=np.zeros((T + 1, B, A), np.float32),
        values=None,
        next_values=None,
        rewards=rewards,
        terminated=end if kind == "terminated" else nothing,
        truncated=end if kind == "truncated" else nothing,
        valid=valid,
        starts=starts,
        state=np.zeros((B, 0), np.float32),
        next_actions=rng.integers(0, A, (B, 1)),
        finals=[(1, np.array([1]), rng.standard_normal((1, D)).astype(np.float32))],
        episodes=[],
        env_steps=T * B - 1,
    )


def value_oracle(algorithm: Algorithm, rollout: Rollout, target: Policy, epsilon: float) -> np.ndarray:
    """Mnih et al. 2016: algorithm 1 (one-step Q), the same with Sarsa's a' (section 4), algorithm S2 (n-step Q)."""

    def q(seen: np.ndarray) -> np.ndarray:
        values: np.ndarray = target.forward_pass(Inputs(seen[None]))[0][0]
        return values

    def ahead(t: int, b: int) -> float:
        """The target network's value of the state that followed, over what is allowed there."""
        for number, (when, rows, seen) in enumerate(rollout.finals):
            if when == t and b in rows:
                place = rows.tolist().index(b)
                values = q(seen[place])
                if rollout.masks is not None:
                    values = values[rollout.final_masks[number][place]]
                if algorithm == "one_step_sarsa":  # no action was taken there
                    return float((1 - epsilon) * values.max() + epsilon * values.mean())
                return float(values.max())
        values = q(rollout.observations[t + 1, b])
        if algorithm == "one_step_sarsa":
            action = rollout.actions[t + 1, b, 0] if t + 1 < T else rollout.next_actions[b, 0]
            return float(values[action])
        if rollout.masks is not None:
            values = values[rollout.masks[t + 1, b]]
        return float(values.max())

    returns = np.zeros((T, B))
    for b in range(B):
        total = 0.0
        for t in range(T - 1, -1, -1):
            if not rollout.valid[t, b]:
                continue
            goes_on = algorithm == "n_step_q" and t < T - 1 and not rollout.truncated[t, b]
            following = total if goes_on else ahead(t, b)
            total = float(rollout.rewards[t, b]) + (0.0 if rollout.terminated[t, b] else GAMMA * following)
            returns[t, b] = total
    return returns


@pytest.mark.parametrize("algorithm", VALUE_METHODS)
@pytest.mark.parametrize("kind", ["terminated", "truncated"])
@pytest.mark.parametrize("masked", [False, True])
def test_targets_of_action_values(algorithm: Algorithm, kind: str, masked: bool) -> None:
    settings = settings_of(algorithm=algorithm, exploration_steps=100)
    method = make_method(settings, SPACES, at(settings, theta_of(settings, SPACES, 1)), seed=0)
    theta = theta_of(settings, SPACES, 2)
    method.adopt(50, theta, 3)
    assert isinstance(method.sampler, EpsilonGreedy)
    rollout = with_masks(by_hand(kind)) if masked else by_hand(kind)
    expected = value_oracle(algorithm, rollout, at(settings, theta), method.sampler.epsilon)
    targets = method.targets(rollout)
    np.testing.assert_allclose(targets.returns, expected, rtol=1e-4, atol=1e-6)
    assert targets.returns[2, 0] == 0.0
    assert not method.fresh_targets


@pytest.mark.parametrize("algorithm", VALUE_METHODS)
def test_one_episode_has_the_same_targets_in_both_autoreset_modes(algorithm: Algorithm) -> None:
    """A rollout of the real collector: its first episode, of two steps, that ends by truncation."""
    settings = settings_of(algorithm=algorithm, exploration_steps=1)
    spaces = vectors(2, discrete(4))
    returns = []
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        policy = at(settings, theta_of(settings, spaces, 1), spaces)
        method = make_method(settings, spaces, policy, seed=0)
        method.adopt(1, theta_of(settings, spaces, 2), 0)
        assert isinstance(method.sampler, EpsilonGreedy)
        method.sampler.epsilon = 0.0  # the same actions in both
        simulators = counters(mode, 2, 3, terminates=False)
        targets = method.targets(Collector([simulators], policy, method.sampler, settings, 0).collect())
        returns.append(targets.returns[:2, 0] if algorithm != "one_step_sarsa" else targets.returns[:1, 0])
    np.testing.assert_allclose(returns[0], returns[1], rtol=1e-5)


def test_sarsa_bootstraps_from_the_very_action_that_the_next_rollout_begins_with() -> None:
    settings = settings_of(algorithm="one_step_sarsa")
    spaces = vectors(2, discrete(4))
    policy = at(settings, theta_of(settings, spaces, 1), spaces)
    method = make_method(settings, spaces, policy, seed=0)
    theta = theta_of(settings, spaces, 2)
    method.adopt(0, theta, 0)
    collector = Collector([counters(AutoresetMode.NEXT_STEP, 9, 9)], policy, method.sampler, settings, 0)
    rollout = collector.collect()
    returns, last = method.targets(rollout).returns[-1].copy(), rollout.rewards[-1].copy()
    following = collector.collect()
    values, _, _ = at(settings, theta, spaces).forward_pass(Inputs(following.observations[0]))
    expected = last + GAMMA * np.take_along_axis(values, following.actions[0], 1)[:, 0]
    np.testing.assert_allclose(returns, expected, rtol=1e-5)


def test_without_a_target_network_the_setting_is_named() -> None:
    settings = settings_of(algorithm="n_step_q")
    method = make_method(settings, SPACES, at(settings, theta_of(settings, SPACES, 1)), seed=0)
    with pytest.raises(UserError, match=r"'n_step_q' needs a target network: set learner\.target_interval_steps"):
        method.adopt(0, None, None)


def test_epsilon_follows_the_age_of_the_run_and_ends_where_the_seed_says() -> None:
    settings = settings_of(algorithm="n_step_q", exploration_steps=1000)
    ends = set()
    for seed in range(30):
        method = make_method(settings, SPACES, at(settings, theta_of(settings, SPACES, 1)), seed)
        assert isinstance(method, ActionValues)
        greedy = method.sampler
        assert isinstance(greedy, EpsilonGreedy)
        method.adopt(5000, theta_of(settings, SPACES, 2), 0)
        ends.add(greedy.epsilon)
        method.adopt(250, theta_of(settings, SPACES, 2), 0)
        assert greedy.epsilon == epsilon_at(method.final_epsilon, 250, 1000)
    assert sorted(ends) == pytest.approx([0.01, 0.1, 0.5])


@pytest.mark.parametrize("network", ["mlp", "a3c"])
def test_another_target_network_counts_and_the_same_one_is_not_loaded_again(network: Literal["mlp", "a3c"]) -> None:
    """Convolutions keep converted weights while they act: those of the old target must go with it."""
    spaces = SPACES if network == "mlp" else Spaces((1, 36, 36), "uint8", discrete(A))
    settings = settings_of(algorithm="one_step_q", network=network, precision="fp32")
    policy = at(settings, theta_of(settings, spaces, 1), spaces)
    rollout = by_hand("terminated")
    if network == "a3c":
        images = np.random.default_rng(0).integers(0, 256, ((T + 1) * B + 1, 1, 36, 36), np.uint8)
        seen = policy.prepare(images)
        rollout.observations = seen[:-1].reshape(T + 1, B, *policy.input_shape)
        rollout.finals = [(1, np.array([1]), seen[-1:])]

    thetas = {seed: theta_of(settings, spaces, seed) * np.float32(0.1) for seed in (2, 3)}

    def returns(*given: tuple[int, int]) -> np.ndarray:
        """given: (seed of θ, version) in turn."""
        method = make_method(settings, spaces, policy, seed=0)
        for seed, version in given:
            method.adopt(0, thetas[seed], version)
            found = method.targets(rollout).returns.copy()
        return found

    np.testing.assert_array_equal(returns((2, 2), (3, 3)), returns((3, 3)))
    assert not np.array_equal(returns((2, 2)), returns((3, 3)))
    np.testing.assert_array_equal(returns((2, 2), (3, 2)), returns((3, 2)))  # versions of two lives of the learner
    method = make_method(settings, spaces, policy, seed=0)
    method.adopt(0, thetas[2], 2)
    assert isinstance(method, ActionValues)
    method.target_weights.load(thetas[3])  # what a load would undo
    method.adopt(0, thetas[2], 2)
    np.testing.assert_array_equal(method.target_weights.vector(), thetas[3])


def critic(mode: AutoresetMode, **changes: Any) -> tuple[ActorSettings, Policy, Any, ActorCritic, Rollout]:
    settings = settings_of(rollout_steps=7, **changes)
    spaces = vectors(2, discrete(4))
    policy, flat = build_policy(settings, spaces, 0)
    flat.load(theta_of(settings, spaces, 1))
    method = make_method(settings, spaces, policy, seed=0)
    assert isinstance(method, ActorCritic)
    simulators = counters(mode, 2, 3, terminates=False)
    return settings, policy, flat, method, Collector([simulators], policy, method.sampler, settings, 0).collect()


def policy_of(targets: Targets) -> PolicyTargets:
    assert targets.policy is not None
    return targets.policy


def log_probs_of(outputs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    log_probs: np.ndarray = torch.log_softmax(torch.from_numpy(outputs), 2).gather(2, torch.from_numpy(actions)).numpy()
    return log_probs.squeeze(2)


def test_targets_of_the_actor_critic_are_its_estimators_on_the_rollout() -> None:
    settings, _, _, method, rollout = critic(AutoresetMode.NEXT_STEP)
    assert rollout.values is not None
    assert rollout.next_values is not None
    outcome = rollout.terminated, rollout.truncated, rollout.valid
    targets = method.targets(rollout)
    expected = gae(rollout.rewards, rollout.values, rollout.next_values, *outcome, GAMMA, settings.gae_lambda)
    np.testing.assert_array_equal(policy_of(targets).advantages, expected)
    np.testing.assert_array_equal(targets.returns, expected + rollout.values)
    acted = log_probs_of(rollout.outputs[:-1], rollout.actions)
    np.testing.assert_allclose(policy_of(targets).log_probs, acted, rtol=1e-5)
    assert not method.fresh_targets


def test_the_weight_of_entropy_follows_the_age_of_the_run() -> None:
    method = critic(AutoresetMode.NEXT_STEP, entropy_weight=0.5, entropy_steps=100)[3]
    outputs, nothing = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)
    actions = np.zeros((3, 1), np.int64)
    sample = Minibatch(Inputs(np.zeros((3, 2), np.float32)), None, actions, nothing, PolicySample(nothing, nothing))
    for age, weight in [(0, 0.5), (50, 0.25), (200, 0.0)]:
        method.adopt(age, None, None)
        stats = method.loss(outputs, nothing, sample)[1]
        assert stats.total - stats.policy_loss == pytest.approx(-weight * np.log(4), abs=1e-6)


def test_targets_follow_the_discount_of_the_run_s_age() -> None:
    for settings in (
        settings_of(final_discount=0.5, discount_steps=100),
        settings_of(final_discount=0.5, discount_steps=100, targets="n_step"),
    ):
        still = msgspec.structs.replace(settings, discount=0.7, final_discount=None, discount_steps=1_000_000)
        policy, _ = build_policy(settings, SPACES, 0)
        moving, fixed = (make_method(each, SPACES, policy, seed=0) for each in (settings, still))
        rollout = by_hand("terminated")
        rollout.outputs = np.zeros((T + 1, B, A), np.float32)
        rollout.values, rollout.next_values = np.ones((T, B), np.float32), np.ones((T, B), np.float32)
        moving.adopt(50, None, None)  # 0.9 at first
        ours, theirs = moving.targets(rollout), fixed.targets(rollout)
        np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-5)
        np.testing.assert_allclose(policy_of(ours), policy_of(theirs), rtol=1e-5)


def test_a_value_method_s_discount_follows_it_too() -> None:
    settings = settings_of(algorithm="one_step_q", final_discount=0.5, discount_steps=100)
    still = msgspec.structs.replace(settings, discount=0.5, final_discount=None, discount_steps=1_000_000)
    theta, rollout = theta_of(settings, SPACES, 2), by_hand("terminated")
    returns = []
    for each in (settings, still):
        method = make_method(each, SPACES, at(each, theta), seed=0)
        method.adopt(100, theta, 0)
        returns.append(method.targets(rollout).returns)
    np.testing.assert_array_equal(returns[0], returns[1])


def test_n_step_targets_are_the_return_and_its_distance_to_the_value() -> None:
    *_, method, rollout = critic(AutoresetMode.SAME_STEP, targets="n_step")
    assert rollout.values is not None
    assert rollout.next_values is not None
    targets = method.targets(rollout)
    np.testing.assert_allclose(targets.returns - policy_of(targets).advantages, rollout.values, atol=1e-6)
    for b in range(B):
        total = float(rollout.next_values[-1, b])
        for t in range(6, -1, -1):
            if rollout.truncated[t, b]:
                total = float(rollout.next_values[t, b])
            total = float(rollout.rewards[t, b]) + GAMMA * total
            assert targets.returns[t, b] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_vtrace_corrects_from_who_acted_to_the_newest_weights(
    mode: AutoresetMode, memory: Literal["none", "gru"]
) -> None:
    settings, policy, flat, method, rollout = critic(mode, targets="vtrace", memory=memory, memory_size=4, loss="a3c")
    assert method.fresh_targets
    assert rollout.next_values is not None
    acted = log_probs_of(rollout.outputs[:-1], rollout.actions)
    same = method.targets(rollout)
    np.testing.assert_allclose(policy_of(same).log_probs, acted, atol=1e-5)

    flat.load(flat.vector() * np.float32(1.5))
    fresh = method.targets(rollout)
    starts = np.concatenate([rollout.starts, np.zeros((1, B), np.bool_)])
    inputs = Inputs(rollout.observations, rollout.state, starts)
    if memory == "none":
        inputs = Inputs(rollout.observations.reshape(8 * B, 2))
    outputs, values, _ = policy.forward_pass(inputs)
    assert values is not None
    values = values.reshape(8, B)
    following = values[1:].copy()
    for t, rows, _ in rollout.finals:  # their observations are gone: the value that the collector saw
        following[t, rows] = rollout.next_values[t, rows]
    newest = log_probs_of(outputs.reshape(8, B, 4)[:-1], rollout.actions)
    outcome = rollout.terminated, rollout.truncated, rollout.valid
    arguments = (newest - acted, rollout.rewards, values[:-1], following, *outcome, GAMMA, settings.gae_lambda, 1.0)
    returns, advantages, _ = vtrace(*arguments)
    ours = policy_of(fresh)
    for found, expected in ((ours.log_probs, newest), (ours.advantages, advantages), (fresh.returns, returns)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(policy_of(fresh).advantages, policy_of(same).advantages)


def test_vtrace_of_convolutions_sees_the_newest_weights() -> None:
    settings = settings_of(network="a3c", precision="fp32", targets="vtrace", loss="a3c")
    spaces = Spaces((1, 36, 36), "uint8", discrete(A))
    policy, flat = build_policy(settings, spaces, 0)
    method = make_method(settings, spaces, policy, seed=0)
    rollout = by_hand("truncated")
    images = np.random.default_rng(0).integers(0, 256, ((T + 1) * B, 1, 36, 36), np.uint8)
    seen = policy.prepare(images).reshape(T + 1, B, *policy.input_shape)
    rollout.observations, rollout.values = seen, np.zeros((T, B), np.float32)
    rollout.next_values = np.zeros((T, B), np.float32)
    before = method.targets(rollout)
    flat.load(theta_of(settings, spaces, 1) * np.float32(0.1))
    outputs, values, _ = policy.forward_pass(Inputs(seen.reshape((T + 1) * B, *policy.input_shape)))
    assert values is not None
    fresh = method.targets(rollout)
    np.testing.assert_allclose(
        policy_of(fresh).log_probs, log_probs_of(outputs.reshape(T + 1, B, A)[:-1], rollout.actions), rtol=1e-4
    )
    assert not np.allclose(policy_of(fresh).log_probs, policy_of(before).log_probs)


def test_the_target_network_sees_pixels_as_the_policy_does() -> None:
    spaces = Spaces((1, 36, 36), "uint8", discrete(A))
    settings = settings_of(algorithm="one_step_q", network="a3c", precision="fp32")
    theta = theta_of(settings, spaces, 1)
    policy = at(settings, theta, spaces)
    rollout = by_hand("terminated")
    images = np.random.default_rng(0).integers(0, 256, ((T + 1) * B, 1, 36, 36), np.uint8)
    rollout.observations = policy.prepare(images).reshape(T + 1, B, *policy.input_shape)
    rollout.finals = []
    method = make_method(settings, spaces, policy, seed=0)
    method.adopt(0, theta, 1)
    policy.set_pixel_normalization(100.0, 0.02)
    ahead = policy.act(rollout.observations[1:].reshape(-1, *policy.input_shape), np.zeros((T * B, 0), np.float32))[0]
    expected = rollout.rewards + settings.discount * ahead.max(1).reshape(T, B)
    running = rollout.valid & ~rollout.terminated
    np.testing.assert_allclose(method.targets(rollout).returns[running], expected[running], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["clipped", "a3c"])
@pytest.mark.parametrize("targets", ["gae", "vtrace"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_under_masks_the_ratio_at_the_same_weights_is_one(loss: Any, targets: Any, memory: Any) -> None:
    """Of every sample, from the policy that acted to the one that learns, and what is not allowed is not pushed."""
    changes = {
        "loss": loss,
        "targets": targets,
        "memory": memory,
        "passes": 1,
        "minibatches": 2,
        "entropy_weight": 0.01,
    }
    settings = settings_of(env="Strict-v0", rollout_steps=23, normalize_observations=False, **changes)
    (simulators,) = make_vector_envs(settings, frozenset())
    policy, flat = build_policy(settings, simulators.spaces, 0)
    flat.load(theta_of(settings, simulators.spaces, 1))
    method = make_method(settings, simulators.spaces, policy, seed=0)
    rollout = Collector([simulators], policy, method.sampler, settings, 0).collect()
    assert rollout.masks is not None
    assert rollout.masks[:-1][rollout.valid].sum(1).tolist() == [2] * rollout.env_steps
    found = method.targets(rollout)
    drawn = list(minibatches(rollout, found, settings, np.random.default_rng(0)))
    assert sum(len(each.actions) for each in drawn) == rollout.env_steps
    for each in drawn:
        outputs, values, _ = policy.forward_pass(each.inputs)
        rows = slice(None) if each.rows is None else each.rows
        assert values is not None
        gradients, stats = method.loss(outputs[rows], values[rows], each)
        assert each.masks is not None
        assert not gradients.outputs[~each.masks].any()
        assert gradients.outputs[each.masks].any()
        assert 0.0 < stats.entropy <= np.log(2) + 1e-6
        if stats.log_ratios is not None:
            np.testing.assert_allclose(stats.log_ratios, 0.0, atol=1e-5)
    simulators.close()
