"""What merged statistics make of observations and rewards."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from actor.algorithms.normalization import alike, moments_size, normalization
from actor.config import ActorSettings
from actor.environments.registry import describe
from actor.spaces import Part, Spaces
from protocol.moments import MAX_OBSERVATION, Moments
from tests.actor.counter import discrete, vectors

VECTORS = vectors(2, discrete(2))
MOMENTS = Moments(100, np.array([1.0, -2.0, 5.0]), np.array([400.0, 100.0, 2500.0]))


@pytest.mark.parametrize(
    ("observations", "returns", "size"), [(False, False, 0), (True, False, 4), (False, True, 1), (True, True, 5)]
)
def test_the_size_of_the_moments(observations: bool, returns: bool, size: int) -> None:
    settings = ActorSettings(normalize_observations=observations, normalize_returns=returns)
    assert moments_size(settings, describe(settings, frozenset())) == size


def test_the_last_of_the_moments_is_of_returns_and_is_not_centred() -> None:
    both = ActorSettings(normalize_observations=True, normalize_returns=True)
    normalizer, scale = normalization(both, VECTORS, MOMENTS)
    assert normalizer is not None
    np.testing.assert_allclose(normalizer.mean, [1.0, -2.0])
    np.testing.assert_allclose(normalizer.scale, [0.5, 1.0], rtol=1e-6)
    assert scale == pytest.approx(0.2)
    normalizer, scale = normalization(
        ActorSettings(normalize_observations=True, normalize_returns=False), VECTORS, MOMENTS
    )
    assert normalizer is not None
    assert (len(normalizer.mean), scale) == (3, 1.0)
    alone = Moments(100, MOMENTS.mean[2:], MOMENTS.m2[2:])
    normalizer, scale = normalization(ActorSettings(normalize_observations=False), VECTORS, alone)
    assert normalizer is None
    assert scale == pytest.approx(0.2)


def test_pixels_that_are_seen_as_an_image_have_no_statistics_and_stay() -> None:
    """A vector of an image of 7 x 7, between a number and a choice of two."""
    parts = (Part("a", 0, (1,)), Part("b", 1, (7, 7), "uint8", 1 / 255), Part("c", 50, (2,)))
    spaces = Spaces((52,), "float32", discrete(2), choices=((50, 2),), parts=parts)
    settings = ActorSettings(network="grid", normalize_observations=True, normalize_returns=False)
    assert moments_size(settings, spaces) == 3
    assert moments_size(msgspec.structs.replace(settings, network="mlp"), spaces) == 52
    assert moments_size(msgspec.structs.replace(settings, network="my_nets:Net"), spaces) == 3
    normalizer, _ = normalization(
        settings, spaces, Moments(100, np.array([1.0, 0.1, 0.9]), np.array([400.0, 1.0, 1.0]))
    )
    assert normalizer is not None
    raw = np.full((2, 52), 200.0, np.float32)
    raw[:, 0], raw[:, 50:] = 3.0, (0.0, 1.0)
    out = raw.copy()
    normalizer.apply(raw, out)
    np.testing.assert_array_equal(out[:, 1:], raw[:, 1:])
    np.testing.assert_allclose(out[:, 0], 1.0, rtol=1e-5)
    assert raw[0, 0] == 3.0


def test_pixels_alone_have_nothing_to_normalise() -> None:
    spaces = Spaces((49,), "float32", discrete(2), parts=(Part("", 0, (7, 7), "uint8", 1 / 255),))
    assert moments_size(ActorSettings(), spaces) == 1
    assert moments_size(ActorSettings(network="mlp"), spaces) == 50


def test_units_that_are_near_each_other_are_alike() -> None:
    both = ActorSettings(normalize_observations=True, normalize_returns=True)
    found = normalization(both, VECTORS, MOMENTS)
    spread = MOMENTS.m2 * np.array([1.0, 1.0, 1.4])
    moved = MOMENTS.mean + np.array([0.4, 0.0, 0.0])  # of a deviation of 2
    wider = MOMENTS.m2 * np.array([1.0, 2.0, 1.0])
    assert alike(found, found)
    assert alike((None, 1.0), (None, 1.0))
    assert alike(found, normalization(both, VECTORS, Moments(100, moved, spread)))
    assert not alike((None, 1.0), found)
    assert not alike(
        found, normalization(both, VECTORS, Moments(100, MOMENTS.mean + np.array([0.6, 0.0, 0.0]), MOMENTS.m2))
    )
    assert not alike(found, normalization(both, VECTORS, Moments(100, MOMENTS.mean, wider)))
    assert not alike(
        found, normalization(both, VECTORS, Moments(100, MOMENTS.mean, MOMENTS.m2 * np.array([1.0, 1.0, 2.0])))
    )
    assert not alike((None, 1.0), (None, 2.0))


def test_a_choice_is_seen_as_it_is_however_rarely_it_is_made() -> None:
    mixed = Spaces((4,), "float32", discrete(2), choices=((1, 2),))
    settings = ActorSettings(normalize_observations=True, normalize_returns=False)
    rarely = Moments(100, np.array([1.0, 0.01, 0.99, 3.0]), np.array([400.0, 1.0, 1.0, 100.0]))
    normalizer, _ = normalization(settings, mixed, rarely)
    assert normalizer is not None
    np.testing.assert_allclose(normalizer.mean, [1.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(normalizer.scale, [0.5, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(rarely.mean[1:3], [0.01, 0.99])
    former, _ = normalization(msgspec.structs.replace(settings, defaults=1), mixed, rarely)
    assert former is not None
    assert former.scale[1] == pytest.approx(10.0, rel=1e-3), "a run of the first edition sees what it saw"


@pytest.mark.parametrize(
    ("mean", "deviation", "seen_mean", "scale"),
    [
        (0.5, 0.3, 0.0, 1.0),  # as it is
        (0.0, 0.2, 0.0, 1.0),
        (0.0, 40.0, 0.0, 1 / 40),
        (30.0, 40.0, 0.0, 1 / 50),
        (0.0, 0.001, 0.0, 100.0),  # to a tenth
        (1e6, 0.5, 1e6, 1.0),  # what differs is seen, from where it is
        (1000.0, 100.0, 1000.0, 1 / 100),
        (2.9, 0.01, 0.0, 1 / 2.9),
        (0.0, 0.0, 0.0, 1.0),  # never seen to change
        (7.0, 0.0, 7.0, 1.0),
    ],
)
def test_numbers_of_about_one_are_left_as_they_are(
    mean: float, deviation: float, seen_mean: float, scale: float
) -> None:
    settings = ActorSettings(normalize_returns=False)
    moments = Moments(1000, np.array([mean]), np.array([1000 * deviation**2]))
    normalizer, _ = normalization(settings, vectors(1, discrete(2)), moments)
    assert normalizer is not None
    assert normalizer.mean[0] == pytest.approx(seen_mean)
    assert normalizer.scale[0] == pytest.approx(scale, rel=1e-2)


def test_an_observation_too_large_for_a_message_is_not_normalised_unless_that_is_asked_for() -> None:
    settings = ActorSettings(normalize_returns=False)
    assert moments_size(settings, vectors(MAX_OBSERVATION - 1, discrete(2))) == MAX_OBSERVATION - 1
    assert moments_size(settings, vectors(MAX_OBSERVATION, discrete(2))) == 0


def test_of_choices_alone_there_is_nothing_to_normalise_and_nothing_to_send() -> None:
    settings = ActorSettings(normalize_returns=False)
    assert moments_size(settings, Spaces((4,), "float32", discrete(2), choices=((0, 1), (1, 3)))) == 0
    assert moments_size(settings, Spaces((4,), "float32", discrete(2), choices=((1, 3),))) == 4
