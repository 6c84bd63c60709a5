"""What merged statistics make of observations and rewards."""

from __future__ import annotations

import numpy as np
import pytest

from actor.algorithms.normalization import alike, moments_size, normalization
from actor.config import ActorSettings
from actor.environments.registry import describe
from protocol.moments import Moments

MOMENTS = Moments(100, np.array([1.0, -2.0, 5.0]), np.array([400.0, 100.0, 2500.0]))


@pytest.mark.parametrize(
    ("observations", "returns", "size"), [(False, False, 0), (True, False, 4), (False, True, 1), (True, True, 5)]
)
def test_the_size_of_the_moments(observations: bool, returns: bool, size: int) -> None:
    settings = ActorSettings(normalize_observations=observations, normalize_returns=returns)
    assert moments_size(settings, describe(settings, frozenset())) == size


def test_the_last_of_the_moments_is_of_returns_and_is_not_centred() -> None:
    both = ActorSettings(normalize_observations=True, normalize_returns=True)
    normalizer, scale = normalization(both, MOMENTS)
    assert normalizer is not None
    np.testing.assert_allclose(normalizer.mean, [1.0, -2.0])
    np.testing.assert_allclose(normalizer.scale, [0.5, 1.0], rtol=1e-6)
    assert scale == pytest.approx(0.2)
    normalizer, scale = normalization(ActorSettings(normalize_observations=True), MOMENTS)
    assert normalizer is not None
    assert (len(normalizer.mean), scale) == (3, 1.0)
    alone = Moments(100, MOMENTS.mean[2:], MOMENTS.m2[2:])
    normalizer, scale = normalization(ActorSettings(normalize_returns=True), alone)
    assert normalizer is None
    assert scale == pytest.approx(0.2)


def test_units_that_are_near_each_other_are_alike() -> None:
    both = ActorSettings(normalize_observations=True, normalize_returns=True)
    found = normalization(both, MOMENTS)
    spread = MOMENTS.m2 * np.array([1.0, 1.0, 1.4])
    moved = MOMENTS.mean + np.array([0.4, 0.0, 0.0])  # of a deviation of 2
    wider = MOMENTS.m2 * np.array([1.0, 2.0, 1.0])
    assert alike(found, found)
    assert alike((None, 1.0), (None, 1.0))
    assert alike(found, normalization(both, Moments(100, moved, spread)))
    assert not alike((None, 1.0), found)
    assert not alike(found, normalization(both, Moments(100, MOMENTS.mean + np.array([0.6, 0.0, 0.0]), MOMENTS.m2)))
    assert not alike(found, normalization(both, Moments(100, MOMENTS.mean, wider)))
    assert not alike(found, normalization(both, Moments(100, MOMENTS.mean, MOMENTS.m2 * np.array([1.0, 1.0, 2.0]))))
    assert not alike((None, 1.0), (None, 2.0))
