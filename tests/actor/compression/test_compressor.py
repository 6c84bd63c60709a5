"""Compression: nothing is lost between what is sent and what is kept, to the bit; and the largest go first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actor.compression.compressor import Compressor
from actor.compression.preconditioner import Momentum, Preconditioner
from actor.compression.selection import Density, Everything, Largest, make_selection
from protocol.codecs.registry import CODECS, Floats, Sparse, codec
from tests.actor.compression.test_selection import gradients, plain_largest

FLOATS = st.floats(-1e6, 1e6, width=32)


def compressor(
    length: int,
    name: str,
    density: float,
    decay: float,
    preconditioner: Preconditioner | None = None,
    *,
    warmup: int = 0,
    masks_momentum: bool = False,
) -> Compressor:
    """One array: a matrix where the length allows, of rank 2."""
    shape = (length // 50, 50) if length % 100 == 0 else (length,)
    selection = make_selection(codec(name), [shape], density, warmup, 2, seed=1)
    return Compressor(length, name, selection, decay, preconditioner, masks_momentum=masks_momentum)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_what_was_not_sent_is_in_the_residual_to_the_bit(name: str, decay: float) -> None:
    length = 5000
    made = compressor(length, name, 0.02, decay)
    expected = np.zeros(length, np.float32)
    for gradient in gradients(5, length):
        expected = expected * np.float32(decay) + gradient
        decoded = made.compress(gradient).decoded
        if isinstance(decoded, Sparse):
            assert len(decoded.indices) == 100
            expected[decoded.indices] -= decoded.values
        else:
            expected -= decoded
        assert np.array_equal(made.residual, expected)


def test_what_was_sent_was_the_largest_of_the_residual() -> None:
    made = compressor(500, "topk_i8", 0.02, 1.0)
    waiting = np.zeros(500, np.float32)
    for gradient in gradients(4, 500):
        waiting += gradient
        decoded = made.compress(gradient).decoded
        assert isinstance(decoded, Sparse)
        assert decoded.indices.tolist() == plain_largest(waiting, 10)
        waiting = made.residual.copy()


@pytest.mark.parametrize("name", CODECS)
def test_everything_arrives_in_the_end(name: str) -> None:
    gradient = np.array([1.0, -0.3, 0.02, 0.5], np.float32)
    made = compressor(4, name, 0.25, 1.0)
    total = np.zeros(4)
    for step in range(80):
        decoded = made.compress(gradient if not step else np.zeros(4, np.float32)).decoded
        total += decoded.dense() if isinstance(decoded, Sparse) else decoded
    np.testing.assert_allclose(total + made.residual, gradient, rtol=1e-5)
    assert made.residual_norm < 1e-6


@given(vector=hnp.arrays(np.float32, 20, elements=FLOATS))
def test_f32_sends_the_gradient_itself_and_keeps_nothing(vector: Floats) -> None:
    made = compressor(20, "f32", 1.0, 0.5)
    for _ in range(2):
        encoded = made.compress(vector)
        assert isinstance(encoded.decoded, np.ndarray)
        assert encoded.buffer == encoded.decoded.tobytes() == vector.tobytes()
        assert not made.residual.any()


def test_a_preconditioner_comes_before_the_choice() -> None:
    gradient = np.array([100.0, 1e-3, 1e-2], np.float32)
    made = compressor(3, "f32", 1.0, 1.0, Preconditioner(3, Momentum(0.0), 0.999, 1e-8))
    decoded = made.compress(gradient).decoded
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == pytest.approx([1.0, 1.0, 1.0], rel=1e-4)


@pytest.mark.parametrize("name", CODECS)
def test_a_refused_payload_goes_back_into_the_residual(name: str) -> None:
    made = compressor(300, name, 0.1, 1.0)
    gradient = gradients(1, 300)[0]
    decoded = made.compress(gradient).decoded
    made.restore(decoded)
    np.testing.assert_allclose(made.residual, gradient, rtol=0, atol=1e-6)
    again = made.compress(np.zeros(300, np.float32)).decoded
    sent = again.dense() if isinstance(again, Sparse) else again
    np.testing.assert_allclose(sent + made.residual, gradient, rtol=0, atol=1e-6)


def test_what_was_encoded_does_not_change_when_the_residual_does() -> None:
    made = compressor(50, "f32", 1.0, 1.0)
    first = made.compress(np.ones(50, np.float32))
    made.compress(np.full(50, 7.0, np.float32))
    assert isinstance(first.decoded, np.ndarray)
    assert (first.decoded == 1.0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    preconditioner = Preconditioner(3, Momentum(0.9), 0.999, 1e-5)
    made = compressor(3, "topk_i8", 0.5, 0.9, preconditioner)
    made.compress(np.array([1.0, 2.0, 3.0], np.float32))
    before = made.residual.copy()
    with pytest.raises(ValueError, match="NaN or infinity"):
        made.compress(np.array([1.0, bad, 3.0], np.float32))
    assert made.residual.tobytes() == before.tobytes()
    assert preconditioner.steps == 1


def test_a_gradient_of_zeros_sends_no_coordinates() -> None:
    encoded = compressor(10, "topk_i8", 0.5, 1.0).compress(np.zeros(10, np.float32))
    assert encoded.count == 0


def test_at_least_one_coordinate_is_sent() -> None:
    assert compressor(10, "topk_i8", 0.001, 1.0).compress(np.ones(10, np.float32)).count == 1


def test_error_feedback_sends_a_matrix_of_any_rank_in_the_end() -> None:
    matrix = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32).reshape(-1)
    made = compressor(1000, "lowrank", 1.0, 1.0)
    total = np.zeros(1000, np.float32)
    for step in range(41):
        sent = made.compress(np.zeros(1000, np.float32) if step else matrix).decoded
        assert isinstance(sent, np.ndarray)
        total += sent
    np.testing.assert_allclose(total, matrix, atol=1e-3)


def test_a_masked_coordinate_begins_its_momentum_anew() -> None:
    gradient = np.array([3.0, 1.0], np.float32)
    masked, plain = (
        compressor(2, "topk_f16", 0.5, 1.0, Preconditioner(2, Momentum(0.9), 0.999, 1e-8), masks_momentum=masks)
        for masks in (True, False)
    )
    for made in (masked, plain):
        made.compress(gradient)
        made.compress(np.zeros(2, np.float32))
    assert masked.residual[0] == pytest.approx(0.0, abs=1e-3)  # what was sent does not go on by itself
    assert plain.residual_norm > masked.residual_norm


@pytest.mark.parametrize("name", CODECS)
def test_who_leaves_gives_all_that_it_held_back(name: str) -> None:
    """Sent and given together are what was computed, but for the last gradient's rounding to 8 bits."""
    held, total = compressor(400, name, 0.1, 1.0), np.zeros(400)
    for gradient in gradients(5, 400):
        total += gradient
        decoded = held.compress(gradient).decoded
        total -= decoded.dense() if isinstance(decoded, Sparse) else decoded
    residual = held.residual.copy()
    given = held.compress_residual("i8", Everything())
    if codec(name).exact:
        assert given is None
        return
    assert given is not None
    assert not isinstance(given.decoded, Sparse)
    np.testing.assert_array_equal(held.residual, residual - given.decoded)
    np.testing.assert_allclose(given.decoded, total, atol=float(np.abs(total).max()) / 127)


