"""Frames: the hard limits, before anything is decoded."""

from __future__ import annotations

import pytest

from protocol.buffers import MAX_MOMENTS_BYTES, PREAMBLE, Buffer
from protocol.codecs.lossless import SUFFIX
from protocol.codecs.lowrank import MAX_RUNS
from protocol.codecs.registry import CODECS
from protocol.errors import FrameFault, Reason
from protocol.frames import MAX_FRAMES, MAX_HEADER_BYTES, Limits, check

HEADER = PREAMBLE + b"\x91\xa0"
SMALL = Limits(frames=3, header_bytes=10, frame_bytes=8, message_bytes=20)


def refusal(frames: list[Buffer], limits: Limits = SMALL) -> Reason:
    with pytest.raises(FrameFault) as caught:
        check(frames, limits)
    return caught.value.reason


def test_the_total_counts_every_frame() -> None:
    assert check([HEADER]) == 6
    assert check([HEADER, b"12345678", memoryview(b"123456")], SMALL) == 20


def test_a_memoryview_counts_bytes_and_not_items() -> None:
    words = memoryview(bytes(16)).cast("Q")
    assert check([HEADER, words]) == 22
    assert refusal([HEADER, words]) is Reason.OVERSIZE


@pytest.mark.parametrize("frames", [[], [b""], [b"FRF"], [PREAMBLE], [HEADER] + [b""] * MAX_FRAMES])
def test_what_cannot_be_a_message_is_malformed(frames: list[Buffer]) -> None:
    assert refusal(frames, Limits()) is Reason.MALFORMED_FRAME


@pytest.mark.parametrize(
    "frames",
    [[HEADER + bytes(5)], [HEADER, bytes(9)], [HEADER, bytes(8), bytes(7)]],
    ids=["header", "frame", "message"],
)
def test_each_limit_is_its_own(frames: list[Buffer]) -> None:
    assert refusal(frames) is Reason.OVERSIZE


def test_exactly_at_a_limit_is_within_it() -> None:
    assert check([HEADER + bytes(4), bytes(8), bytes(2)], SMALL) == 20


@pytest.mark.parametrize("length", [1, 300, 10_000, 1_000_000])
def test_limits_for_a_length_take_the_largest_payload_of_every_codec(length: int) -> None:
    limits = Limits.for_length(length)
    for codec in CODECS.values():
        plain = codec.name.removesuffix(SUFFIX)
        codec_most = max(size for size in _sizes(length) if _fits(plain, size, length))
        assert codec_most + (plain != codec.name) <= limits.frame_bytes
    assert limits.frame_bytes >= MAX_MOMENTS_BYTES
    assert limits.message_bytes >= MAX_HEADER_BYTES + limits.frame_bytes


def _sizes(length: int) -> list[int]:
    """Of every codec's payload with all coordinates; of a codec whose size varies, the largest."""
    blocks = -(-length // 256)
    dense = [4 * length, 2 * length, 4 * blocks + length, 4 * blocks + -(-length // 2), 4 * blocks + -(-length // 8)]
    sparse = [1 + 4 * blocks + 3 * length, 1 + 4 * length, 8 + 4 * blocks + length]
    return [*dense, *sparse, 3 + 8 * min(length, MAX_RUNS) + 2 * length]


def _fits(name: str, size: int, length: int) -> bool:
    try:
        CODECS[name].check_size(size, length, length)
    except Exception:
        return False
    return True


def test_the_preamble_alone_is_no_message() -> None:
    """On the weights link it is passed over before this is asked (WIRE.md, section 1)."""
    with pytest.raises(FrameFault) as told:
        check([PREAMBLE])
    assert told.value.reason is Reason.MALFORMED_FRAME
