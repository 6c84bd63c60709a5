"""Minibatches of a rollout, and one gradient end to end against autograd of the loss written plainly."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import torch

from actor.algorithms.gradients import Minibatch, gradient, minibatches
from actor.algorithms.losses import LossStats
from actor.algorithms.methods import Method, PolicySample, PolicyTargets, Targets
from actor.algorithms.own import make_method
from actor.algorithms.rollout import Rollout
from actor.config import ActorSettings
from actor.networks.build import build_policy
from actor.networks.policy import Policy
from tests.actor.counter import discrete, vectors
from tests.actor.networks.plain import PlainPerceptrons

T, B, D, A, S = 6, 3, 4, 2, 5
SPACES = vectors(D, discrete(A))
LOOSE = ActorSettings(
    passes=1,
    minibatches=4,
    normalize_advantages=False,
    max_gradient_norm=1e6,
    entropy_weight=0.02,
    hidden=(8, 8),
    memory_size=S,
)


def rollout(state_size: int = 0) -> Rollout:
    rng = np.random.default_rng(3)
    reals = rng.standard_normal((3, T, B)).astype(np.float32)
    valid = np.ones((T, B), np.bool_)
    valid[2, 1] = False
    starts = np.zeros((T, B), np.bool_)
    starts[3, 1] = True
    no_end = np.zeros((T, B), np.bool_)
    return Rollout(
        observations=rng.standard_normal((T + 1, B, D)).astype(np.float32),
        actions=rng.integers(0, A, (T, B, 1)),
        outputs=rng.standard_normal((T + 1, B, A)).astype(np.float32),
        values=reals[0],
        next_values=reals[1],
        rewards=reals[2],
        terminated=no_end,
        truncated=no_end,
        valid=valid,
        starts=starts,
        state=rng.standard_normal((B, state_size)).astype(np.float32),
        next_actions=np.zeros((B, 1), np.int64),
        finals=[],
        episodes=[],
        env_steps=T * B - 1,
    )


def targets() -> Targets:
    """Advantages name their sample: t * B + b."""
    rng = np.random.default_rng(4)
    log_probs = np.log(rng.uniform(0.3, 0.7, (T, B))).astype(np.float32)
    returns = rng.standard_normal((T, B)).astype(np.float32)
    return Targets(returns, PolicyTargets(log_probs, np.arange(T * B, dtype=np.float32).reshape(T, B)))


def policy_of(given: Minibatch) -> PolicySample:
    """What an actor-critic's minibatches have besides returns."""
    assert given.policy is not None
    return given.policy


def one_pass(settings: ActorSettings, seed: int = 0) -> list[Minibatch]:
    return list(minibatches(rollout(), targets(), settings, np.random.default_rng(seed)))


class Learning:
    """A network far from its beginning, its method, and what they make of a minibatch."""

    def __init__(self, settings: ActorSettings = LOOSE) -> None:
        self.policy: Policy
        self.policy, self.flat = build_policy(settings, SPACES, seed=0)
        length = self.flat.layout().length
        self.flat.load(np.random.default_rng(1).standard_normal(length).astype(np.float32))
        self.method: Method = make_method(settings, SPACES, self.policy, seed=0)

    def gradient(self, part: Minibatch, max_norm: float = 1e6) -> tuple[np.ndarray, LossStats, float]:
        return gradient(self.flat, self.policy, self.method, part, max_norm)


def sequences(settings: ActorSettings, given: Rollout, aims: Targets, seed: int = 0) -> list[Minibatch]:
    return list(minibatches(given, aims, settings, np.random.default_rng(seed)))


def test_a_pass_holds_every_valid_sample_once_and_no_other() -> None:
    names = np.concatenate([policy_of(part).advantages for part in one_pass(LOOSE)]).tolist()
    assert sorted(names) == [float(n) for n in range(T * B) if n != 2 * B + 1]
    assert names != sorted(names)


def test_parts_are_nearly_equal() -> None:
    assert [len(part.actions) for part in one_pass(LOOSE)] == [5, 4, 4, 4]


def test_every_pass_is_a_whole_one_in_an_order_of_its_own() -> None:
    generator = np.random.default_rng(0)
    passes = [list(minibatches(rollout(), targets(), LOOSE, generator)) for _ in range(2)]
    first, second = (np.concatenate([policy_of(part).advantages for part in parts]).tolist() for parts in passes)
    assert sorted(first) == sorted(second)
    assert first != second


def test_too_few_samples_make_fewer_parts() -> None:
    many = msgspec.structs.replace(LOOSE, minibatches=100)
    assert [len(part.actions) for part in one_pass(many)] == [1] * 17


