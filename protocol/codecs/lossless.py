"""Any payload, compressed once more without loss where that makes it smaller. Pure. Knows zstandard.

The reader learns from the frame how large the content is and holds that against what the inner codec could need before
anything is allocated: a frame that claims 200 MB costs nothing.
"""

from __future__ import annotations

import zstandard

from protocol.buffers import Buffer, size_of
from protocol.codecs.vectors import Array, Codec, Encoded, Factors, Floats, malformed

SUFFIX = "+zstd"
LEVEL = 1  # the entropy stage is what pays on levels and gaps; searching for matches that are not there does not
PLAIN, PACKED = 0, 1  # first byte
MAX_FRAME_LEAD = 18  # bytes of a zstandard frame's header at most


class Lossless(Codec):
    """``inner``'s payload behind one byte: 0 and the payload itself, or 1 and a zstandard frame of it."""

    def __init__(self, inner: Codec) -> None:
        self.inner, self.name = inner, inner.name + SUFFIX
        self.selection, self.exact = inner.selection, inner.exact

    def encode(self, value: Array | Factors) -> Encoded:
        encoded = self.inner.encode(value)
        packed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(encoded.buffer)
        if len(packed) < len(encoded.buffer):
            return Encoded(bytes((PACKED,)) + packed, encoded.count, encoded.decoded)
        return Encoded(bytes((PLAIN,)) + encoded.buffer, encoded.count, encoded.decoded)

    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        self.check_size(size_of(buffer), length, count)
        view = memoryview(buffer)
        if view[0] == PLAIN:
            return self.inner.decode(view[1:], length, count, out)
        if view[0] != PACKED:
            raise malformed(f"packing {view[0]}, expected {PLAIN} or {PACKED}")
        return self.inner.decode(self._unpack(view[1:], length, count), length, count, out)

    def _unpack(self, frame: memoryview, length: int, count: int) -> bytes:
        try:
            size = zstandard.get_frame_parameters(frame[:MAX_FRAME_LEAD]).content_size
            if size in (0, zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
                raise malformed("a zstandard frame that does not say its size, or has no content")
            self.inner.check_size(size, length, count)
            return zstandard.ZstdDecompressor().decompress(frame, size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise malformed(f"no zstandard frame: {error}"[:200]) from None

    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        if count > length or size_bytes < 1:
            raise malformed(f"{self.name} with {count} coordinates of {length} in {size_bytes} bytes")
