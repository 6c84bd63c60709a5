"""Sparse codecs: error bounds, the shortest gaps, indices that any language draws alike, hostile gaps."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codecs.registry import Sparse, codec
from protocol.codecs.sparse import random_indices
from tests.protocol.samples import bits, block_tops, refused, sparse, sparse_vectors


@given(value=sparse_vectors())
def test_topk_i8_is_within_a_254th_of_its_block(value: Sparse) -> None:
    bound = block_tops(value.values) / 254 * (1 + 1e-4)
    error = np.abs(sparse("topk_i8", value).values.astype(np.float64) - value.values)
    assert (error <= np.maximum(bound, 1.5e-36)).all()


@given(value=sparse_vectors())
def test_topk_f16_is_what_f16_would_be(value: Sparse) -> None:
    whole = codec("f16").encode(value.values).decoded
    assert isinstance(whole, np.ndarray)
    assert bits(sparse("topk_f16", value).values) == bits(whole)


@pytest.mark.parametrize("name", ["topk_i8", "randk_i8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_quantised_codec_does_not_take_what_is_not_finite(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        codec(name).encode(Sparse(2, np.arange(2, dtype=np.int32), np.array([1.0, bad], np.float32), 5))


def test_the_narrower_gaps_are_chosen() -> None:
    def width(step: int) -> int:
        indices = np.arange(0, 100 * step, step, dtype=np.int32)
        return codec("topk_i8").encode(Sparse(100 * step, indices, np.ones(100, np.float32))).buffer[0]

    assert width(20) == 1
    assert width(300) == 1  # two bytes either way; bytes when equal
    assert width(600) == 2
    assert width(100_000) == 2


def test_what_a_thousand_coordinates_of_a_hundred_thousand_cost() -> None:
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(100_000, 1000, replace=False)).astype(np.int32)
    chosen = Sparse(100_000, indices, rng.standard_normal(1000).astype(np.float32))
    assert len(codec("topk_i8").encode(chosen).buffer) < 2.4 * 1000
    assert len(codec("topk_f16").encode(chosen).buffer) < 3.4 * 1000
    drawn = Sparse(100_000, random_indices(1, 100_000, 1000), chosen.values, 1)
    assert len(codec("randk_i8").encode(drawn).buffer) == 8 + 16 + 1000


@given(
    seed=st.integers(0, (1 << 64) - 1), length=st.integers(1, 1 << 28), share=st.floats(0, 1), most=st.integers(0, 500)
)
def test_random_indices_increase_below_the_length(seed: int, length: int, share: float, most: int) -> None:
    count = min(most, round(share * length))
    indices = random_indices(seed, length, count)
    assert len(indices) == count
    assert (np.diff(indices) > 0).all()
    assert not count or 0 <= indices[0] <= indices[-1] < length


def test_random_indices_are_splitmix64_in_equal_strata() -> None:
    def mixed(seed: int, i: int) -> int:
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    assert mixed(0, 0) == 0xE220A8397B1DCDAF  # the published generator's first output
    edges = [i * 100 // 7 for i in range(8)]
    drawn = [edges[i] + mixed(42, i) % (edges[i + 1] - edges[i]) for i in range(7)]
    assert random_indices(42, 100, 7).tolist() == drawn
    many = random_indices(42, 200_001, 40_000)  # drawn in several parts
    for i in (0, 16_383, 16_384, 39_999):
        start, end = i * 200_001 // 40_000, (i + 1) * 200_001 // 40_000
        assert many[i] == start + mixed(42, i) % (end - start)


def test_random_indices_reach_every_coordinate_alike() -> None:
    counts = np.zeros(100)
    for seed in range(2000):
        counts[random_indices(seed, 100, 10)] += 1
    assert abs(counts - 200).max() < 5 * np.sqrt(200)


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


def test_values_that_are_not_finite_are_refused() -> None:
    assert "not finite" in refused("topk_f16", struct.pack("<BeB", 1, float("inf"), 0), 300, 1)
    assert "a scale" in refused("randk_i8", struct.pack("<Qfb", 1, float("nan"), 1), 300, 1)


def test_gaps_for_no_coordinates_are_refused() -> None:
    assert "no coordinates" in refused("topk_i8", b"\x01\x05", 300, 0)