def test_columns_stay_together() -> None:
    source, aims = rollout(), targets()
    assert aims.policy is not None
    for part in one_pass(LOOSE):
        for i, name in enumerate(policy_of(part).advantages.astype(int).tolist()):
            t, b = divmod(name, B)
            np.testing.assert_array_equal(part.inputs.observations[i], source.observations[t, b])
            assert part.actions[i] == source.actions[t, b]
            assert policy_of(part).log_probs[i] == aims.policy.log_probs[t, b]
            assert part.returns[i] == aims.returns[t, b]


def test_the_generator_decides_the_order() -> None:
    first, again, other = one_pass(LOOSE, 1), one_pass(LOOSE, 1), one_pass(LOOSE, 2)
    assert np.array_equal(first[0].actions, again[0].actions)
    assert np.array_equal(policy_of(first[0]).advantages, policy_of(again[0]).advantages)
    assert not np.array_equal(policy_of(first[0]).advantages, policy_of(other[0]).advantages)


def test_advantages_are_normalised_for_each_minibatch_and_returns_are_not() -> None:
    plain, scaled = one_pass(LOOSE), one_pass(msgspec.structs.replace(LOOSE, normalize_advantages=True))
    for raw, part in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(policy_of(part).advantages.mean(), 0.0, atol=1e-6)
        np.testing.assert_allclose(policy_of(part).advantages.std(), 1.0, rtol=1e-5)
        assert np.array_equal(part.returns, raw.returns)


def test_one_sample_alone_normalises_to_zero_and_not_to_nan() -> None:
    lonely = msgspec.structs.replace(LOOSE, minibatches=17, normalize_advantages=True)
    assert all(policy_of(part).advantages.tolist() == [0.0] for part in one_pass(lonely))


def autograd_oracle(learning: Learning, part: Minibatch, settings: ActorSettings) -> np.ndarray:
    """The loss as torch would be written by hand, differentiated by torch."""
    plain = PlainPerceptrons(learning.flat, settings.activation)
    outputs, values = plain(part.inputs.observations)
    actions, returns = torch.from_numpy(part.actions), torch.from_numpy(part.returns)
    taken = outputs.gather(1, actions).squeeze(1)
    if settings.algorithm != "a3c":
        torch.autograd.backward((taken - returns).square().mean())
        return plain.gradient()
    log_probs = torch.log_softmax(outputs, 1)
    taken = log_probs.gather(1, actions).squeeze(1)
    old, advantages = (torch.from_numpy(numbers) for numbers in policy_of(part))
    if settings.loss == "a3c":
        terms = taken * advantages
    else:
        ratio = (taken - old).exp()
        bounded = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        terms = torch.minimum(ratio * advantages, bounded * advantages)
    entropy = -(log_probs.exp() * log_probs).sum(1).mean()
    squares = (values - returns).square().mean()
    assert settings.entropy_weight != "auto"
    torch.autograd.backward(-terms.mean() + settings.value_weight * squares - settings.entropy_weight * entropy)
    return plain.gradient()


@pytest.mark.parametrize("changes", [{"loss": "clipped"}, {"loss": "a3c"}, {"algorithm": "n_step_q"}])
def test_the_gradient_is_autograds(changes: dict[str, Any]) -> None:
    settings = msgspec.structs.replace(LOOSE, **changes)
    learning = Learning(settings)
    for part in one_pass(settings):
        expected = autograd_oracle(learning, part, settings)
        vector, _, norm = learning.gradient(part)
        np.testing.assert_allclose(vector, expected, rtol=1e-3, atol=1e-4)
        assert norm == pytest.approx(float(np.linalg.norm(expected)), rel=1e-4)


def test_a_gradient_does_not_remember_the_one_before() -> None:
    learning = Learning()
    first, second, *_ = one_pass(LOOSE)
    alone = learning.gradient(second)[0].copy()
    learning.gradient(first)
    np.testing.assert_array_equal(learning.gradient(second)[0], alone)


def test_a_long_gradient_is_scaled_to_the_bound_and_a_short_one_left_alone() -> None:
    learning, part = Learning(), one_pass(LOOSE)[0]
    free, _, norm = learning.gradient(part)
    free = free.copy()
    bounded, _, told = learning.gradient(part, max_norm=norm / 4)
    assert told == norm
    np.testing.assert_allclose(bounded, free / 4, rtol=1e-5, atol=1e-7)


def test_a_gradient_whose_square_float32_cannot_hold_is_scaled_like_any_other() -> None:
    part = one_pass(LOOSE)[0]
    part.returns[0] = 1e25
    bounded, _, norm = Learning().gradient(part, max_norm=2.0)
    assert 1e19 < norm < math.inf
    assert np.linalg.norm(bounded) == pytest.approx(2.0, rel=1e-5)


