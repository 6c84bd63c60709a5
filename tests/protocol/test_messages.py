"""Messages: every kind survives the wire, and what is not ours is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import msgpack
import pytest

from protocol import messages
from protocol.buffers import PREAMBLE, Buffer
from protocol.errors import FrameFault, MessageFault, PeerFault, Reason
from protocol.messages import (
    KINDS,
    MAX_METRICS,
    Evaluation,
    Fault,
    Gradient,
    Heartbeat,
    Message,
    Metric,
    Refusal,
    Report,
    Snapshot,
    decode,
    encode,
    expected_buffers,
    kind,
)
from tests.golden.make import MESSAGES


def refused(frames: list[Buffer]) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        decode(frames)
    return caught.value


def framed(header: object) -> list[Buffer]:
    return [PREAMBLE + msgpack.packb(header)]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    buffers: list[Buffer] = [b"\x01\x02"] * expected_buffers(message)
    assert decode(encode(message, buffers)) == (message, buffers)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_frames_may_be_memoryviews(message: Message) -> None:
    frames = [memoryview(frame) for frame in encode(message, [b""] * expected_buffers(message))]
    assert decode(frames)[0] == message


def test_every_kind_has_a_sample() -> None:
    assert {kind(message) for message in MESSAGES.values()} == KINDS


@pytest.mark.parametrize("buffers", [[], [b""] * 2])
def test_buffers_that_the_header_does_not_describe_are_refused(buffers: list[Buffer]) -> None:
    fault = refused(encode(Gradient(1, 1, 0, "f32", 0, 0), buffers))
    assert isinstance(fault, MessageFault)
    assert fault.reason is Reason.MALFORMED_MESSAGE


def test_moments_are_a_second_buffer() -> None:
    assert expected_buffers(Gradient(1, 1, 0, "f32", 1, 1, Report(1, observations=3))) == 2
    assert expected_buffers(Gradient(1, 1, 0, "f32", 1, 1, Report(1))) == 1
    assert expected_buffers(Snapshot(1, 1, "key", 0, bytes(8), "f32", 1, 1, observations=3)) == 2


def test_another_protocol_version_is_named() -> None:
    fault = refused([b"FRF\x07" + msgpack.packb(["goodbye"])])
    assert isinstance(fault, FrameFault)
    assert fault.reason is Reason.WRONG_PROTOCOL
    assert "version 7" in fault.detail


@pytest.mark.parametrize("header", [b"", b"FR", b"HTTP/1.1", b"frf\x01\x91\xa0"])
def test_a_foreign_preamble_is_malformed(header: bytes) -> None:
    assert refused([header]).reason is Reason.MALFORMED_FRAME


def test_an_unknown_kind_is_refused_by_name() -> None:
    fault = refused(framed(["teleport", 1]))
    assert fault.reason is Reason.UNKNOWN_KIND
    assert "teleport" in fault.detail


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        7,
        [7],
        ["heartbeat"],
        ["heartbeat", -1, 0, 0],
        ["heartbeat", 1, 1 << 53, 0],
        ["heartbeat", "1", 0, 0],
        ["gradient", 1, 0, 0, "f32", 1, 1, None],
        ["snapshot", 1, 1, "frame", 0, bytes(8), "f32", 1, 1, 0],
        ["snapshot", 1, 1, "key", 0, bytes(7), "f32", 1, 1, 0],
        ["verdict", 1, 1, []],
        ["verdict", 1, 0, [[1, "applied", 1, 1.0]]],
    ],
)
def test_a_header_out_of_bounds_is_malformed(header: object) -> None:
    assert refused(framed(header)).reason is Reason.MALFORMED_MESSAGE


def test_trailing_bytes_and_deep_nesting_are_malformed() -> None:
    frames = encode(Heartbeat(1, 2, 3))
    assert refused([bytes(frames[0]) + b"\x00"]).reason is Reason.MALFORMED_MESSAGE
    assert refused([PREAMBLE + b"\x91" * 100_000]).reason is Reason.MALFORMED_MESSAGE


def test_a_field_that_a_later_version_appends_is_passed_over() -> None:
    whole = ["heartbeat", 1, 2, 3, 0.5, 0.25, 4, 5, 6, 7, 8, [["raised", 2, "boom"]], 0.5]
    assert decode(framed([*whole, "later"]))[0] == Heartbeat(
        1, 2, 3, 0.5, 0.25, 4, 5, 6, 7, 8, (Fault("raised", 2, "boom"),), 0.5
    )


def test_a_header_cut_anywhere_is_refused() -> None:
    header = bytes(encode(MESSAGES["welcome"])[0])
    for end in range(len(header)):
        assert isinstance(refused([header[:end]]), PeerFault)


def test_the_specification_names_every_field_in_order() -> None:
    text = (Path(messages.__file__).parent / "WIRE.md").read_text(encoding="utf-8")
    for message in MESSAGES.values():
        section = text.partition(f"\n### {kind(message)} (")[2].partition("\n##")[0]
        if kind(message) in {"refusal", "goodbye"}:
            named = re.findall(r"`(\w+)`", section)  # small enough for a sentence
        else:
            named = re.findall(r"^\| (\w+) \|", section, re.MULTILINE)[1:]  # below the table's head
        assert named == list(message.__struct_fields__)


def header(*fields: object) -> list[Buffer]:
    return [PREAMBLE + msgpack.packb(fields)]


def test_an_integer_or_a_float_of_32_bits_may_stand_for_a_float() -> None:
    short = msgpack.packb(("heartbeat", 1, 2, 3, 0.5), use_single_float=True)
    for frames, round_trip_s in ((header("heartbeat", 1, 2, 3, 4), 4.0), ([PREAMBLE + short], 0.5)):
        assert decode(frames)[0] == Heartbeat(1, 2, 3, round_trip_s)
    large, _ = decode(header("evaluation", 1, 1, 1, (1 << 63) + 1, 0, 0, 0))
    assert isinstance(large, Evaluation)
    assert large.mean == float((1 << 63) + 1)


@pytest.mark.parametrize(
    "fields",
    [
        ("heartbeat", 1, 2.0, 3),  # no float for an integer
        ("heartbeat", True, 2, 3),
        ("heartbeat", 1, 2, 3, True),
        ("snapshot_request", 1, 1),  # no number for a boolean
        ("hello", "actor", 1, ["f32"], "watch"),  # words that no table lists
        ("snapshot", 1, 0, "diff", 0, bytes(8), "f32", 4, 4),
    ],
)
def test_what_stands_for_nothing_else_is_refused(fields: tuple[object, ...]) -> None:
    frames = [*header(*fields), b""] if fields[0] == "snapshot" else header(*fields)
    assert refused(frames).reason is Reason.MALFORMED_MESSAGE


def test_names_that_nobody_here_knows_are_taken_as_they_are() -> None:
    message, _ = decode([*header("gradient", 1, 1, 0, "codec_of_tomorrow", 4, 4), b""])
    assert isinstance(message, Gradient)
    refusal, _ = decode(header("refusal", "reason_of_tomorrow", ""))
    assert refusal == Refusal("reason_of_tomorrow", "")


def test_a_report_without_metrics_is_written_as_before_there_were_any() -> None:
    old = ["gradient", 1, 2, 0, "f32", 1, 1, [4, [], [0.0] * 7, 0]]
    assert encode(Gradient(1, 2, 0, "f32", 1, 1, Report(4)), [b""])[0] == framed(old)[0]
    told = Gradient(1, 2, 0, "f32", 1, 1, Report(4, explained_variance=0.5, metrics=(Metric("success", 1.0, 3),)))
    assert decode(encode(told, [b""]))[0] == told


@pytest.mark.parametrize(
    "metrics", [[["", 1.0, 1]], [["x" * 65, 1.0, 1]], [["a", 1.0, 0]], [["a", 1.0]] * (MAX_METRICS + 1)]
)
def test_metrics_are_bounded(metrics: object) -> None:
    report = [4, [], [0.0] * 7, 0, None, metrics]
    assert refused(framed(["gradient", 1, 2, 0, "f32", 1, 1, report])).reason is Reason.MALFORMED_MESSAGE
