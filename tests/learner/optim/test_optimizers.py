"""Each optimizer against the plain loop of its paper, and its state against a second life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from learner.config import LearnerSettings, learner_settings
from learner.optim.optimizers import GradientBuffer, Optimizer, StateMismatch, make_optimizer
from protocol.codecs.registry import Sparse
from protocol.updates import BLOCK

P = 37
NAMES = ["preconditioned", "adam", "adamw", "lion", "rmsprop", "rmsprop_paper", "sgd"]
BESIDE = {"sgd": {"momentum": 0.9}, "adamw": {"weight_decay": 0.5}, "lion": {"weight_decay": 0.5}}  # so that it tells
Oracle = Callable[[list[np.ndarray], Any, float, float], np.ndarray]


def settings(name: str, **more: Any) -> LearnerSettings:
    return learner_settings({"optimizer": name, **BESIDE.get(name, {}), **more})


def gradients(count: int, length: int = P) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.standard_normal(length).astype(np.float32) for _ in range(count)]


def trained(name: str, values: list[Any], rate: float, scale: float, **more: Any) -> tuple[np.ndarray, Optimizer]:
    theta = np.zeros(P, np.float32)
    optimizer = make_optimizer(settings(name, **more), theta)
    for value in values:
        optimizer.step(value, rate, scale)
    return theta, optimizer


def preconditioned(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    theta = np.zeros(P)
    for u in values:
        theta -= rate * scale * u
    return theta


def adam(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1; staleness multiplies α."""
    theta, m, v = np.zeros(P), np.zeros(P), np.zeros(P)
    for t, g in enumerate(values, start=1):
        m = s.beta1 * m + (1 - s.beta1) * g
        v = s.beta2 * v + (1 - s.beta2) * g**2
        m_hat, v_hat = m / (1 - s.beta1**t), v / (1 - s.beta2**t)
        theta -= rate * scale * m_hat / (np.sqrt(v_hat) + s.epsilon)
    return theta


