"""Servers that answer, that do not, and that nobody asks."""

from __future__ import annotations

import socket

import pytest

from learner.monitoring.sinks import reach as module
from learner.monitoring.sinks.reach import Unreachable, require_reachable, shown


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getproxies", dict)


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_who_answers_is_reachable_and_who_does_not_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/api")
    port = closed_port()
    with pytest.raises(Unreachable) as caught:
        require_reachable(f"http://me:secret@127.0.0.1:{port}/api")
    assert str(caught.value) == f"http://127.0.0.1:{port}/api cannot be reached: Connection refused"
    with pytest.raises(Unreachable, match="cannot be reached: Port out of range"):
        require_reachable("http://127.0.0.1:99999")


@pytest.mark.parametrize("url", ["file:store", "databricks", "sqlite:///a.db", "", "http:///nowhere"])
def test_what_is_no_server_is_not_tried(url: str) -> None:
    require_reachable(url)
    assert shown(url) == url


def test_who_goes_by_a_proxy_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getproxies", lambda: {"http": "http://proxy"})
    monkeypatch.setattr(module, "proxy_bypass", lambda host: host == "127.0.0.1")
    require_reachable("http://tracking.acme.invalid")
    with pytest.raises(Unreachable):
        require_reachable(f"http://127.0.0.1:{closed_port()}")
