"""The small networks: the hand-written numpy passes held to their definition in torch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch

from actor.config import ActorSettings
from actor.networks.build import build_policy
from actor.networks.flat import FlatParameters
from actor.networks.mlp import Perceptrons
from actor.networks.policy import Inputs
from actor.spaces import Actions, Spaces
from tests.actor.counter import box, discrete, vectors
from tests.actor.networks.plain import PlainPerceptrons

Activation = Literal["tanh", "relu"]
THREE, TWO_REALS = discrete(3), box((-1.0, -np.inf), (1.0, np.inf))
PARTS = discrete(2, 3)
NO_STATE = np.zeros((11, 0), np.float32)


def network(seed: int = 0, actions: Actions = THREE, **options: Any) -> tuple[Perceptrons, FlatParameters]:
    settings = ActorSettings(**{"hidden": (7, 6), **options})
    policy, flat = build_policy(settings, vectors(5, actions), seed)
    assert isinstance(policy, Perceptrons)
    return policy, flat


def observations(rows: int = 11) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 5)).astype(np.float32)


def loaded(flat: FlatParameters) -> None:
    """Weights far from the first ones."""
    rng = np.random.default_rng(2)
    flat.load(rng.standard_normal(flat.layout().length).astype(np.float32) * np.float32(0.5))


@pytest.mark.parametrize(("actions", "outputs"), [(THREE, 3), (PARTS, 5), (TWO_REALS, 4)])
def test_shapes_of_the_two_heads(actions: Actions, outputs: int) -> None:
    policy, _ = network(actions=actions)
    given, values, _ = policy.forward_pass(Inputs(observations()))
    assert values is not None
    assert (given.shape, values.shape, policy.outputs, policy.state_size) == ((11, outputs), (11,), outputs, 0)


def test_the_same_seed_makes_the_same_network() -> None:
    first, second, other = (network(seed)[1].vector() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_initial_weights_are_orthogonal_with_the_head_gains_and_no_bias() -> None:
    parameters = network()[0].arrays()
    for name, gain in {"policy.weight1": 2**0.5, "policy.weight2": 0.01, "value.weight2": 1.0}.items():
        rows = parameters[name]
        np.testing.assert_allclose(rows @ rows.T, gain**2 * np.eye(len(rows)), atol=1e-5)
    assert all(not parameter.any() for name, parameter in parameters.items() if "bias" in name)


def test_action_values_are_one_trunk_whose_head_has_the_gain_of_values() -> None:
    policy, flat = network(algorithm="n_step_q")
    assert [entry.name.split(".")[0] for entry in flat.layout().entries] == ["policy"] * 6
    head = policy.arrays()["policy.weight2"]
    np.testing.assert_allclose(head @ head.T, np.eye(3), atol=1e-5)
    outputs, values, _ = policy.forward_pass(Inputs(observations()))
    assert (outputs.shape, values, policy.has_values) == ((11, 3), None, False)


def test_a_gaussian_policy_begins_with_the_deviation_that_settings_ask_for() -> None:
    policy, flat = network(actions=TWO_REALS, log_deviation=-0.5)
    assert next((e.name, e.shape) for e in flat.layout().entries) == ("log_deviations", (2,))
    outputs, _ = policy.act(observations(), NO_STATE)
    np.testing.assert_array_equal(outputs[:, 2:], np.full((11, 2), -0.5, np.float32))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (6,), (7, 6)])
@pytest.mark.parametrize("actions", [THREE, TWO_REALS], ids=["discrete", "box"])
@pytest.mark.parametrize("algorithm", ["a3c", "n_step_q"])
def test_numpy_passes_are_torch_and_its_autograd(
    activation: Activation, hidden: tuple[int, ...], actions: Actions, algorithm: Literal["a3c", "n_step_q"]
) -> None:
    if algorithm != "a3c" and actions.kind == "box":
        return
    policy, flat = network(actions=actions, activation=activation, hidden=hidden, algorithm=algorithm)
    loaded(flat)
    seen, rng = observations(), np.random.default_rng(5)
    by_outputs = rng.standard_normal((11, policy.outputs)).astype("f4")
    by_values = rng.standard_normal(11).astype("f4") if policy.has_values else None

    plain = PlainPerceptrons(flat, activation)
    outputs, values = plain(seen)
    ends, output_gradients = [outputs], [torch.from_numpy(by_outputs)]
    if by_values is not None:
        ends, output_gradients = [outputs, values], [*output_gradients, torch.from_numpy(by_values)]
    torch.autograd.backward(ends, output_gradients)
    flat.gradient[:] = 7.0  # it is overwritten
    fast_outputs, fast_values, tape = policy.forward_pass(Inputs(seen))
    policy.backward_pass(tape, by_outputs, by_values)

    np.testing.assert_allclose(fast_outputs, outputs.detach().numpy(), atol=1e-5)
    if by_values is not None:
        assert fast_values is not None
        np.testing.assert_allclose(fast_values, values.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(flat.gradient, plain.gradient(), rtol=1e-4, atol=1e-5)


def test_passes_over_arrays_leave_the_observations_alone() -> None:
    policy, seen = network()[0], observations()
    *_, tape = policy.forward_pass(Inputs(seen))
    policy.backward_pass(tape, np.ones((11, 3), np.float32), np.ones(11, np.float32))
    assert np.array_equal(seen, observations())


def test_acting_sees_weights_loaded_later() -> None:
    policy, flat = network()
    before, _ = policy.act(observations(), NO_STATE)
    loaded(flat)
    after, _ = policy.act(observations(), NO_STATE)
    assert not np.array_equal(before, after)
    flat.load(np.zeros(flat.layout().length, np.float32))
    assert not policy.act(observations(), NO_STATE)[0].any()
    assert not policy.values(observations(), NO_STATE).any()
    assert policy.values(observations(), NO_STATE).shape == (11,)


def test_images_are_parts_of_one_to_a_network_of_vectors() -> None:
    image = np.random.default_rng(0).integers(0, 256, (11, 2, 3, 1), np.uint8)
    policy, _ = build_policy(ActorSettings(hidden=(7,)), Spaces((2, 3, 1), "uint8", THREE), 0)
    flat_policy, _ = build_policy(ActorSettings(hidden=(7,)), vectors(6, THREE), 0)
    expected, _ = flat_policy.act(image.reshape(11, 6).astype(np.float32) / np.float32(255), NO_STATE)
    np.testing.assert_allclose(policy.act(policy.prepare(image), NO_STATE)[0], expected, rtol=1e-5, atol=1e-7)


PONG = Spaces((4, 84, 84), "uint8", discrete(6))
