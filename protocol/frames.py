"""The hard limits of a message's frames, checked before anything is decoded. Pure. Knows lengths, not contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.buffers import MAX_MOMENTS_BYTES, PREAMBLE, Buffer, size_of
from protocol.errors import FrameFault, Reason
from protocol.layout import MAX_ENTRIES

MAX_FRAMES = 8  # no message has more than three: header, payload, moments; the rest is room to grow
MAX_HEADER_BYTES = 1 << 20  # a welcome with a layout of 4,096 long names, or a verdict of 25,000 rulings
MAX_FRAME_BYTES = 256 << 20  # a dense float32 snapshot of 67 million parameters, 40 times the A3C Atari network
MAX_MESSAGE_BYTES = MAX_HEADER_BYTES + MAX_FRAME_BYTES + MAX_MOMENTS_BYTES  # one of each


@dataclass(frozen=True, slots=True)
class Limits:
    """What one side takes; never above the constants of the protocol."""

    frames: int = MAX_FRAMES
    header_bytes: int = MAX_HEADER_BYTES
    frame_bytes: int = MAX_FRAME_BYTES  # of each frame after the header
    message_bytes: int = MAX_MESSAGE_BYTES

    @classmethod
    def for_length(cls, length: int) -> Limits:
        """The least that carries every message about ``length`` parameters in every codec of section 4."""
        payload_bytes = 4 * length + 8 * MAX_ENTRIES + 64  # dense float32, or low rank with its shapes; and a lead
        frame_bytes = min(MAX_FRAME_BYTES, max(payload_bytes, MAX_MOMENTS_BYTES))
        message_bytes = min(MAX_MESSAGE_BYTES, MAX_HEADER_BYTES + frame_bytes + MAX_MOMENTS_BYTES)
        return cls(frame_bytes=frame_bytes, message_bytes=message_bytes)


HARD_LIMITS = Limits()


def check(frames: Sequence[Buffer], limits: Limits = HARD_LIMITS) -> int:
    """Total bytes of a message that is within its limits (WIRE.md, section 2).

    Raises FrameFault: malformed_frame for no frames, too many, or a first one shorter than the preamble; oversize for
    a header, a frame or a message past its limit.
    """
    if not 1 <= len(frames) <= limits.frames:
        raise FrameFault(Reason.MALFORMED_FRAME, f"{len(frames)} frames, a message has 1 to {limits.frames}")
    header_bytes = size_of(frames[0])
    if header_bytes <= len(PREAMBLE):
        raise FrameFault(Reason.MALFORMED_FRAME, f"a first frame of {header_bytes} bytes holds no header")
    _bound("header", header_bytes, limits.header_bytes)
    total_bytes = header_bytes
    for frame in frames[1:]:
        frame_bytes = size_of(frame)
        _bound("frame", frame_bytes, limits.frame_bytes)
        total_bytes += frame_bytes
    _bound("message", total_bytes, limits.message_bytes)
    return total_bytes


def _bound(what: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise FrameFault(Reason.OVERSIZE, f"a {what} of {size_bytes} bytes, the limit is {limit_bytes}")
