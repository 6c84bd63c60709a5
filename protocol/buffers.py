"""The bytes that frames are made of: their type, what each message begins with, and the bound of moments. Pure."""

from __future__ import annotations

PROTOCOL_VERSION = 1
PREAMBLE = b"FRF" + bytes([PROTOCOL_VERSION])
MAX_MOMENTS_BYTES = 1 << 20  # mean and spread of 65,536 numbers, as many as one row of observations may have

Buffer = bytes | memoryview


def size_of(buffer: Buffer) -> int:
    """Bytes, whatever its items are."""
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
