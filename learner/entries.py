"""What the journal says, and its bytes. Pure. Knows records and checksums; no files, no θ.

A segment is a head and records, each ``length u32 | crc32 u32 | body``, little-endian. A body is ``header length u32 |
msgpack header | buffers``. Every checksum goes on from the one before, the first from the head's own, so that a record
counts only where it was written, and what follows a torn one counts for nothing (ARCHITECTURE.md, "Journal").
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from learner.update import Update
from protocol.messages import Buffer
from protocol.moments import Moments
from protocol.vectors import size_of

MAGIC = b"FRFJ\x01\r\n\x00"
FRAME = struct.Struct("<II")
LENGTH = struct.Struct("<I")
MAX_RECORD_BYTES = 1 << 31  # 256 dense float32 updates of 2 million parameters; nothing reads what says more


Numbers = tuple[tuple[int, int], ...]  # (session, sequence) of gradients


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Begins a segment.

    manifest: digest of the run's, in hexadecimal. epoch: of the life that wrote it. version: of θ before its first
    record. optimizer: what ``config.optimizer_settings`` says of that life.
    """

    manifest: str
    epoch: int
    version: int
    optimizer: dict[str, int | float | str | None]


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One update as it was applied: it made one version.

    numbers: (session, sequence) of the gradients that it is made of. codec, count, size: of its payload. rate, scale:
    what the optimizer was told beside it. rows: of observations, whose moments of ``moments`` bytes follow the payload.
    """

    numbers: Numbers
    codec: str
    count: int
    size: int
    rate: float
    scale: float
    rows: int = 0
    moments: int = 0


class Batch(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Updates that were applied together. version: of θ before them. counters: the run's, when they were ordered."""

    version: int
    steps: tuple[Step, ...]
    counters: dict[str, int | float]


class Mark(msgspec.Struct, frozen=True, array_like=True, tag="mark"):
    """A checkpoint was taken here. digest: BLAKE2b-256 of its θ, optimizer and moments, in hexadecimal."""

    version: int
    digest: str


Record = Batch | Mark

_encoder = msgspec.msgpack.Encoder()
_records: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_heads = msgspec.msgpack.Decoder(Head)


class Draft:
    """Steps that were applied since they were last taken."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._buffers: list[Buffer] = []

    def add(
        self,
        numbers: Numbers,
        update: Update,
        rate: float,
        scale: float,
        moments: Moments | None,
    ) -> None:
        """moments: of the observations that were merged with it."""
        self._buffers.append(update.payload)
        rows, size = 0, 0
        if moments is not None:
            kept = moments.to_buffer()
            rows, size = moments.count, len(kept)
            self._buffers.append(kept)
        self._steps.append(Step(numbers, update.codec, update.count, size_of(update.payload), rate, scale, rows, size))

    def take(self, version: int, counters: dict[str, int | float]) -> tuple[Batch, Sequence[Buffer]] | None:
        """All of them as one record; None where there are none. version: of θ after them."""
        steps, buffers = tuple(self._steps), self._buffers
        self._steps, self._buffers = [], []
        return (Batch(version - len(steps), steps, counters), buffers) if steps else None


class Writer:
    """Turns records into bytes, one behind the other."""

    def __init__(self) -> None:
        self._crc = 0

    def head(self, head: Head) -> bytes:
        """Begins a segment."""
        self._crc = 0
        return MAGIC + self._framed([_encoder.encode(head)])

    def record(self, record: Record, buffers: Sequence[Buffer] = ()) -> bytes:
        """buffers: the payload of each step, and its moments where it has any."""
        header = _encoder.encode(record)
        return self._framed([LENGTH.pack(len(header)), header, *buffers])

    def _framed(self, parts: Sequence[Buffer]) -> bytes:
        for part in parts:
            self._crc = zlib.crc32(part, self._crc)
        return b"".join((FRAME.pack(sum(map(size_of, parts)), self._crc), *parts))


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment's bytes say, as far as they add up; each buffer is a view of them."""

    head: Head
    records: Iterator[tuple[Record, Sequence[memoryview]]]


def parse(data: bytes) -> Segment | None:
    """None where not even a head can be read. Records end where the bytes do or no longer add up."""
    if data[: len(MAGIC)] != MAGIC:
        return None
    bodies = _bodies(memoryview(data)[len(MAGIC) :])
    try:
        return Segment(_heads.decode(next(bodies)), _read(bodies))
    except (StopIteration, msgspec.DecodeError):
        return None


def _bodies(left: memoryview) -> Iterator[memoryview]:
    crc = 0
    while len(left) >= FRAME.size:
        length, told = FRAME.unpack_from(left)
        body = left[FRAME.size : FRAME.size + length]
        crc = zlib.crc32(body, crc)
        if length > MAX_RECORD_BYTES or len(body) != length or crc != told:
            return
        yield body
        left = left[FRAME.size + length :]


def _read(bodies: Iterator[memoryview]) -> Iterator[tuple[Record, Sequence[memoryview]]]:
    for body in bodies:
        if len(body) < LENGTH.size:
            return
        end = LENGTH.size + LENGTH.unpack_from(body)[0]
        try:
            record = _records.decode(body[LENGTH.size : end])
        except msgspec.DecodeError:
            return
        buffers = _cut(body[end:], record)
        if buffers is None:
            return
        yield record, buffers


def _cut(rest: memoryview, record: Record) -> Sequence[memoryview] | None:
    """The buffers of a record; None where they are not as long as it says."""
    sizes = [size for step in record.steps for size in _sizes(step)] if isinstance(record, Batch) else []
    if any(size < 0 for size in sizes) or sum(sizes) != len(rest):
        return None
    buffers, start = [], 0
    for size in sizes:
        buffers.append(rest[start : start + size])
        start += size
    return buffers


def _sizes(step: Step) -> tuple[int, ...]:
    return (step.size, step.moments) if step.rows else (step.size,)
