"""The lossless stage: never larger by more than a byte, and a frame that lies costs nothing."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol.codecs.lossless import PACKED, PLAIN, SUFFIX
from protocol.codecs.registry import CODECS, codec
from tests.protocol.samples import STRATEGIES, plain, refused


@pytest.mark.parametrize("name", [name for name in CODECS if name.endswith(SUFFIX)])
def test_what_repeats_is_packed(name: str) -> None:
    inner = codec(name.removesuffix(SUFFIX)).encode(plain(name, 5000)).buffer
    packed = codec(name).encode(plain(name, 5000)).buffer
    assert packed[0] == PACKED
    assert len(packed) < len(inner)


def test_noise_is_sent_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 2, 200).astype(np.float32) - np.float32(0.5)
    encoded = codec("sign+zstd").encode(noise)
    assert encoded.buffer[0] == PLAIN
    assert len(encoded.buffer) == 1 + len(codec("sign").encode(noise).buffer)


@pytest.mark.parametrize("name", [name for name in CODECS if name.endswith(SUFFIX)])
@given(data=st.data())
def test_nothing_grows_by_more_than_a_byte(name: str, data: st.DataObject) -> None:
    value = data.draw(STRATEGIES[codec(name).selection])
    assert len(codec(name).encode(value).buffer) <= 1 + len(codec(name.removesuffix(SUFFIX)).encode(value).buffer)


def framed(content: bytes, **options: bool) -> bytes:
    return bytes((PACKED,)) + zstandard.ZstdCompressor(**options).compress(content)  # type: ignore[arg-type]


def test_a_bomb_is_refused_by_what_it_claims() -> None:
    bomb = framed(bytes(200_000_000))
    assert len(bomb) < 20_000
    tracemalloc.start()
    assert "f32 with 300" in refused("f32+zstd", bomb, 300, 300)
    assert "topk_i8 with 3" in refused("topk_i8+zstd", bomb, 300, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_frames_that_no_encoder_writes_are_refused() -> None:
    content = struct.pack("<3f", 1.0, 2.0, 3.0)
    assert "does not say" in refused("f32+zstd", framed(content, write_content_size=False), 3, 3)
    assert "no zstandard frame" in refused("f32+zstd", bytes((PACKED,)) + content, 3, 3)
    assert "no zstandard frame" in refused("f32+zstd", framed(content) + b"more", 3, 3)
    assert "no zstandard frame" in refused("f32+zstd", framed(content)[:-2], 3, 3)
    for empty in ("28b52ffd2000010000", "28b52ffd2000", "502a4d1800000000"):
        assert "no content" in refused("f32+zstd", bytes((PACKED,)) + bytes.fromhex(empty) + b"junk", 0, 0)
    assert "packing 2" in refused("f32+zstd", bytes((2,)) + content, 3, 3)


def test_a_frame_by_hand() -> None:
    content = struct.pack("<3f", 1.0, -2.0, 3.5)
    frame = bytes.fromhex("28b52ffd") + bytes((0x20, len(content))) + (len(content) << 3 | 1).to_bytes(3, "little")
    decoded = codec("f32+zstd").decode(bytes((PACKED,)) + frame + content, 3, 3)
    assert isinstance(decoded, np.ndarray)
    assert decoded.tolist() == [1.0, -2.0, 3.5]
