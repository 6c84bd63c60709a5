"""Addresses on a command line."""

from __future__ import annotations

import pytest

from learner.launch.options import BadAddress, host_and_port


@pytest.mark.parametrize(
    ("text", "host", "port"), [("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:9400", "::1", 9400), ("h:65535", "h", 65535)]
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert host_and_port(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":", ":1", "h", "h:", "h:x", "h:-1", "h:65536", "::1:9400", "h:²"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress) as caught:
        host_and_port(text, "--metrics")
    assert str(caught.value).startswith(f"--metrics {text!r}: expected HOST:PORT, as in ")
