"""Codecs: the error bound of each, and that what the encoder says was read is what is read, to the bit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.codecs import CODECS, F16_MAX, SCALE_MAX, Array, Floats, Sparse, codec
from protocol.errors import PayloadFault, Reason

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
VECTORS = hnp.arrays(np.float32, st.integers(0, 700), elements=FLOATS)
DENSE = [name for name, each in CODECS.items() if not each.sparse]


@st.composite
def sparse_vectors(draw: st.DrawFn) -> Sparse:
    length = draw(st.sampled_from([1, 40, 300, 70_000, 1_000_000]))
    indices = draw(st.sets(st.integers(0, length - 1), max_size=min(length, 300)))
    values = draw(hnp.arrays(np.float32, len(indices), elements=FLOATS))
    return Sparse(length, np.array(sorted(indices), np.int32), values)


def length_of(value: Array) -> int:
    return value.length if isinstance(value, Sparse) else len(value)


def read(name: str, value: Array) -> Array:
    """Through the wire, from a read-only view that is not aligned."""
    encoded = codec(name).encode(value)
    return codec(name).decode(memoryview(b"?" + encoded.buffer)[1:], length_of(value), encoded.count)


def bits(vector: Floats) -> bytes:
    return vector.astype("<f4").tobytes()


def refused(name: str, buffer: bytes, length: int, count: int) -> str:
    with pytest.raises(PayloadFault) as caught:
        codec(name).decode(buffer, length, count)
    assert caught.value.reason is Reason.MALFORMED_PAYLOAD
    return caught.value.detail


def block_tops(values: Floats) -> NDArray[np.float64]:
    """max|block| for each coordinate, float64 [n]."""
    tops = np.array([np.abs(values[i : i + 256]).max() for i in range(0, len(values), 256)], np.float64)
    return np.repeat(tops, 256)[: len(values)]


@pytest.mark.parametrize("name", DENSE)
@given(vector=VECTORS)
def test_the_encoder_knows_what_will_be_read_dense(name: str, vector: Floats) -> None:
    decoded, told = read(name, vector), codec(name).encode(vector).decoded
    assert isinstance(decoded, np.ndarray)
    assert isinstance(told, np.ndarray)
    assert bits(decoded) == bits(told)
    assert decoded.flags.writeable
    assert decoded.flags.owndata


@given(value=sparse_vectors())
def test_the_encoder_knows_what_will_be_read_sparse(value: Sparse) -> None:
    decoded, told = read("topk_i8", value), codec("topk_i8").encode(value).decoded
    assert isinstance(decoded, Sparse)
    assert isinstance(told, Sparse)
    assert decoded.length == told.length == value.length
    assert decoded.indices.dtype == np.int32
    assert decoded.indices.tolist() == told.indices.tolist() == value.indices.tolist()
    assert bits(decoded.values) == bits(told.values)


@given(vector=VECTORS)
def test_f32_loses_nothing(vector: Floats) -> None:
    decoded = read("f32", vector)
    assert isinstance(decoded, np.ndarray)
    assert bits(decoded) == bits(vector)


@given(vector=hnp.arrays(np.float32, 50, elements=st.floats(-65504, 65504, width=32)))
def test_f16_is_within_half_a_unit(vector: Floats) -> None:
    decoded = read("f16", vector)
    assert isinstance(decoded, np.ndarray)
    error = np.abs(decoded.astype(np.float64) - vector)
    assert (error <= np.maximum(2.0**-11 * np.abs(vector), 2.0**-25)).all()


def test_f16_saturates() -> None:
    decoded = read("f16", np.array([1e6, -1e6, np.finfo(np.float32).max], np.float32))
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == [F16_MAX, -F16_MAX, F16_MAX]


@given(vector=VECTORS)
def test_i8_is_within_a_254th_of_its_block(vector: Floats) -> None:
    decoded = read("i8", vector)
    assert isinstance(decoded, np.ndarray)
    bound = block_tops(vector) / 254 * (1 + 1e-6) if len(vector) else np.zeros(0)
    assert (np.abs(decoded.astype(np.float64) - vector) <= np.maximum(bound, 1.5e-36)).all()


@given(value=sparse_vectors())
def test_topk_i8_is_within_a_254th_of_its_block(value: Sparse) -> None:
    decoded = read("topk_i8", value)
    assert isinstance(decoded, Sparse)
    bound = block_tops(value.values) / 254 * (1 + 1e-6) if len(value.values) else np.zeros(0)
    assert (np.abs(decoded.values.astype(np.float64) - value.values) <= np.maximum(bound, 1.5e-36)).all()


def test_a_long_vector_is_quantised_as_its_blocks_are() -> None:
    vector = np.random.default_rng(1).standard_normal(40_000).astype(np.float32)
    whole = read("i8", vector)
    assert isinstance(whole, np.ndarray)
    for start in range(0, len(vector), 256):
        part = read("i8", vector[start : start + 256])
        assert isinstance(part, np.ndarray)
        assert bits(part) == bits(whole[start : start + 256])


def test_i8_sends_zeros_and_the_largest_float_as_themselves() -> None:
    zeros = read("i8", np.zeros(300, np.float32))
    assert isinstance(zeros, np.ndarray)
    assert not zeros.any()
    largest = read("i8", np.full(3, np.finfo(np.float32).max, np.float32))
    assert isinstance(largest, np.ndarray)
    assert np.isfinite(largest).all()
    assert largest[0] == pytest.approx(float(np.finfo(np.float32).max), rel=1e-6)


@pytest.mark.parametrize("name", ["i8", "topk_i8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_quantised_codec_does_not_take_what_is_not_finite(name: str, bad: float) -> None:
    values = np.array([1.0, bad], np.float32)
    with pytest.raises(ValueError, match="NaN"):
        codec(name).encode(Sparse(2, np.arange(2, dtype=np.int32), values) if name == "topk_i8" else values)


def test_the_narrower_gaps_are_chosen() -> None:
    def width(step: int) -> int:
        indices = np.arange(0, 100 * step, step, dtype=np.int32)
        return codec("topk_i8").encode(Sparse(100 * step, indices, np.ones(100, np.float32))).buffer[0]

    assert width(20) == 1
    assert width(300) == 1  # two bytes either way; bytes when equal
    assert width(600) == 2
    assert width(100_000) == 2


def test_a_sparse_vector_at_one_percent_costs_two_bytes_a_coordinate() -> None:
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(100_000, 1000, replace=False)).astype(np.int32)
    encoded = codec("topk_i8").encode(Sparse(100_000, indices, rng.standard_normal(1000).astype(np.float32)))
    assert len(encoded.buffer) < 2.4 * 1000


@pytest.mark.parametrize("name", CODECS)
def test_a_payload_of_another_size_is_refused(name: str) -> None:
    value: Array = np.ones(300, np.float32)
    if codec(name).sparse:
        value = Sparse(300, np.arange(300, dtype=np.int32), np.ones(300, np.float32))
    encoded = codec(name).encode(value)
    for buffer in (encoded.buffer[:-1], encoded.buffer + b"\x00", b""):
        refused(name, buffer, 300, 300)
    refused(name, encoded.buffer, 300, 299)
    refused(name, encoded.buffer, 299, 300)


@pytest.mark.parametrize("name", CODECS)
def test_sizes_are_refused_before_anything_is_allocated(name: str) -> None:
    with pytest.raises(PayloadFault):
        codec(name).check_size(100, 1 << 28, 1 << 28)
    refused(name, bytes(100), 1 << 28, 1 << 28)


def topk(width: int, scale: float, levels: list[int], gaps: bytes) -> bytes:
    """One block, by hand."""
    return struct.pack(f"<Bf{len(levels)}b", width, scale, *levels) + gaps


def test_a_payload_by_hand() -> None:
    decoded = codec("topk_i8").decode(topk(1, 0.5, [127, -127, 2], b"\x00\xff\x00\x01"), 300, 3)
    assert isinstance(decoded, Sparse)
    assert decoded.indices.tolist() == [0, 256, 258]
    assert decoded.values.tolist() == [63.5, -63.5, 1.0]
    assert decoded.dense().tolist() == [63.5] + [0.0] * 255 + [-63.5, 0.0, 1.0] + [0.0] * 41


@pytest.mark.parametrize(
    ("buffer", "said"),
    [
        (topk(0, 1.0, [1, 1], b"\x00\x00"), "gap width"),
        (topk(3, 1.0, [1, 1], b"\x00\x00"), "gap width"),
        (topk(1, -1.0, [1, 1], b"\x00\x00"), "a scale"),
        (topk(1, float("nan"), [1, 1], b"\x00\x00"), "a scale"),
        (topk(1, float("inf"), [1, 1], b"\x00\x00"), "a scale"),
        (topk(1, 3e38, [1, 1], b"\x00\x00"), "a scale"),
        (topk(1, 1.0, [-128, 1], b"\x00\x00"), "-128"),
        (topk(1, 1.0, [1, 1], b"\x00\x00\xff"), "does not end"),
        (topk(1, 1.0, [1, 1], b"\x00\xff"), "does not end"),
        (topk(1, 1.0, [1, 1], b"\x00\x00\x00"), "does not end"),
        (topk(1, 1.0, [1, 1], b"\xff\xff\x00"), "does not end"),
        (topk(1, 1.0, [1, 1], b"\x00\xff\xfe"), "index 510"),
        (topk(1, 1.0, [1, 1], b"\x00\x00\x00\x00\x00"), "coordinates"),
        (topk(2, 1.0, [1, 1], b"\x00\x00\x00"), "gap section"),
        (topk(2, 1.0, [1, 1], b"\x00\x00\xff\xff"), "does not end"),
    ],
)
def test_what_no_encoder_writes_is_refused(buffer: bytes, said: str) -> None:
    assert said in refused("topk_i8", buffer, 300, 2)


def test_i8_refuses_bad_scales_and_levels() -> None:
    assert np.isfinite(np.float32(SCALE_MAX) * np.float32(127))
    assert "a scale" in refused("i8", struct.pack("<fb", -0.5, 1), 1, 1)
    assert "-128" in refused("i8", struct.pack("<fb", 0.5, -128), 1, 1)


def test_gaps_for_no_coordinates_are_refused() -> None:
    assert "no coordinates" in refused("topk_i8", b"\x01\x05", 300, 0)


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(PayloadFault) as caught:
        codec("zip")
    assert caught.value.reason is Reason.UNKNOWN_CODEC
    assert "'zip'" in caught.value.detail
