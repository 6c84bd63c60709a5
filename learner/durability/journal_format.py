"""What the journal says, and its bytes. Pure. Knows records and checksums; no files, no θ.

A segment is a head and records, each ``length u32 | crc32 u32 | body``, little-endian. A body is ``header length u32 |
msgpack header | buffers``. Every checksum goes on from the one before, the first from the head's own, so that a record
counts only where it was written, and what follows a torn one counts for nothing (ARCHITECTURE.md, "Journal").
"""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from learner.optim.applied import AppliedUpdate, Numbers
from protocol.buffers import Buffer, size_of

MAGIC = b"FRFJ\x01\r\n\x00"
FRAME = struct.Struct("<II")
LENGTH = struct.Struct("<I")
MAX_RECORD_BYTES = (1 << 31) - 1  # four times a batch's; a damaged length may say anything
BATCH_BYTES = 1 << 29  # of buffers in one record, or one step: twice what the queue lets into a batch


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
# Of a record's header, six bytes or seven; a segment's payloads hold them by chance once in 2**24.
_BEGINNINGS = (_encoder.encode(Batch(0, (), {}))[:7], _encoder.encode(Mark(0, ""))[:6])


def batches(
    version: int, applied: Sequence[AppliedUpdate], counters: dict[str, int | float]
) -> Iterator[tuple[Batch, Sequence[Buffer]]]:
    """What was applied together, as one record unless that would be longer than ``BATCH_BYTES``.

    version: of θ before them. counters: the run's, when they were ordered. With each record come the payload of each
    of its steps, and its moments where it has any.
    """
    steps = [_step(each) for each in applied]
    for part in _parts([step for step, _ in steps]):
        mine = steps[: len(part)]
        del steps[: len(part)]
        yield Batch(version, part, counters), [buffer for _, buffers in mine for buffer in buffers]
        version += len(part)


def _step(applied: AppliedUpdate) -> tuple[Step, Sequence[Buffer]]:
    moments = applied.moments
    kept = None if moments is None else moments.to_buffer()
    step = Step(
        numbers=applied.numbers,
        codec=applied.codec,
        count=applied.count,
        size=size_of(applied.payload),
        rate=applied.rate,
        scale=applied.scale,
        rows=0 if moments is None else moments.count,
        moments=0 if kept is None else len(kept),
    )
    return step, (applied.payload,) if kept is None else (applied.payload, kept)


class Writer:
    """Turns records into bytes, one behind the other."""

    def __init__(self) -> None:
        self._crc = 0

    def head(self, head: Head) -> bytes:
        """Begins a segment."""
        self._crc = 0
        return MAGIC + self._framed([_encoder.encode(head)])

    def record(self, record: Record, buffers: Sequence[Buffer] = ()) -> bytes:
        """buffers: the payload of each step, and its moments where it has any. Raises OSError where it is too long."""
        header = _encoder.encode(record)
        return self._framed([LENGTH.pack(len(header)), header, *buffers])

    def _framed(self, parts: Sequence[Buffer]) -> bytes:
        length = sum(map(size_of, parts))
        if length > MAX_RECORD_BYTES:
            raise OSError(errno.EFBIG, f"a record of {length} bytes, more than {MAX_RECORD_BYTES}")
        for part in parts:
            self._crc = zlib.crc32(part, self._crc)
        return b"".join((FRAME.pack(length, self._crc), *parts))


class Segment:
    """What one segment's bytes say, which may be any bytes. head: None where not even that can be read.

    records: as far as they add up, once; each buffer is a view of the bytes. unread_bytes: what is left behind them.
    """

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)
        self._crc = 0
        self.head: Head | None = None
        if data[: len(MAGIC)] == MAGIC:
            self._left = self._left[len(MAGIC) :]
            self.head = self._decoded_head()
        self.records = self._read()

    @property
    def unread_bytes(self) -> int:
        """Behind the last record that was read; zeros at the end were reserved and never written."""
        return len(bytes(self._left).rstrip(b"\0"))

    @property
    def damaged(self) -> bool:
        """Whether another record begins behind the first that could not be read; a crash leaves less than one."""
        left = bytes(self._left)
        return any(left.find(sign, FRAME.size + LENGTH.size + 1) >= 0 for sign in _BEGINNINGS)

    def _decoded_head(self) -> Head | None:
        body = self._body()
        try:
            head = None if body is None else _heads.decode(body)
        except msgspec.DecodeError:
            return None
        self._take(body)
        return head

    def _read(self) -> Iterator[tuple[Record, Sequence[memoryview]]]:
        while self.head is not None and (body := self._body()) is not None:
            found = _decoded(body)
            if found is None:
                return
            self._take(body)
            yield found

    def _body(self) -> memoryview | None:
        """What comes next, if it is whole and follows what came before."""
        if len(self._left) < FRAME.size:
            return None
        length, told = FRAME.unpack_from(self._left)
        body = self._left[FRAME.size : FRAME.size + length]
        whole = length <= MAX_RECORD_BYTES and len(body) == length
        return body if whole and zlib.crc32(body, self._crc) == told else None

    def _take(self, body: memoryview | None) -> None:
        if body is not None:
            self._crc = FRAME.unpack_from(self._left)[1]
            self._left = self._left[FRAME.size + len(body) :]


def _decoded(body: memoryview) -> tuple[Record, Sequence[memoryview]] | None:
    if len(body) < LENGTH.size:
        return None
    end = LENGTH.size + LENGTH.unpack_from(body)[0]
    try:
        record = _records.decode(body[LENGTH.size : end])
    except msgspec.DecodeError:
        return None
    buffers = _cut(body[end:], record)
    return None if buffers is None else (record, buffers)


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


def _parts(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Consecutive, none empty: each ends before the step that would make it too long."""
    part: list[Step] = []
    size = 0
    for step in steps:
        step_bytes = sum(_sizes(step))
        if part and size + step_bytes > BATCH_BYTES:
            yield tuple(part)
            part, size = [], 0
        part.append(step)
        size += step_bytes
    if part:
        yield tuple(part)


def _sizes(step: Step) -> tuple[int, ...]:
    return (step.size, step.moments) if step.rows else (step.size,)