def test_a_gradient_that_is_not_finite_says_so_in_its_norm() -> None:
    part = one_pass(LOOSE)[0]
    part.returns[0] = np.nan
    assert math.isnan(Learning().gradient(part)[2])


def test_weights_loaded_between_minibatches_count() -> None:
    learning, part = Learning(), one_pass(LOOSE)[0]
    before = learning.gradient(part)[0].copy()
    learning.flat.load(learning.flat.vector() * np.float32(0.5))
    assert not np.array_equal(learning.gradient(part)[0], before)


Memory = Literal["lstm", "gru"]


def remembering(memory: Memory, parts: int = 2) -> ActorSettings:
    return msgspec.structs.replace(LOOSE, memory=memory, minibatches=parts)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_with_a_memory_each_environment_comes_once_with_its_whole_sequence(memory: Memory) -> None:
    size = 2 * S if memory == "lstm" else S
    source, seen = rollout(size), []
    for part in sequences(remembering(memory), source, targets()):
        names = policy_of(part).advantages.astype(int)
        envs = sorted(set((names % B).tolist()), key=(names % B).tolist().index)
        seen += envs
        assert part.inputs.state is not None
        assert part.inputs.starts is not None
        assert part.rows is not None
        np.testing.assert_array_equal(part.inputs.observations, source.observations[:-1, envs])
        np.testing.assert_array_equal(part.inputs.state, source.state[envs])
        np.testing.assert_array_equal(part.inputs.starts, source.starts[:, envs])
        np.testing.assert_array_equal(part.rows, np.flatnonzero(source.valid[:, envs]))
        for row, name in zip(part.rows.tolist(), names.tolist(), strict=True):
            t, b = row // len(envs), envs[row % len(envs)]
            assert name == t * B + b
    assert sorted(seen) == list(range(B))


def test_the_generator_decides_which_environments_go_together() -> None:
    def first(seed: int) -> list[float]:
        return list(policy_of(sequences(remembering("gru", 3), rollout(S), targets(), seed)[0]).advantages)

    assert first(1) == first(1)
    assert len({tuple(first(seed)) for seed in range(8)}) > 1


def test_an_environment_without_a_valid_row_gives_no_minibatch() -> None:
    source = rollout(S)
    source.valid[:, 2] = False
    parts = sequences(remembering("gru", 3), source, targets())
    assert sorted(len(part.actions) for part in parts) == [T - 1, T]


@pytest.mark.parametrize("changes", [{"memory": "lstm"}, {"memory": "gru"}, {"memory": "none"}])
@pytest.mark.parametrize("loss", ["clipped", "a3c"])
def test_rows_that_are_not_valid_pull_at_nothing(changes: dict[str, Any], loss: str) -> None:
    """Row (2, 1) with another action and absurd targets: the same gradient, to the bit."""
    settings = msgspec.structs.replace(LOOSE, minibatches=1, loss=loss, normalize_advantages=True, **changes)
    learning = Learning(settings)
    source, aims = rollout(learning.policy.state_size), targets()
    (part,) = sequences(settings, source, aims)
    plain, stats, _ = learning.gradient(part)
    plain, total = plain.copy(), stats.total
    source.actions[2, 1] = 1 - source.actions[2, 1]
    assert aims.policy is not None
    for array in (aims.returns, *aims.policy):
        array[2, 1] = np.nan
    (changed,) = sequences(settings, source, aims)
    vector, stats, _ = learning.gradient(changed)
    np.testing.assert_array_equal(vector, plain)
    assert stats.total == total
    assert np.abs(plain).max() > 0


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_the_gradient_of_sequences_is_autograds(memory: Memory) -> None:
    """The a3c loss over the valid rows alone, torch taking the gradient of the policy's own graph."""
    settings = msgspec.structs.replace(remembering(memory, 1), loss="a3c")
    learning = Learning(settings)
    (part,) = sequences(settings, rollout(learning.policy.state_size), targets())
    ours = learning.gradient(part)[0].copy()
    *_, tape = learning.policy.forward_pass(part.inputs)
    assert part.rows is not None
    log_probs = torch.log_softmax(tape.outputs[part.rows], 1)
    taken = log_probs.gather(1, torch.from_numpy(part.actions)).squeeze(1)
    terms = taken * torch.from_numpy(policy_of(part).advantages)
    entropy = -(log_probs.exp() * log_probs).sum(1).mean()
    squares = (tape.values[part.rows] - torch.from_numpy(part.returns)).square().mean()
    learning.flat.gradient[:] = 0.0
    (-terms.mean() + settings.value_weight * squares - settings.entropy_weight * entropy).backward()
    expected = learning.flat.gradient
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)
