"""What was written is read again; what is torn, changed or moved ends the reading and never alters it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.durability import journal_format as module
from learner.durability.journal_format import FRAME, MAGIC, Batch, Head, Mark, Record, Segment, Step, Writer, batches
from learner.optim.applied import AppliedUpdate
from protocol.buffers import Buffer
from protocol.moments import Moments

HEAD = Head("ab" * 8, 3, 10, {"optimizer": "adam", "beta1": 0.9, "max_gradient_norm": None})
STEP = Step(((7, 1),), "topk_i8", 3, 4, 0.002, 0.5)
WITH_MOMENTS = Step(((7, 2), (8, 1)), "f32", 1, 4, 0.001, 1.0, 5, 16)
RECORDS: list[tuple[Record, Sequence[Buffer]]] = [
    (Batch(10, (STEP, WITH_MOMENTS), {"env_steps": 12}), (b"abcd", b"efgh", bytes(range(16)))),
    (Mark(12, "cd" * 32), ()),
    (Batch(12, (STEP,), {}), (b"ijkl",)),
]


def written(records: Sequence[tuple[Record, Sequence[Buffer]]] = RECORDS) -> list[bytes]:
    writer = Writer()
    return [writer.head(HEAD), *(writer.record(*each) for each in records)]


def read(data: bytes) -> list[tuple[Record, list[bytes]]]:
    segment = Segment(data)
    assert segment.head == HEAD
    return [(record, [bytes(buffer) for buffer in buffers]) for record, buffers in segment.records]


def expected(count: int) -> list[tuple[Record, list[bytes]]]:
    return [(record, [bytes(buffer) for buffer in buffers]) for record, buffers in RECORDS[:count]]


def test_what_was_written_is_read() -> None:
    assert read(b"".join(written())) == expected(3)


@pytest.mark.parametrize("cut", range(len(b"".join(written()[1:]))))
def test_a_torn_end_ends_the_reading_with_the_record_before(cut: int) -> None:
    parts = written()
    whole = sum(len(b"".join(parts[1 : 2 + index])) <= cut for index in range(3))
    assert read(parts[0] + b"".join(parts[1:])[:cut]) == expected(whole)


@given(at=st.integers(0, len(b"".join(written())) - 1), flip=st.integers(1, 255))
def test_a_changed_byte_is_never_read(at: int, flip: int) -> None:
    data = bytearray(b"".join(written()))
    data[at] ^= flip
    segment = Segment(bytes(data))
    found = [record for record, _ in segment.records]
    assert found == [record for record, _ in expected(len(found))]
    assert len(found) < 3
    assert segment.head in (None, HEAD)
    assert segment.unread_bytes > 0


def test_a_record_counts_only_where_it_was_written() -> None:
    head, first, mark, last = written()
    assert read(head + mark + first + last) == []
    assert read(head + first + last) == expected(1)
    other = Writer()
    other.head(HEAD)
    stale = other.record(Mark(10, "ef" * 32))  # of an earlier use of the same blocks
    assert read(head + first + stale) == expected(1)


@pytest.mark.parametrize("data", [b"", MAGIC, MAGIC + b"\0" * 8, b"FRFJ\x02\r\n\x00" + b"\0" * 64, b"\x80\x04K\x01."])
def test_what_has_no_head_is_no_segment(data: bytes) -> None:
    assert Segment(data).head is None
    assert list(Segment(data).records) == []


@given(body=st.binary(max_size=64))
def test_sound_checksums_over_nonsense_end_the_reading(body: bytes) -> None:
    head = written([])[0]
    crc = FRAME.unpack_from(head, len(MAGIC))[1]
    framed = FRAME.pack(len(body), zlib.crc32(body, crc)) + body
    assert list(Segment(head + framed).records) == []


@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert list(Segment(MAGIC + data).records) == []


def test_what_is_left_unread_is_counted() -> None:
    whole = b"".join(written())
    for tail, unread in ((b"", 0), (b"x", 1), (bytes(100), 0), (bytes(9) + b"x" + bytes(90), 10)):
        segment = Segment(whole + tail)
        list(segment.records)
        assert segment.unread_bytes == unread


def test_a_record_that_no_reader_would_take_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 200)
    writer = Writer()
    writer.head(HEAD)
    with pytest.raises(OSError, match=r"a record of \d+ bytes, more than 200"):
        writer.record(Batch(10, (STEP,), {}), (bytes(200),))


def test_a_batch_says_all_that_was_applied() -> None:
    assert list(batches(5, [], {})) == []
    first = AppliedUpdate(((7, 1),), "f32", 1, b"abcd", 0.5, 0.25)
    second = AppliedUpdate(((8, 4),), "f32", 1, b"abcd", 0.5, 1.0, Moments(3, np.zeros(1), np.zeros(1)))
    [(batch, buffers)] = batches(3, [first, second], {"env_steps": 1})
    assert batch == Batch(
        3, (Step(((7, 1),), "f32", 1, 4, 0.5, 0.25), Step(((8, 4),), "f32", 1, 4, 0.5, 1.0, 3, 16)), {"env_steps": 1}
    )
    assert buffers == [b"abcd", b"abcd", bytes(16)]


def test_a_batch_that_is_too_long_becomes_records_that_lead_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 10)
    applied = [
        AppliedUpdate(((7, number),), "f32", 1, payload, 0.5, 1.0)
        for number, payload in enumerate((b"abcd", b"efgh", b"a long one by itself", b"i"), 1)
    ]
    taken = list(batches(5, applied, {}))
    assert [(batch.version, [step.numbers[0][1] for step in batch.steps]) for batch, _ in taken] == [
        (5, [1, 2]),
        (7, [3]),
        (8, [4]),
    ]
    assert [buffers for _, buffers in taken] == [[b"abcd", b"efgh"], [b"a long one by itself"], [b"i"]]
