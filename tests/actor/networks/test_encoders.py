"""Images within vectors: against plain modules that see the images themselves, and through a rollout."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor
from torch.nn import functional

from actor.algorithms.distributions import distribution
from actor.algorithms.rollout import Collector
from actor.config import ActorSettings
from actor.environments.registry import make_vector_envs
from actor.networks.build import build_policy
from actor.networks.policy import IMAGE_NETWORKS, Inputs
from actor.networks.torch_policy import TorchPolicy
from actor.spaces import Part, Spaces
from tests.actor.counter import discrete

THREE = discrete(3)
GRID = IMAGE_NETWORKS["grid"]


def network(*parts: Part, **options: Any) -> tuple[TorchPolicy, Any]:
    spaces = Spaces((sum(part.size for part in parts),), "float32", THREE, parts=parts)
    settings = ActorSettings(**{"network": "grid", "precision": "fp32", "hidden": (9,), **options})
    policy, flat = build_policy(settings, spaces, 0)
    assert isinstance(policy, TorchPolicy)
    return policy, flat


def looked_at(planes: Tensor, weights: list[Tensor]) -> Tensor:
    """What the convolutions make of images [N, C, H, W], with the weights at the front of the list."""
    for _, _, stride in GRID[0]:
        planes = functional.relu(functional.conv2d(planes, weights.pop(0), weights.pop(0), stride))
    return functional.relu(functional.linear(planes.permute(0, 2, 3, 1).flatten(1), weights.pop(0), weights.pop(0)))


PLACES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {  # shape, and where batch, channels, rows, columns are
    "channels last": ((8, 9, 3), (0, 3, 1, 2)),
    "channels first": ((3, 8, 9), (0, 1, 2, 3)),
}


@pytest.mark.parametrize("order", [*PLACES, "grey"])
def test_an_image_and_numbers_are_seen_through_convolutions_and_layers(order: str) -> None:
    shape, places = PLACES.get(order, ((8, 9), ()))
    parts = Part("a", 0, (2,)), Part("b", 2, shape, "uint8", 1 / 255), Part("c", 2 + int(np.prod(shape)), (1, 2))
    policy, flat = network(*parts)
    rows = np.random.default_rng(0).standard_normal((4, policy.input_shape[0])).astype(np.float32)
    rows[:, 2:-2] = np.random.default_rng(1).integers(0, 256, rows[:, 2:-2].shape)
    weights = [parameter.detach().clone().requires_grad_() for parameter in policy.parameters()]
    left, seen = list(weights), torch.from_numpy(rows)
    image = seen[:, 2:-2].reshape(4, *shape)
    image = image.permute(*places) if places else image.unsqueeze(1)
    features = torch.cat([looked_at(image / 255, left), seen[:, :2], seen[:, -2:]], 1)
    features = torch.tanh(functional.linear(features, left.pop(0), left.pop(0)))
    expected = functional.linear(features, left.pop(0), left.pop(0))
    expected_values = functional.linear(features, left.pop(0), left.pop(0)).squeeze(1)
    assert not left
    outputs, values, tape = policy.forward_pass(Inputs(rows))
    assert values is not None
    np.testing.assert_allclose(outputs, expected.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, expected_values.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(policy.act(rows, np.zeros((4, 0), np.float32))[0], outputs, rtol=1e-5, atol=1e-6)
    slopes = np.random.default_rng(2).standard_normal((4, 4)).astype(np.float32)
    torch.autograd.backward(
        [expected, expected_values], [torch.from_numpy(slopes[:, :3]), torch.from_numpy(slopes[:, 3])]
    )
    policy.backward_pass(tape, np.ascontiguousarray(slopes[:, :3]), np.ascontiguousarray(slopes[:, 3]))
    gradient = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]).numpy()
    np.testing.assert_allclose(flat.gradient, gradient, atol=1e-4 * np.abs(gradient).max())


def test_two_images_without_numbers_are_their_features_side_by_side() -> None:
    parts = Part("a", 0, (7, 7), "uint8", 1 / 255), Part("b", 49, (8, 8), "uint8", 1.0)
    policy, _ = network(*parts)
    rows = np.random.default_rng(1).integers(0, 256, (4, 113)).astype(np.float32)
    weights = [parameter.detach() for parameter in policy.parameters()]
    seen = torch.from_numpy(rows)
    first = looked_at(seen[:, :49].reshape(4, 1, 7, 7) / 255, weights)
    second = looked_at(seen[:, 49:].reshape(4, 1, 8, 8), weights)
    expected = functional.linear(torch.cat([first, second], 1), weights.pop(0), weights.pop(0))
    np.testing.assert_allclose(policy.act(rows, np.zeros((4, 0), np.float32))[0], expected, rtol=1e-4, atol=1e-3)


def test_acting_sees_new_weights_and_a_memory_goes_behind() -> None:
    policy, flat = network(Part("a", 0, (7, 7), "uint8", 1 / 255), memory="gru", memory_size=4)
    rows = np.random.default_rng(1).integers(0, 256, (4, 49)).astype(np.float32)
    before = policy.act(rows, np.zeros((4, 4), np.float32))[0]
    flat.load(flat.vector() * np.float32(2.0))
    policy.weights_changed()
    assert not np.array_equal(policy.act(rows, np.zeros((4, 4), np.float32))[0], before)


class Shower(gymnasium.Env[dict[str, np.ndarray], Any]):
    """Shows an image of its step's number and a large number; never ends."""

    observation_space: Any = Dict(image=Box(0, 255, (8, 8), np.uint8), size=Box(-1e6, 1e6, (1,), np.float64))
    action_space = gymnasium.spaces.Discrete(3)
    taken = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.taken = 0
        return self.show(), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self.taken += 1
        return self.show(), 0.0, False, False, {}

    def show(self) -> dict[str, np.ndarray]:
        return {"image": np.full((8, 8), self.taken, np.uint8), "size": np.array([1000.0 * self.taken])}


def test_statistics_of_a_rollout_are_of_the_numbers_beside_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("Shower-v0", entry_point=lambda **_: Shower())
    monkeypatch.setitem(gymnasium.registry, "Shower-v0", spec)
    settings = ActorSettings(env="Shower-v0", envs=2, rollout_steps=4, normalize_returns=False)
    groups = make_vector_envs(settings, frozenset())
    policy, _ = build_policy(settings, groups[0].spaces, 0)
    rollout = Collector(groups, policy, distribution(groups[0].spaces.actions), settings, 0).collect()
    groups[0].close()
    assert rollout.observations.shape == (5, 2, 65)
    assert rollout.moments is not None
    count, mean, m2 = rollout.moments
    assert (count, mean.tolist()) == (8, [1500.0])
    np.testing.assert_allclose(m2, [8 * np.var([0.0, 1000.0, 2000.0, 3000.0])])
