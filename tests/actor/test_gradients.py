"""Minibatches of a rollout, and one gradient end to end against autograd of the loss written plainly."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import torch

from actor.config import ActorSettings
from actor.flat import FlatModule
from actor.gradients import Minibatch, gradient, minibatches
from actor.policy import ActorCritic
from actor.rollout import Rollout

T, B, D, A = 6, 3, 4, 2
LOOSE = ActorSettings(passes=1, minibatches=4, normalize_advantages=False, max_gradient_norm=1e6, entropy_weight=0.02)


def rollout() -> Rollout:
    rng = np.random.default_rng(3)
    reals = rng.standard_normal((5, T, B)).astype(np.float32)
    valid = np.ones((T, B), np.bool_)
    valid[2, 1] = False
    no_end = np.zeros((T, B), np.bool_)
    return Rollout(
        observations=rng.standard_normal((T, B, D)).astype(np.float32),
        actions=rng.integers(0, A, (T, B)),
        log_probs=np.log(rng.uniform(0.3, 0.7, (T, B))).astype(np.float32),
        values=reals[0],
        next_values=reals[1],
        rewards=reals[2],
        terminated=no_end,
        truncated=no_end,
        valid=valid,
        episodes=[],
        env_steps=T * B - 1,
    )


ADVANTAGES = np.arange(T * B, dtype=np.float32).reshape(T, B)  # each names its sample


def one_pass(settings: ActorSettings, seed: int = 0) -> list[Minibatch]:
    return list(minibatches(rollout(), ADVANTAGES, settings, torch.Generator().manual_seed(seed)))


def network() -> tuple[FlatModule, ActorCritic]:
    policy = ActorCritic(D, A, (8, 8), "tanh", torch.Generator().manual_seed(0))
    flat = FlatModule(policy)
    flat.load(np.random.default_rng(1).standard_normal(flat.layout().length).astype(np.float32))
    return flat, policy


def test_a_pass_holds_every_valid_sample_once_and_no_other() -> None:
    names = torch.cat([part.advantages for part in one_pass(LOOSE)]).tolist()
    assert sorted(names) == [float(n) for n in range(T * B) if n != 2 * B + 1]
    assert names != sorted(names)


def test_parts_are_nearly_equal() -> None:
    assert [len(part.actions) for part in one_pass(LOOSE)] == [5, 4, 4, 4]


def test_every_pass_is_a_whole_one_in_an_order_of_its_own() -> None:
    parts = one_pass(msgspec.structs.replace(LOOSE, passes=2))
    first, second = (torch.cat([part.advantages for part in parts[n : n + 4]]).tolist() for n in (0, 4))
    assert sorted(first) == sorted(second)
    assert first != second


def test_too_few_samples_make_fewer_parts() -> None:
    many = msgspec.structs.replace(LOOSE, minibatches=100)
    assert [len(part.actions) for part in one_pass(many)] == [1] * 17


def test_columns_stay_together() -> None:
    source = rollout()
    for part in one_pass(LOOSE):
        for i, name in enumerate(part.advantages.long().tolist()):
            t, b = divmod(name, B)
            np.testing.assert_array_equal(part.observations[i], source.observations[t, b])
            assert part.actions[i] == source.actions[t, b]
            assert part.log_probs[i] == source.log_probs[t, b]
            assert part.returns[i] == ADVANTAGES[t, b] + source.values[t, b]


def test_the_generator_decides_the_order() -> None:
    first, again, other = one_pass(LOOSE, 1), one_pass(LOOSE, 1), one_pass(LOOSE, 2)
    assert torch.equal(first[0].actions, again[0].actions)
    assert torch.equal(first[0].advantages, again[0].advantages)
    assert not torch.equal(first[0].advantages, other[0].advantages)


def test_advantages_are_normalised_for_each_minibatch_and_returns_are_not() -> None:
    plain, scaled = one_pass(LOOSE), one_pass(msgspec.structs.replace(LOOSE, normalize_advantages=True))
    for raw, part in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(part.advantages.mean(), 0.0, atol=1e-6)
        np.testing.assert_allclose(part.advantages.std(correction=0), 1.0, rtol=1e-5)
        assert torch.equal(part.returns, raw.returns)


def test_one_sample_alone_normalises_to_zero_and_not_to_nan() -> None:
    lonely = msgspec.structs.replace(LOOSE, minibatches=17, normalize_advantages=True)
    assert all(part.advantages.tolist() == [0.0] for part in one_pass(lonely))


def autograd_oracle(flat: FlatModule, policy: ActorCritic, part: Minibatch, settings: ActorSettings) -> np.ndarray:
    """The loss as torch would be written by hand, differentiated by torch."""
    logits, values = policy(part.observations)
    log_probs = torch.log_softmax(logits, 1)
    taken = log_probs[torch.arange(len(part.actions)), part.actions]
    if settings.loss == "a3c":
        terms = taken * part.advantages
    else:
        ratio = (taken - part.log_probs).exp()
        bounded = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        terms = torch.minimum(ratio * part.advantages, bounded * part.advantages)
    entropy = -(log_probs.exp() * log_probs).sum(1).mean()
    squares = (values - part.returns).square().mean()
    flat.gradient.zero_()
    (-terms.mean() + settings.value_weight * squares - settings.entropy_weight * entropy).backward()
    return flat.gradient_vector().copy()


@pytest.mark.parametrize("loss", ["clipped", "a3c"])
def test_the_gradient_is_autograds(loss: str) -> None:
    settings = msgspec.structs.replace(LOOSE, loss=loss)
    flat, policy = network()
    for part in one_pass(settings):
        expected = autograd_oracle(flat, policy, part, settings)
        vector, _, norm = gradient(flat, policy, part, settings)
        np.testing.assert_allclose(vector, expected, rtol=1e-3, atol=1e-4)
        assert norm == pytest.approx(float(np.linalg.norm(expected)), rel=1e-4)


def test_a_gradient_does_not_remember_the_one_before() -> None:
    flat, policy = network()
    first, second, *_ = one_pass(LOOSE)
    alone = gradient(flat, policy, second, LOOSE)[0].copy()
    gradient(flat, policy, first, LOOSE)
    np.testing.assert_array_equal(gradient(flat, policy, second, LOOSE)[0], alone)


def test_a_long_gradient_is_scaled_to_the_bound_and_a_short_one_left_alone() -> None:
    flat, policy = network()
    part = one_pass(LOOSE)[0]
    free, _, norm = gradient(flat, policy, part, LOOSE)
    free = free.copy()
    bounded, _, told = gradient(flat, policy, part, msgspec.structs.replace(LOOSE, max_gradient_norm=norm / 4))
    assert told == norm
    np.testing.assert_allclose(bounded, free / 4, rtol=1e-5, atol=1e-7)


def test_a_gradient_that_is_not_finite_says_so_in_its_norm() -> None:
    flat, policy = network()
    part = one_pass(LOOSE)[0]
    part.returns[0] = torch.nan
    assert math.isnan(gradient(flat, policy, part, LOOSE)[2])


def test_weights_loaded_between_minibatches_count() -> None:
    flat, policy = network()
    part = one_pass(LOOSE)[0]
    before = gradient(flat, policy, part, LOOSE)[0].copy()
    flat.load(flat.vector() * np.float32(0.5))
    assert not np.array_equal(gradient(flat, policy, part, LOOSE)[0], before)
