"""An actor's pages, over a real socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actor.metrics import Counters, render
from actor.pages import METRICS_TYPE, Pages, serve
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
    counters.env_steps = 42
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


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--metrics 127\.0\.0\.1:{port}: Address already in use") as told:
            serve(pages(), "127.0.0.1", port)
    assert told.value.exit_code == 75
