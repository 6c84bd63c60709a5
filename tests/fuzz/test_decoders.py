"""Whatever arrives, a decoder answers with a value in bounds or with the peer's fault, and with nothing else."""

from __future__ import annotations

import contextlib
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import frames as framing
from protocol.buffers import PREAMBLE, Buffer
from protocol.codecs.registry import CODECS, Sparse
from protocol.errors import PeerFault
from protocol.manifest import ManifestError
from protocol.manifest import decode as decode_manifest
from protocol.messages import Applied, Snapshot, Updates, decode
from protocol.moments import Moments
from protocol.snapshot import Reconstruction
from protocol.updates import unpack
from tests.golden import make
from tests.protocol.samples import STRATEGIES, length_of

pytestmark = pytest.mark.filterwarnings("error")
HEADERS = [bytes(make.frames_of(name)[0]) for name in make.MESSAGES]
RECORDS: tuple[Literal["key", "delta"], ...] = ("key", "delta")
PAYLOADS = [(name, made) for name, made in make.payloads().items()]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A few bytes replaced, cut out or put in."""
    hurt = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(hurt)))
        hurt[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(hurt)


def parse(frames: list[Buffer]) -> None:
    with contextlib.suppress(PeerFault):
        framing.check(frames)
        decode(frames)


@given(frames=st.lists(st.binary(max_size=64), max_size=9))
def test_any_frames(frames: list[Buffer]) -> None:
    parse(frames)


@given(header=st.binary(max_size=200))
def test_any_header(header: bytes) -> None:
    parse([PREAMBLE + header])


@settings(max_examples=500)
@given(data=st.data(), header=st.sampled_from(HEADERS), buffers=st.integers(0, 2))
def test_damaged_headers(data: st.DataObject, header: bytes, buffers: int) -> None:
    parse([data.draw(damaged(header)), *[b""] * buffers])


def assert_in_bounds(name: str, buffer: bytes, length: int, count: int) -> None:
    try:
        decoded = CODECS[name].decode(buffer, length, count)
    except PeerFault:
        return
    if not isinstance(decoded, Sparse):
        assert decoded.shape == (length,)
        return
    assert len(decoded.indices) == len(decoded.values) == count
    assert np.isfinite(decoded.values).all()
    assert (np.diff(decoded.indices) > 0).all()
    assert not count or 0 <= decoded.indices[0] <= decoded.indices[-1] < length


@pytest.mark.parametrize("name", CODECS)
@given(buffer=st.binary(max_size=80), length=st.integers(0, 1 << 28), count=st.integers(0, 80))
def test_any_payload(name: str, buffer: bytes, length: int, count: int) -> None:
    assert_in_bounds(name, buffer, length, count)
    assert_in_bounds(name, buffer, count, count)


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=200)
@given(data=st.data())
def test_damage_to_what_each_encoder_writes(name: str, data: st.DataObject) -> None:
    value = data.draw(STRATEGIES[CODECS[name].selection])
    encoded = CODECS[name].encode(value)
    assert_in_bounds(name, data.draw(damaged(encoded.buffer)), length_of(value), encoded.count)


@settings(max_examples=500)
@given(levels=st.binary(max_size=6), gaps=st.binary(max_size=20), width=st.integers(1, 2), length=st.integers(0, 3000))
def test_any_gaps_behind_a_sound_lead(levels: bytes, gaps: bytes, width: int, length: int) -> None:
    scale = np.ones(min(1, len(levels)), "<f4").tobytes()
    assert_in_bounds("topk_i8", bytes((width,)) + scale + levels + gaps, length, len(levels))


@settings(max_examples=300)
@given(data=st.data(), vector=st.sampled_from(PAYLOADS))
def test_damaged_payloads(data: st.DataObject, vector: tuple[str, dict[str, object]]) -> None:
    made = vector[1]
    length, count = made["length"], made["count"]
    assert isinstance(length, int)
    assert isinstance(count, int)
    assert_in_bounds(str(made["codec"]), data.draw(damaged(bytes.fromhex(str(made["payload"])))), length, count)


@given(buffer=st.binary(max_size=100), count=st.integers(0, 1 << 53))
def test_any_moments(buffer: bytes, count: int) -> None:
    try:
        moments = Moments.from_buffer(buffer, count)
    except PeerFault:
        return
    merged = Moments(5, np.ones(moments.size), np.ones(moments.size)).merge(moments)
    assert np.isfinite(merged.mean).all()
    assert np.isfinite(merged.m2).all()
    assert np.isfinite(merged.scale()).all()


@given(
    payload=st.binary(max_size=24),
    moments=st.binary(max_size=40),
    codec=st.sampled_from([*CODECS, "zip"]),
    record=st.sampled_from(RECORDS),
    count=st.integers(0, 5),
)
def test_any_snapshot(payload: bytes, moments: bytes, codec: str, record: Literal["key", "delta"], count: int) -> None:
    held = Reconstruction(bytes(8), 4)
    held.apply(Snapshot(1, 1, "key", 0, bytes(8), "f32", 4, 4), [bytes(16)])
    with contextlib.suppress(PeerFault):
        held.apply(Snapshot(1, 2, record, 1, bytes(8), codec, 4, count, 3), [payload, moments])
    assert np.isfinite(held.theta).all()


@given(
    payload=st.binary(max_size=40),
    moments=st.binary(max_size=40),
    applied=st.lists(
        st.builds(
            Applied,
            st.sampled_from([*CODECS, "zip"]),
            st.integers(0, 5),
            st.integers(0, 24),
            st.floats() | st.just(0.5),
        ),
        max_size=3,
    ),
    version=st.integers(1, 4),
)
def test_any_updates(payload: bytes, moments: bytes, applied: list[Applied], version: int) -> None:
    held = Reconstruction(bytes(8), 4)
    held.apply(Snapshot(1, 1, "key", 0, bytes(8), "f32", 4, 4), [bytes(16)])
    before = held.theta.tobytes()
    try:
        outcome = held.apply(Updates(1, version, 1, bytes(8), 4, tuple(applied), 3), [payload, moments])
    except PeerFault:
        outcome = "old"
    assert np.isfinite(held.theta).all()
    assert outcome == "taken" or held.theta.tobytes() == before


@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(CODECS)), factor=st.floats(width=32))
def test_damaged_updates(data: st.DataObject, name: str, factor: float) -> None:
    encoded = CODECS[name].encode(data.draw(STRATEGIES[CODECS[name].selection]))
    length = len(encoded.decoded) if isinstance(encoded.decoded, np.ndarray) else encoded.decoded.length
    payload = data.draw(damaged(encoded.buffer))
    record = Updates(1, 1, 0, bytes(8), length, (Applied(name, encoded.count, len(payload), factor),))
    with contextlib.suppress(PeerFault):
        assert len(list(unpack(record, payload))) == 1


@given(text=st.binary(max_size=200))
def test_any_manifest(text: bytes) -> None:
    with contextlib.suppress(ManifestError):
        decode_manifest(text)
