"""Addresses: what is accepted, what is refused and in which words, and what other machines can reach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MessageFault, UserError
from protocol.transport.address import (
    Address,
    AddressError,
    ExposedAddressError,
    is_local,
    parse_address,
    parse_learner_address,
    require_private,
    weights_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:5555", Address("tcp", "127.0.0.1", 5555)),
        ("tcp://learner-0.farm.local:1", Address("tcp", "learner-0.farm.local", 1)),
        ("tcp://*:65535", Address("tcp", "*", 65535)),
        ("tcp://localhost:*", Address("tcp", "localhost", 0)),
        ("tcp://[::1]:7", Address("tcp", "[::1]", 7)),
        ("tcp://[fe80::1%eth0]:7", Address("tcp", "[fe80::1%eth0]", 7)),
        ("ipc:///run/learner.sock", Address("ipc", path="/run/learner.sock")),
        ("ipc://relative", Address("ipc", path="relative")),
    ],
)
def test_accepted(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:5555",
        "udp://localhost:5555",
        "tcp://localhost",
        "tcp://:5555",
        "tcp://localhost:65536",
        "tcp://localhost:-1",
        "tcp://a;b:1",
        "tcp://a b:1",
        "tcp://::1:5",
        "tcp://[12]:5",
        "tcp://localhost:5555\n",
        "tcp://localhost:٣",
        "ipc://",
        "ipc://*",
        "ipc://@abstract",
        "ipc://a\0b",
    ],
)
def test_refused_with_the_value_and_what_would_do(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)
    assert "tcp://HOST:PORT" in str(caught.value)
    assert "ipc://PATH" in str(caught.value)
    assert isinstance(caught.value, UserError)


@given(st.text())
def test_any_text_is_an_address_or_a_user_error(text: str) -> None:
    for candidate in (text, "tcp://" + text, "ipc://" + text):
        try:
            address = parse_address(candidate)
        except AddressError:
            continue
        assert parse_address(str(address)) == address


def test_ipc_path_as_long_as_the_system_takes() -> None:
    assert parse_address("ipc://" + "a" * 107).path == "a" * 107
    with pytest.raises(AddressError, match="108 bytes"):
        parse_address("ipc://" + "a" * 108)
    with pytest.raises(AddressError, match="108 bytes"):
        parse_address("ipc://" + "é" * 54)
    with pytest.raises(AddressError, match="weights"):
        parse_address("ipc://" + "a" * 100).weights()


def test_the_weight_stream_lies_beside_the_link() -> None:
    assert parse_address("tcp://*:5555").weights() == parse_address("tcp://*:5556")
    assert parse_address("tcp://*:0").weights() == parse_address("tcp://*:0")
    assert parse_address("ipc:///a").weights() == parse_address("ipc:///a.weights")
    with pytest.raises(AddressError, match="next port"):
        parse_address("tcp://*:65535").weights()


def test_an_actor_needs_a_whole_address() -> None:
    assert parse_learner_address("tcp://host:5") == parse_address("tcp://host:5")
    for text in ("tcp://*:5", "tcp://host:*", "tcp://host:0"):
        with pytest.raises(AddressError, match="actor"):
            parse_learner_address(text)


@pytest.mark.parametrize(
    "text", ["tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc://a"]
)
def test_local(text: str) -> None:
    assert is_local(parse_address(text))
    require_private(parse_address(text), insecure=False)


@pytest.mark.parametrize(
    "text",
    ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://10.0.0.1:1", "tcp://eth0:1", "tcp://localhost.evil:1"],
)
def test_exposed(text: str) -> None:
    assert not is_local(parse_address(text))
    with pytest.raises(ExposedAddressError, match="--insecure") as caught:
        require_private(parse_address(text), insecure=False)
    assert text in str(caught.value)
    require_private(parse_address(text), insecure=True)


@pytest.mark.parametrize(
    ("learner", "advertised", "chosen"),
    [
        ("tcp://farm:5555", "tcp://*:5556 ipc:///l.weights", "tcp://farm:5556"),
        ("tcp://farm:5555", "tcp://*:7001 tcp://*:5556", "tcp://farm:5556"),
        ("tcp://farm:80", "tcp://*:7001", "tcp://farm:7001"),
        ("tcp://[::1]:5", "tcp://other:6", "tcp://other:6"),
        ("ipc:///l", "tcp://*:5556 ipc:///k.weights ipc:///l.weights", "ipc:///l.weights"),
    ],
)
def test_the_stream_that_fits_the_link_is_chosen(learner: str, advertised: str, chosen: str) -> None:
    assert weights_address(parse_address(learner), advertised) == parse_address(chosen)


@pytest.mark.parametrize("advertised", ["", "nonsense", "ipc:///l.weights", "tcp://*:5556 pgm://x"])
def test_a_stream_that_cannot_be_dialled_is_the_learners_fault(advertised: str) -> None:
    with pytest.raises(MessageFault):
        weights_address(parse_address("tcp://farm:5555"), advertised)
