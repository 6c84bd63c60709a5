"""The noise scale of messages that are made to have one, dense and as the largest coordinates; where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from actor.compression.compressor import Compressor
from actor.compression.selection import Density, Everything, Largest
from learner.config import LearnerSettings
from learner.events import Job, NoiseEstimate
from learner.optim.aggregation import Rule as Aggregation
from learner.optim.noise_scale import APART, EVERY, LEAST_PAIRS, NoiseScale, dot
from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import Rule
from protocol.codecs.registry import CODECS, Array, Floats, Sparse
from protocol.layout import Entry, Layout

P, DENSITY = 2000, 0.05
SENDERS = 4
Make = Callable[[], Compressor]


def dense() -> Compressor:
    return Compressor(P, "f32", Everything(), 1.0)


def thin(residual_decay: float = 1.0) -> Compressor:
    return Compressor(P, "topk_i8", Largest(P, Density(P, DENSITY, 0)), residual_decay)


def heavy() -> Floats:
    """A signal of length 1 that few coordinates hold most of, as in networks."""
    signal = np.random.default_rng(1).standard_t(2, P).astype(np.float32)
    return signal / np.linalg.norm(signal)


def flat() -> Floats:
    return np.full(P, 1 / np.sqrt(P), np.float32)


def observed(make: Make, messages: float, signal: Floats, count: int = 1000) -> NoiseEstimate:
    """The estimate after so many messages of senders in turn, whose noise is ``messages`` times |signal|²."""
    random, noise, compressors = np.random.default_rng(0), NoiseScale(), [make() for _ in range(SENDERS)]
    for version in range(count):
        sender = version % SENDERS
        gradient = signal + np.sqrt(messages / P) * random.standard_normal(P)
        noise.begin_batch(1)
        noise.observe(sender, compressors[sender].compress(gradient.astype(np.float32)).decoded, version)
    found = noise.estimate()
    assert found is not None
    return found


@pytest.mark.parametrize(("messages", "within"), [(2.0, 0.05), (20.0, 0.05), (200.0, 0.4)])
def test_dense_messages_have_the_noise_scale_that_they_were_made_with(messages: float, within: float) -> None:
    found = observed(dense, messages, heavy())
    assert found.told
    assert found.messages == pytest.approx(messages, rel=within)


@pytest.mark.parametrize("messages", [10.0, 50.0, 150.0])
def test_the_largest_coordinates_have_it_nearly(messages: float) -> None:
    found = observed(thin, messages, heavy())
    assert found.told
    assert found.messages == pytest.approx(messages, rel=0.4)


@pytest.mark.parametrize("messages", [10.0, 50.0])
def test_a_residual_that_fades_moves_it_by_less_than_a_third(messages: float) -> None:
    assert observed(lambda: thin(0.95), messages, heavy()).messages == pytest.approx(messages, rel=1 / 3)


def test_whose_turn_it_is_looks_like_noise() -> None:
    """As the docstring warns: a signal that all coordinates hold alike, and hardly any noise."""
    assert observed(thin, 2.0, flat()).messages == pytest.approx(1 / DENSITY, rel=0.1)
    assert observed(thin, 2.0, heavy()).messages < 2.0 + 5.0


@pytest.mark.parametrize("make", [dense, thin])
def test_pure_noise_has_a_bound_and_no_noise_scale(make: Make) -> None:
    found = observed(make, 1.0, np.zeros(P, np.float32))
    assert not found.told
    assert 100.0 < found.messages < 1e6


def test_a_signal_that_is_negative_is_not_told() -> None:
    """Messages of one turn away from those of the other."""
    noise = NoiseScale()
    for version in range(200):
        noise.begin_batch(1)
        noise.observe(version % 2, np.ones(P, np.float32) * (-1.0) ** version, version)
    assert noise.estimate() is None, "no bound either: it points the other way for sure"


def test_one_sender_alone_tells_nothing() -> None:
    noise = NoiseScale()
    for version in range(500):
        noise.begin_batch(1)
        noise.observe(7, np.ones(P, np.float32), version)
    assert noise.estimate() is None


def pairs(noise: NoiseScale, count: int) -> None:
    for version in range(count + 1):
        noise.begin_batch(1)
        noise.observe(version % 2, np.ones(3, np.float32), version)


def test_few_pairs_tell_nothing() -> None:
    noise = NoiseScale()
    pairs(noise, LEAST_PAIRS - 1)
    assert noise.estimate() is None
    noise = NoiseScale()
    pairs(noise, LEAST_PAIRS)
    assert noise.estimate() == NoiseEstimate(0.0, told=True)


def test_messages_of_zeros_tell_nothing() -> None:
    noise = NoiseScale()
    for version in range(100):
        noise.begin_batch(1)
        noise.observe(version % 2, np.zeros(3, np.float32), version)
    assert noise.estimate() is None


def test_messages_too_large_for_float32_are_passed_over() -> None:
    noise = NoiseScale()
    for version in range(200):
        noise.begin_batch(1)
        noise.observe(version % 2, np.full(3, 1e25 if version % 8 == 0 else 1.0, np.float32), version)
    assert noise.estimate() == NoiseEstimate(0.0, told=True)


def test_messages_far_apart_are_no_pair() -> None:
    near, far = NoiseScale(), NoiseScale()
    for number in range(100):
        for noise, apart in ((near, APART), (far, APART + 1)):
            noise.begin_batch(1)
            noise.observe(number % 2, np.ones(3, np.float32), number * apart)
    assert near.estimate() is not None
    assert far.estimate() is None


def test_of_messages_that_come_together_a_few_are_looked_at() -> None:
    noise, seen = NoiseScale(), 0

    class Watched(np.ndarray):
        def copy(self, *_: object, **__: object) -> Floats:  # type: ignore[override]
            nonlocal seen
            seen += 1
            return np.ones(3, np.float32)

    for number in range(256):
        noise.begin_batch(8)
        noise.observe(number % 3, np.ones(3, np.float32).view(Watched), number)
    assert 256 / EVERY / 2 < seen <= 256 / EVERY


def test_what_a_decoder_overwrites_is_held_as_it_was() -> None:
    noise, scratch = NoiseScale(), np.empty(3, np.float32)
    for version in range(100):
        scratch[...] = 1.0 if version % 2 else 2.0
        noise.begin_batch(1)
        noise.observe(version % 2, scratch, version)
    found = noise.estimate()
    assert found is not None
    assert found.messages == pytest.approx((3 * (4 + 1) / 2 - 6) / 6)


def sparse(random: np.random.Generator, count: int) -> Sparse:
    indices = np.sort(random.choice(P, count, replace=False)).astype(np.int32)
    return Sparse(P, indices, random.standard_normal(count).astype(np.float32))


def whole(value: Array) -> Floats:
    return value.dense() if isinstance(value, Sparse) else value


def test_a_product_is_that_of_the_whole_vectors() -> None:
    random = np.random.default_rng(2)
    values: list[Array] = [
        *(sparse(random, count) for count in (0, 1, 30, 700, P)),
        random.standard_normal(P).astype(np.float32),
    ]
    for one in values:
        for other in values:
            assert dot(one, other) == pytest.approx(float(whole(one) @ whole(other)), abs=1e-3)


@pytest.mark.parametrize("aggregation", ["none", "mean"])
def test_what_is_applied_is_observed_and_what_is_refused_is_not(aggregation: Aggregation) -> None:
    rule = Rule(scaling="none", aggregation=aggregation)
    theta, layout = np.zeros(8, np.float32), Layout((Entry("w", (8,)),))
    optimizer = make_optimizer(LearnerSettings(), theta)
    parameters = Parameters(theta, 0, optimizer, rule, NormCheck(100.0), layout)
    encoded = CODECS["f32"].encode(np.ones(8, np.float32))
    bad = CODECS["f32"].encode(np.full(8, 1e3, np.float32))
    for sequence in range(1, 401):
        jobs = [
            Job(session, sequence, parameters.version, "f32", 8, 8, encoded.buffer, None, 0.0) for session in (1, 2)
        ]
        refused = Job(3, sequence, parameters.version, "f32", 8, 8, bad.buffer, None, 0.0)
        parameters.apply([*jobs, refused], 0.001)
    assert parameters.noise.estimate() == NoiseEstimate(0.0, told=True)
