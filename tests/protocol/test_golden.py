"""The wire to the byte. If one of these fails, the protocol has changed.

Then raise PROTOCOL_VERSION, add a line to section 9 of WIRE.md, and only then run ``python -m tests.golden.make``.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol.buffers import PROTOCOL_VERSION
from protocol.codecs.lossless import SUFFIX
from protocol.codecs.registry import CODECS, Sparse
from protocol.messages import Gradient, decode
from protocol.moments import Moments
from tests.golden import make
from tests.golden.plain import read

GOLDEN = Path(make.__file__).parent


def golden(name: str) -> dict[str, Any]:
    content = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert content["protocol_version"] == PROTOCOL_VERSION
    return dict(content[name])


MESSAGES, PAYLOADS = golden("messages"), golden("payloads")


def test_the_vectors_are_what_this_code_writes() -> None:
    assert make.messages() == MESSAGES
    assert make.payloads() == PAYLOADS


def test_every_codec_has_a_vector() -> None:
    """The lossless stage is one for all of them; what zstandard writes depends on its version (test_lossless.py)."""
    named = {vector["codec"] for vector in PAYLOADS.values()}
    assert {name for name in CODECS if not name.endswith(SUFFIX)} <= named
    assert any(name.endswith(SUFFIX) for name in named)


@pytest.mark.parametrize("name", MESSAGES)
def test_this_code_reads_the_vectors(name: str) -> None:
    frames = [bytes.fromhex(frame) for frame in MESSAGES[name]]
    assert decode(frames)[0] == make.MESSAGES[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_another_msgpack_reads_the_same_fields(name: str) -> None:
    header = bytes.fromhex(MESSAGES[name][0])
    assert header[:4] == b"FRF" + bytes([PROTOCOL_VERSION])
    message, fields = make.MESSAGES[name], msgpack.unpackb(header[4:], strict_map_key=True)
    whole = plain(message)
    if isinstance(message, Gradient) and message.report is not None:
        assert_shortened(fields[-1], whole.pop(), message.report)
        fields.pop()
    assert_shortened(fields, whole, message)


def assert_shortened(fields: list[Any], whole: list[Any], struct: Any) -> None:
    """What was left out is at its default."""
    left_out = whole[len(fields) :]
    assert fields == whole[: len(fields)]
    assert not left_out or left_out == msgpack.unpackb(msgpack.packb(struct.__struct_defaults__[-len(left_out) :]))


def plain(message: Any) -> list[Any]:
    """The header as WIRE.md describes it: kind, then the fields in order, nested records as arrays."""

    def flat(field: Any) -> Any:
        if isinstance(field, tuple):
            return [flat(each) for each in field]
        if hasattr(field, "__struct_fields__"):
            return [flat(getattr(field, name)) for name in field.__struct_fields__]
        return field

    return [message.__struct_config__.tag, *flat(message)]


def test_the_moments_buffer_is_mean_then_m2() -> None:
    buffer = bytes.fromhex(MESSAGES["gradient_with_report"][2])
    assert struct.unpack("<4d", buffer) == (0.5, -2.0, 1.25, 0.0)
    assert Moments.from_buffer(buffer, 5).count == 5


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_plain_reader_and_the_codec_agree(name: str) -> None:
    vector = PAYLOADS[name]
    payload, length, count = bytes.fromhex(vector["payload"]), vector["length"], vector["count"]
    decoded = CODECS[vector["codec"]].decode(payload, length, count)
    dense = decoded.dense() if isinstance(decoded, Sparse) else decoded
    assert dense.tolist() == read(vector["codec"], payload, length, count)
