"""An actor's pages, over a real socket."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actor.monitoring.metrics import Counters, render
from actor.monitoring.web import LONGEST_S, METRICS_TYPE, MOST, Pages, serve
from actor.stats import WorkerStats
from protocol.errors import UserError


def pages(
    counters: Counters | None = None,
    alive: Callable[[], str | None] = lambda: None,
    ready: Callable[[], str | None] = lambda: None,
) -> Pages:
    return Pages(lambda: render(counters or Counters()), alive, ready)


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_metrics_are_served_and_read_anew() -> None:
    counters = Counters()
    port = serve(pages(counters), "127.0.0.1", 0)
    counters.worker = WorkerStats(env_steps=42)
    with urlopen(f"http://127.0.0.1:{port}/metrics?x=1", timeout=30) as answer:
        assert answer.headers["Content-Type"] == METRICS_TYPE
        found = {s.name: s.value for f in text_string_to_metric_families(answer.read().decode()) for s in f.samples}
    assert found["farflung_actor_env_steps_total"] == 42


def test_a_trouble_is_told_with_503() -> None:
    troubles: dict[str, str | None] = {"alive": None, "ready": "no session"}
    port = serve(pages(None, lambda: troubles["alive"], lambda: troubles["ready"]), "127.0.0.1", 0)
    assert asked(port, "/livez") == (200, "ok\n")
    assert asked(port, "/readyz") == (503, "no session\n")
    troubles.update(alive="the link has not moved for 31 s", ready=None)
    assert asked(port, "/livez") == (503, "the link has not moved for 31 s\n")
    assert asked(port, "/readyz") == (200, "ok\n")
    assert asked(port, "/status")[0] == 404


def dialled(port: int, said: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(said)
    return client


def all_ended() -> None:
    """Waits for the threads of all connections."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(30)
            assert not thread.is_alive()


def test_a_client_that_breaks_off_is_not_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    port = serve(pages(), "127.0.0.1", 0)
    client = dialled(port, b"GET /met")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to end with a reset
    client.close()
    assert asked(port, "/livez")[0] == 200  # the other one came before
    all_ended()
    assert capfd.readouterr().err == ""


def test_connections_are_few() -> None:
    port = serve(pages(), "127.0.0.1", 0, lambda: 0.0)  # so that none takes too long
    with contextlib.ExitStack() as idle:
        for _ in range(MOST):
            idle.enter_context(dialled(port))
        with dialled(port) as further:
            assert further.recv(1) == b""
    all_ended()
    assert asked(port, "/livez") == (200, "ok\n")


def test_a_slow_client_is_given_some_seconds_in_all() -> None:
    times = {"now": 100.0}
    port = serve(pages(), "127.0.0.1", 0, lambda: times["now"])
    with dialled(port, b"GET /met") as slow:
        assert asked(port, "/livez")[0] == 200  # the slow one came before
        times["now"] += LONGEST_S
        slow.sendall(b"rics")
        assert asked(port, "/livez")[0] == 200
        assert select.select([slow], [], [], 0.0)[0] == [], "it is heard yet"
        slow.sendall(b" HTTP/1.0\r\nX-Slow: ")
        times["now"] += 0.1
        assert slow.recv(1) == b""
        all_ended()


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--metrics 127\.0\.0\.1:{port}: Address already in use") as told:
            serve(pages(), "127.0.0.1", port)
    assert told.value.exit_code == 75
