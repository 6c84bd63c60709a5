"""The network: its definition in torch, and the hand-written numpy passes held to it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from actor.flat import FlatModule
from actor.policy import ActorCritic, log_softmax

Activation = Literal["tanh", "relu"]


def network(seed: int = 0, activation: Activation = "tanh", hidden: tuple[int, ...] = (7, 6)) -> ActorCritic:
    return ActorCritic(5, 3, hidden, activation, torch.Generator().manual_seed(seed))


def observations(rows: int = 11) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 5)).astype(np.float32)


def test_shapes_of_the_two_heads() -> None:
    logits, values = network()(torch.from_numpy(observations()))
    assert (logits.shape, values.shape) == ((11, 3), (11,))


def test_the_same_generator_makes_the_same_network_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = network(3), network(3), network(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_initial_weights_are_orthogonal_with_the_head_gains_and_no_bias() -> None:
    parameters = dict(network().named_parameters())
    for name, gain in {"policy.weight1": 2**0.5, "policy.weight2": 0.01, "value.weight2": 1.0}.items():
        rows = parameters[name].detach().numpy()
        np.testing.assert_allclose(rows @ rows.T, gain**2 * np.eye(len(rows)), atol=1e-5)
    assert all(not parameter.any() for name, parameter in parameters.items() if "bias" in name)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (6,), (7, 6)])
def test_numpy_passes_are_torch_and_its_autograd(activation: Activation, hidden: tuple[int, ...]) -> None:
    policy = network(activation=activation, hidden=hidden)
    flat = FlatModule(policy)
    flat.load(np.random.default_rng(2).standard_normal(flat.layout().length).astype(np.float32) * np.float32(0.5))
    seen = observations()
    rng = np.random.default_rng(5)
    by_logits, by_values = rng.standard_normal((11, 3)).astype("f4"), rng.standard_normal(11).astype("f4")

    logits, values = policy(torch.from_numpy(seen))
    torch.autograd.backward((logits, values), (torch.from_numpy(by_logits), torch.from_numpy(by_values)))
    expected = flat.gradient_vector().copy()
    fast_logits, fast_values, tape = policy.forward_pass(seen)
    policy.backward_pass(tape, by_logits, by_values)

    np.testing.assert_allclose(fast_logits, logits.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(fast_values, values.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(flat.gradient_vector(), expected, rtol=1e-4, atol=1e-5)


def test_passes_over_arrays_leave_the_observations_alone() -> None:
    policy, seen = network(), observations()
    FlatModule(policy)
    *_, tape = policy.forward_pass(seen)
    policy.backward_pass(tape, np.ones((11, 3), np.float32), np.ones(11, np.float32))
    assert np.array_equal(seen, observations())


def test_functions_see_weights_loaded_later_and_a_rehomed_network() -> None:
    policy, seen = network(), observations()
    before = policy.policy_function()(seen)
    flat = FlatModule(policy)
    act, judge = policy.policy_function(), policy.value_function()
    np.testing.assert_array_equal(act(seen), before)
    flat.load(np.zeros(flat.layout().length, np.float32))
    assert not act(seen).any()
    assert not judge(seen).any()
    assert judge(seen).shape == (11,)


def test_log_softmax_is_torchs_also_for_large_logits() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0], [0.5, 0.25, 0.0]], np.float32)
    np.testing.assert_allclose(log_softmax(logits), torch.log_softmax(torch.from_numpy(logits), 1), rtol=1e-5)