def adamw(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    """Loshchilov and Hutter 2019, algorithm 2, with the decay's factor as torch has it: times the rate."""
    theta, m, v = np.zeros(P), np.zeros(P), np.zeros(P)
    for t, g in enumerate(values, start=1):
        theta -= rate * scale * s.weight_decay * theta
        m = s.beta1 * m + (1 - s.beta1) * g
        v = s.beta2 * v + (1 - s.beta2) * g**2
        m_hat, v_hat = m / (1 - s.beta1**t), v / (1 - s.beta2**t)
        theta -= rate * scale * m_hat / (np.sqrt(v_hat) + s.epsilon)
    return theta


def lion(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    """Chen et al. 2023, algorithm 2; staleness multiplies η."""
    theta, m = np.zeros(P), np.zeros(P)
    for g in values:
        for i in range(P):
            c = s.beta1 * m[i] + (1 - s.beta1) * g[i]
            direction = 1.0 if c > 0 else -1.0 if c < 0 else 0.0
            theta[i] -= rate * scale * (direction + s.weight_decay * theta[i])
            m[i] = s.beta2 * m[i] + (1 - s.beta2) * g[i]
    return theta


def rmsprop(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    """Tieleman and Hinton 2012, ε outside the root."""
    theta, square = np.zeros(P), np.zeros(P)
    for g in values:
        square = s.rho * square + (1 - s.rho) * g**2
        theta -= rate * scale * g / (np.sqrt(square) + s.epsilon)
    return theta


def rmsprop_paper(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    """Mnih et al. 2016, equations 8 and 9, ε inside the root."""
    theta, g = np.zeros(P), np.zeros(P)
    for delta in values:
        g = s.rho * g + (1 - s.rho) * delta**2
        theta -= rate * scale * delta / np.sqrt(g + s.epsilon)
    return theta


def sgd(values: list[np.ndarray], s: Any, rate: float, scale: float) -> np.ndarray:
    """Heavy ball; staleness multiplies the gradient."""
    theta, velocity = np.zeros(P), np.zeros(P)
    for g in values:
        velocity = s.momentum * velocity + scale * g
        theta -= rate * velocity
    return theta


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("oracle", [preconditioned, adam, adamw, lion, rmsprop, rmsprop_paper, sgd], ids=NAMES)
def test_the_oracle_agrees(oracle: Oracle, scale: float) -> None:
    values = gradients(20)
    theta, _ = trained(oracle.__name__, values, 1e-2, scale)
    expected = oracle([value.astype(np.float64) for value in values], settings(oracle.__name__).optimizer, 1e-2, scale)
    np.testing.assert_allclose(theta, expected, rtol=2e-5, atol=1e-6)


def test_epsilon_lies_inside_the_root_in_the_paper_and_outside_in_torch() -> None:
    tiny = [np.full(P, 1e-6, np.float32)]
    inside, _ = trained("rmsprop_paper", tiny, 1.0, 1.0, epsilon=0.1)
    outside, _ = trained("rmsprop", tiny, 1.0, 1.0, epsilon=0.1)
    np.testing.assert_allclose(inside, -1e-6 / np.sqrt(0.1), rtol=1e-4)
    np.testing.assert_allclose(outside, -1e-6 / 0.1, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_sparse_value_does_what_its_dense_form_does(name: str) -> None:
    sparse = Sparse(P, np.array([0, 5, 36], np.int32), np.array([1.0, -2.0, 0.5], np.float32))
    first = gradients(1)[0]
    by_sparse, _ = trained(name, [first, sparse, first], 1e-2, 0.5)
    by_dense, _ = trained(name, [first, sparse.dense(), first], 1e-2, 0.5)
    np.testing.assert_array_equal(by_sparse, by_dense)


def test_addition_leaves_other_coordinates_alone_to_the_bit() -> None:
    theta = gradients(1)[0]
    before = theta.copy()
    sparse = Sparse(P, np.array([3, 4], np.int32), np.array([1.0, np.pi], np.float32))
    make_optimizer(settings("preconditioned"), theta).step(sparse, 0.3, 0.5)
    before[[3, 4]] -= np.float32(0.15) * sparse.values
    np.testing.assert_array_equal(theta, before)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_the_decay_is_the_rates_and_no_gradients(name: str) -> None:
    """Decoupled: θ shrinks by rate · scale · λ and where no gradient came it shrinks alone."""
    theta = np.linspace(-1.0, 1.0, P, dtype=np.float32)
    before = theta.copy()
    make_optimizer(settings(name), theta).step(np.zeros(P, np.float32), 0.1, 0.25)
    np.testing.assert_allclose(theta, before * (1.0 - 0.1 * 0.25 * 0.5), rtol=1e-6)


def test_an_adamw_without_decay_is_adam_to_the_bit() -> None:
    np.testing.assert_array_equal(
        trained("adamw", gradients(9), 1e-2, 0.5, weight_decay=0.0)[0], trained("adam", gradients(9), 1e-2, 0.5)[0]
    )


def test_a_lion_steps_alike_for_gradients_of_any_size() -> None:
    small, large = ([value * np.float32(by) for value in gradients(9)] for by in (2.0**-20, 2.0**20))
    np.testing.assert_array_equal(trained("lion", small, 1e-2, 1.0)[0], trained("lion", large, 1e-2, 1.0)[0])


@pytest.mark.parametrize("name", ["preconditioned", "rmsprop_paper", "lion"])
def test_blocks_meet_without_a_seam(name: str) -> None:
    length = 2 * BLOCK + 3
    theta, value = np.zeros(length, np.float32), np.ones(length, np.float32)
    optimizer = make_optimizer(settings(name), theta)
    optimizer.step(value, 0.1, 1.0)
    assert theta[0] < 0
    assert np.unique(theta).size == 1


@pytest.mark.parametrize("name", NAMES)
def test_read_only_bytes_are_taken_and_left_as_they_are(name: str) -> None:
    value = np.frombuffer(gradients(1)[0].tobytes(), np.float32)
    kept = value.copy()
    theta, _ = trained(name, [value, value], 1e-2, 0.5)
    assert (theta != 0).all()
    np.testing.assert_array_equal(value, kept)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [0, 3])
def test_a_second_life_continues_to_the_bit(name: str, before: int) -> None:
    values = gradients(6)
    whole, _ = trained(name, values, 1e-2, 0.5)
    theta, optimizer = trained(name, values[:before], 1e-2, 0.5)
    saved, again = optimizer.state(), theta.copy()
    for value in values[before:]:
        optimizer.step(value, 1e-2, 0.5)  # what was saved is a copy: going on does not change it
    second = make_optimizer(settings(name), again)
    second.restore(saved)
    for value in values[before:]:
        second.step(value, 1e-2, 0.5)
    np.testing.assert_array_equal(again, whole)


def test_torch_is_held_to_one_thread() -> None:
    import torch

    torch.set_num_threads(2)
    make_optimizer(settings("adam"), np.zeros(P, np.float32))
    assert torch.get_num_threads() == 1


def test_the_state_of_another_optimizer_or_network_is_refused_by_name() -> None:
    _, optimizer = trained("adam", gradients(1), 1e-2, 1.0)
    with pytest.raises(StateMismatch, match=r"exp_avg.* needs absent"):
        make_optimizer(settings("preconditioned"), np.zeros(P, np.float32)).restore(optimizer.state())
    with pytest.raises(StateMismatch, match=r"'exp_avg' is float32 \[37\]; this experiment needs float32 \[38\]"):
        make_optimizer(settings("adam"), np.zeros(P + 1, np.float32)).restore(optimizer.state())


def test_a_long_gradient_is_shrunk_to_its_bound_before_the_scale() -> None:
    buffer = GradientBuffer(2, max_norm=1.0)
    np.testing.assert_allclose(buffer.take(np.array([3.0, 4.0], np.float32), 0.5), [0.3, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(buffer.take(np.array([0.5, 0.5], np.float32), 1.0), [0.5, 0.5])
    np.testing.assert_array_equal(buffer.take(np.zeros(2, np.float32), 1.0), [0.0, 0.0])
    sparse = Sparse(2, np.array([1], np.int32), np.array([-2.0], np.float32))
    np.testing.assert_array_equal(buffer.take(sparse, 1.0), [0.0, -1.0])
