"""What holds for every codec: what the encoder says was read is what is read, and sizes are refused in time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codecs.registry import CODECS, Sparse, codec
from protocol.errors import PayloadFault, Reason
from tests.protocol.samples import STRATEGIES, bits, length_of, named, plain, refused, through


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
def test_the_encoder_knows_what_will_be_read(name: str, data: st.DataObject) -> None:
    value = data.draw(STRATEGIES[codec(name).selection])
    encoded, decoded = through(name, value)
    if isinstance(decoded, np.ndarray):
        assert isinstance(encoded.decoded, np.ndarray)
        assert bits(decoded) == bits(encoded.decoded)
        assert decoded.flags.writeable
        assert decoded.flags.owndata
        return
    assert isinstance(encoded.decoded, Sparse)
    assert isinstance(value, Sparse)
    assert decoded.length == encoded.decoded.length == length_of(value)
    assert decoded.indices.dtype == np.int32
    assert decoded.indices.tolist() == encoded.decoded.indices.tolist() == value.indices.tolist()
    assert bits(decoded.values) == bits(encoded.decoded.values)
    assert codec(name).selection != "random" or decoded.seed == encoded.decoded.seed == value.seed


@pytest.mark.parametrize("name", named("all", "rank"))
@given(data=st.data())
def test_a_dense_codec_reads_into_the_array_it_is_given(name: str, data: st.DataObject) -> None:
    value = data.draw(STRATEGIES[codec(name).selection])
    encoded, out = codec(name).encode(value), np.full(length_of(value), np.nan, np.float32)
    assert codec(name).decode(encoded.buffer, len(out), encoded.count, out) is out
    assert isinstance(encoded.decoded, np.ndarray)
    assert bits(out) == bits(encoded.decoded)


@pytest.mark.parametrize("name", CODECS)
def test_a_payload_of_another_size_is_refused(name: str) -> None:
    encoded = codec(name).encode(plain(name, 300))
    for buffer in (encoded.buffer[:-1], encoded.buffer + b"\x00", b""):
        refused(name, buffer, 300, 300)
    refused(name, encoded.buffer, 300, 299)
    refused(name, encoded.buffer, 299, 300)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("first", [0, 1])
def test_sizes_are_refused_before_anything_is_allocated(name: str, first: int) -> None:
    tracemalloc.start()
    refused(name, bytes((first,)) + bytes(99), 1 << 28, 1 << 28)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("name", [name for name, each in CODECS.items() if "+" not in each.name])
def test_a_size_alone_is_enough_to_refuse(name: str) -> None:
    with pytest.raises(PayloadFault):
        codec(name).check_size(100, 1 << 28, 1 << 28)


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(PayloadFault) as caught:
        codec("zip")
    assert caught.value.reason is Reason.UNKNOWN_CODEC
    assert "'zip'" in caught.value.detail