def test_who_leaves_over_a_thin_link_gives_the_largest_of_it() -> None:
    held = compressor(400, "topk_i8", 0.1, 1.0)
    held.compress(gradients(1, 400)[0])
    residual = held.residual.copy()
    given = held.compress_residual("topk_i8", Largest(400, Density(400, 0.05, 0)))
    assert given is not None
    assert isinstance(given.decoded, Sparse)
    assert given.decoded.indices.tolist() == np.sort(np.argsort(np.abs(residual))[-20:]).tolist()
    np.testing.assert_array_equal(held.residual, residual - given.decoded.dense())


def test_nothing_held_back_is_nothing_given() -> None:
    assert compressor(400, "topk_i8", 0.1, 1.0).compress_residual("i8", Everything()) is None


def test_the_age_of_what_is_held_back_is_how_long_it_waits() -> None:
    """Each gradient brings one to every coordinate and takes ten away whole: a coordinate waits for its turn."""
    held = compressor(400, "topk_f16", 0.1, 1.0)
    assert held.residual_age == 0.0
    for _ in range(60):
        held.compress(np.ones(400, np.float32))
    assert held.residual_age == pytest.approx(4.5, abs=1.0)  # in turns of ten: 0 to 9


def test_nothing_held_back_has_no_age() -> None:
    held = compressor(400, "f32", 1.0, 1.0)
    held.compress(np.ones(400, np.float32))
    assert held.residual_age == 0.0
