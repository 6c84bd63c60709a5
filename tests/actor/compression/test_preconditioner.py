"""Adam's direction against the paper's loop, and momentum that staleness takes the place of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actor.compression.preconditioner import Momentum, Preconditioner
from tests.actor.compression.test_selection import gradients


def test_momentum_is_less_where_gradients_are_late() -> None:
    momentum = Momentum(0.9, most_lag=48.0)
    assert momentum.beta1 == 0.9
    for lag, beta1 in ((1, 0.9), (15, 1.0 - 16.0 / 48.0), (47, 0.0), (500, 0.0), (1, 0.9)):
        momentum.record_lags([lag] * 1000)
        assert momentum.beta1 == pytest.approx(beta1, abs=1e-6)


def test_momentum_follows_slowly() -> None:
    momentum = Momentum(0.9, most_lag=48.0)
    momentum.record_lags([20] * 100)
    before = momentum.beta1
    momentum.record_lags([60])
    assert 0.0 < before - momentum.beta1 < 0.05


def test_one_late_answer_at_first_is_soon_forgotten() -> None:
    momentum = Momentum(0.5, most_lag=48.0)
    momentum.record_lags([400])
    assert momentum.beta1 == 0.0
    momentum.record_lags([2] * 30)
    assert momentum.beta1 == 0.5


def test_momentum_stays_without_news_and_without_a_bound() -> None:
    momentum = Momentum(0.9, most_lag=48.0)
    momentum.record_lags([])
    assert momentum.beta1 == 0.9
    bound = Momentum(0.9)
    bound.record_lags([500] * 1000)
    assert bound.beta1 == 0.9


def test_a_changing_momentum_stays_unbiased() -> None:
    """Equal gradients give equal directions, whatever β1 was: the factors' sum divides."""
    momentum = Momentum(0.9, most_lag=48.0)
    preconditioner = Preconditioner(2, momentum, 0.999, 1e-8)
    for lag in (0, 10, 40, 100, 5, 0):
        momentum.record_lags([lag] * 200)
        assert preconditioner.update(np.array([2.0, -0.5], np.float32)).tolist() == pytest.approx([1.0, -1.0], abs=1e-5)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_the_preconditioner_is_adams_direction(beta1: float) -> None:
    beta2, epsilon, length = 0.99, 1e-5, 6
    preconditioner = Preconditioner(length, Momentum(beta1), beta2, epsilon)
    m, v = [0.0] * length, [0.0] * length
    for t, gradient in enumerate(gradients(30, length), start=1):
        update = preconditioner.update(gradient)
        for i, g in enumerate(gradient.tolist()):  # Kingma and Ba 2015, algorithm 1
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
            assert update[i] == pytest.approx(m_hat / (math.sqrt(v_hat) + epsilon), rel=1e-4, abs=1e-5)


def test_the_preconditioner_leaves_the_gradient_alone_and_zero_at_zero() -> None:
    gradient = np.array([0.0, 2.0], np.float32)
    update = Preconditioner(2, Momentum(0.9), 0.999, 1e-5).update(gradient)
    assert gradient.tolist() == [0.0, 2.0]
    assert update.tolist() == [0.0, pytest.approx(1.0, rel=1e-4)]
