"""Compression: nothing is lost between what is sent and what is kept, to the bit; and the largest go first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actor.compression import Compressor, Preconditioner, largest
from protocol.codecs import CODECS, Floats, Sparse

FLOATS = st.floats(-1e6, 1e6, width=32)


def gradients(count: int, length: int) -> list[Floats]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(length).astype(np.float32) for _ in range(count)]


def plain_largest(vector: Floats, k: int) -> list[int]:
    """Sort all by magnitude, first of equals first, and keep what is not zero."""
    order = sorted(range(len(vector)), key=lambda i: (-abs(float(vector[i])), i))
    return sorted(i for i in order[:k] if vector[i] != 0.0)


def chosen(vector: Floats, k: int) -> list[int]:
    return [int(i) for i in largest(vector, k, np.empty_like(vector))]


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_the_preconditioner_is_adams_direction(beta1: float) -> None:
    beta2, epsilon, length = 0.99, 1e-5, 6
    preconditioner = Preconditioner(length, beta1, beta2, epsilon)
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
    update = Preconditioner(2, 0.9, 0.999, 1e-5).update(gradient)
    assert gradient.tolist() == [0.0, 2.0]
    assert update.tolist() == [0.0, pytest.approx(1.0, rel=1e-4)]


@given(vector=hnp.arrays(np.float32, st.integers(1, 60), elements=FLOATS), k=st.integers(1, 70))
def test_the_largest_are_chosen(vector: Floats, k: int) -> None:
    assert chosen(vector, k) == plain_largest(vector, k)


@pytest.mark.parametrize("k", [1, 5, 100, 2000, 4999, 5000])
@pytest.mark.parametrize("kind", ["normal", "heavy", "rows", "tied", "mostly_zero"])
def test_the_largest_of_a_long_vector_are_chosen(kind: str, k: int) -> None:
    rng = np.random.default_rng(5)
    vector = rng.standard_normal(5000).astype(np.float32)
    if kind == "heavy":
        vector **= 5
    if kind == "rows":
        vector[::3] *= 100
    if kind == "tied":
        vector = np.sign(vector) * np.float32(0.5)
    if kind == "mostly_zero":
        vector[rng.random(5000) < 0.99] = 0.0
    assert chosen(vector, k) == plain_largest(vector, k)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_what_was_not_sent_is_in_the_residual_to_the_bit(name: str, decay: float) -> None:
    length = 5000
    compressor = Compressor(length, name, 0.02, decay)
    expected = np.zeros(length, np.float32)
    for gradient in gradients(5, length):
        expected = expected * np.float32(decay) + gradient
        decoded = compressor.compress(gradient).decoded
        if isinstance(decoded, Sparse):
            assert len(decoded.indices) == 100
            expected[decoded.indices] -= decoded.values
        else:
            expected -= decoded
        assert np.array_equal(compressor.residual, expected)


def test_what_was_sent_was_the_largest_of_the_residual() -> None:
    compressor = Compressor(500, "topk_i8", 0.02, 1.0)
    waiting = np.zeros(500, np.float32)
    for gradient in gradients(4, 500):
        waiting += gradient
        decoded = compressor.compress(gradient).decoded
        assert isinstance(decoded, Sparse)
        assert decoded.indices.tolist() == plain_largest(waiting, 10)
        waiting = compressor.residual.copy()


@pytest.mark.parametrize("name", CODECS)
def test_everything_arrives_in_the_end(name: str) -> None:
    gradient = np.array([1.0, -0.3, 0.02, 0.5], np.float32)
    compressor = Compressor(4, name, 0.25, 1.0)
    total = np.zeros(4)
    for step in range(12):
        decoded = compressor.compress(gradient if not step else np.zeros(4, np.float32)).decoded
        total += decoded.dense() if isinstance(decoded, Sparse) else decoded
    np.testing.assert_allclose(total + compressor.residual, gradient, rtol=1e-6)
    assert compressor.residual_norm < 1e-6


@given(vector=hnp.arrays(np.float32, 20, elements=FLOATS))
def test_f32_sends_the_gradient_itself_and_keeps_nothing(vector: Floats) -> None:
    compressor = Compressor(20, "f32", 1.0, 0.5)
    for _ in range(2):
        encoded = compressor.compress(vector)
        assert isinstance(encoded.decoded, np.ndarray)
        assert encoded.buffer == encoded.decoded.tobytes() == vector.tobytes()
        assert not compressor.residual.any()


def test_a_preconditioner_comes_before_the_choice() -> None:
    gradient = np.array([100.0, 1e-3, 1e-2], np.float32)
    compressor = Compressor(3, "f32", 1.0, 1.0, Preconditioner(3, 0.0, 0.999, 1e-8))
    decoded = compressor.compress(gradient).decoded
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == pytest.approx([1.0, 1.0, 1.0], rel=1e-4)


@pytest.mark.parametrize("name", CODECS)
def test_a_refused_payload_goes_back_into_the_residual(name: str) -> None:
    compressor = Compressor(300, name, 0.1, 1.0)
    gradient = gradients(1, 300)[0]
    decoded = compressor.compress(gradient).decoded
    compressor.restore(decoded)
    np.testing.assert_allclose(compressor.residual, gradient, rtol=0, atol=1e-6)
    again = compressor.compress(np.zeros(300, np.float32)).decoded
    sent = again.dense() if isinstance(again, Sparse) else again
    np.testing.assert_allclose(sent + compressor.residual, gradient, rtol=0, atol=1e-6)


def test_what_was_encoded_does_not_change_when_the_residual_does() -> None:
    compressor = Compressor(50, "f32", 1.0, 1.0)
    first = compressor.compress(np.ones(50, np.float32))
    compressor.compress(np.full(50, 7.0, np.float32))
    assert isinstance(first.decoded, np.ndarray)
    assert (first.decoded == 1.0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    preconditioner = Preconditioner(3, 0.9, 0.999, 1e-5)
    compressor = Compressor(3, "topk_i8", 0.5, 0.9, preconditioner)
    compressor.compress(np.array([1.0, 2.0, 3.0], np.float32))
    before = compressor.residual.copy()
    with pytest.raises(ValueError, match="NaN or infinity"):
        compressor.compress(np.array([1.0, bad, 3.0], np.float32))
    assert compressor.residual.tobytes() == before.tobytes()
    assert preconditioner.steps == 1


def test_a_gradient_of_zeros_sends_no_coordinates() -> None:
    encoded = Compressor(10, "topk_i8", 0.5, 1.0).compress(np.zeros(10, np.float32))
    assert encoded.count == 0


def test_at_least_one_coordinate_is_sent() -> None:
    assert Compressor(10, "topk_i8", 0.001, 1.0).compress(np.ones(10, np.float32)).count == 1
