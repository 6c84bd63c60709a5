"""Dense codecs: the error bound of each, and what none of them writes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.codecs.dense import BF16_MAX
from protocol.codecs.quantise import scale_max
from protocol.codecs.registry import F16_MAX, Floats, codec
from tests.protocol.samples import VECTORS, bits, block_means, block_tops, dense, refused


@given(vector=VECTORS)
def test_f32_loses_nothing(vector: Floats) -> None:
    assert bits(dense("f32", vector)) == bits(vector)


@given(vector=hnp.arrays(np.float32, 50, elements=st.floats(-65504, 65504, width=32)))
def test_f16_is_within_half_a_unit(vector: Floats) -> None:
    error = np.abs(dense("f16", vector).astype(np.float64) - vector)
    assert (error <= np.maximum(2.0**-11 * np.abs(vector), 2.0**-25)).all()


def test_f16_saturates() -> None:
    decoded = dense("f16", np.array([1e6, -1e6, np.finfo(np.float32).max], np.float32))
    assert decoded.tolist() == [F16_MAX, -F16_MAX, F16_MAX]


@given(vector=hnp.arrays(np.float32, 50, elements=st.floats(-BF16_MAX, BF16_MAX, width=32)))
def test_bf16_is_within_half_a_unit(vector: Floats) -> None:
    error = np.abs(dense("bf16", vector).astype(np.float64) - vector)
    assert (error <= np.maximum(2.0**-8 * np.abs(vector), 2.0**-134)).all()


def test_bf16_rounds_to_even_and_saturates() -> None:
    odd_half, even_half = 1.0 + 3 * 2.0**-8, 1.0 + 2.0**-8  # each half-way between two
    decoded = dense("bf16", np.array([odd_half, even_half, -np.finfo(np.float32).max], np.float32))
    assert decoded.tolist() == [1.0 + 2.0**-6, 1.0, -BF16_MAX]


ANY_SIZE = hnp.arrays(
    np.float32, st.integers(0, 300), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)
AWKWARD = np.array([float.fromhex("0x1.10f342p+0"), float.fromhex("0x1.02faf8p+0")], np.float32)  # beyond m/254


@pytest.mark.parametrize(("name", "top"), [("i8", 127), ("i4", 7)])
@given(vector=VECTORS | ANY_SIZE)
@example(vector=AWKWARD)
@example(vector=np.array([3e38, 1e38, 1.0], np.float32))
def test_levels_are_within_half_a_step_of_their_block(name: str, top: int, vector: Floats) -> None:
    bound = block_tops(vector) / (2 * top) * (1 + 1e-4)
    quiet = top * 2.0**-126
    assert (np.abs(dense(name, vector).astype(np.float64) - vector) <= np.maximum(bound, quiet)).all()


@pytest.mark.parametrize("name", ["i8", "i4", "sign"])
def test_a_long_vector_is_quantised_as_its_blocks_are(name: str) -> None:
    vector = np.random.default_rng(1).standard_normal(40_000).astype(np.float32)
    whole = dense(name, vector)
    for start in range(0, len(vector), 256):
        assert bits(dense(name, vector[start : start + 256])) == bits(whole[start : start + 256])


@pytest.mark.parametrize("name", ["i8", "i4"])
def test_levels_send_zeros_and_the_largest_float_as_themselves(name: str) -> None:
    assert not dense(name, np.zeros(300, np.float32)).any()
    largest = dense(name, np.full(3, np.finfo(np.float32).max, np.float32))
    assert np.isfinite(largest).all()
    assert largest[0] == pytest.approx(float(np.finfo(np.float32).max), rel=1e-6)


@given(vector=VECTORS)
def test_a_sign_keeps_the_mean_magnitude(vector: Floats) -> None:
    decoded = dense("sign", vector)
    assert (np.signbit(decoded) == np.signbit(vector)).all()
    assert np.abs(decoded) == pytest.approx(block_means(vector), rel=1e-6, abs=1e-44)
    bound = np.maximum(np.abs(vector.astype(np.float64)), block_means(vector))
    assert (np.abs(decoded.astype(np.float64) - vector) <= bound * (1 + 1e-6) + 1e-44).all()  # float32's finest step


@pytest.mark.parametrize("name", ["i8", "i4", "sign"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_quantised_codec_does_not_take_what_is_not_finite(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        codec(name).encode(np.array([1.0, bad], np.float32))


def test_payloads_by_hand() -> None:
    one = codec("i4").decode(struct.pack("<f2B", 0.5, 0x1F, 0x09), 3, 3)
    assert isinstance(one, np.ndarray)
    assert one.tolist() == [3.5, -3.5, 0.5]
    other = codec("sign").decode(struct.pack("<fB", 0.5, 0b101), 3, 3)
    assert isinstance(other, np.ndarray)
    assert other.tolist() == [-0.5, 0.5, -0.5]


@pytest.mark.parametrize("name", ["i8", "i4", "sign"])
@pytest.mark.parametrize("scale", [-0.5, -0.0, float("nan"), float("inf")])
def test_bad_scales_are_refused(name: str, scale: float) -> None:
    assert "a scale" in refused(name, struct.pack("<fB", scale, 1), 1, 1)


@pytest.mark.parametrize(("name", "top", "one"), [("i8", 127, 1), ("i4", 7, 9), ("sign", 1, 0)])
def test_the_largest_scale_is_taken_and_the_next_refused(name: str, top: int, one: int) -> None:
    largest = np.float32(scale_max(top))
    assert float(largest) * top <= float(np.finfo(np.float32).max)
    decoded = codec(name).decode(struct.pack("<fB", largest, one), 1, 1)
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == [largest]
    with np.errstate(over="ignore"):
        above = np.nextafter(largest, np.float32(np.inf))
    assert float(above) * top > float(np.finfo(np.float32).max)
    assert "a scale" in refused(name, struct.pack("<fB", above, one), 1, 1)


def test_levels_that_no_encoder_writes_are_refused() -> None:
    assert "-128" in refused("i8", struct.pack("<fb", 0.5, -128), 1, 1)
    assert "-8" in refused("i4", struct.pack("<fB", 0.5, 0x00), 1, 1)
    assert "-8" in refused("i4", struct.pack("<fB", 0.5, 0x18), 1, 1)
    assert "no coordinate" in refused("sign", struct.pack("<fB", 0.5, 0b10), 1, 1)
