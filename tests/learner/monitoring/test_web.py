"""The pages over a real socket on a port that the system chose."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from learner.monitoring import web
from learner.monitoring.metrics import Metrics
from learner.monitoring.web import ANY_NAME, PAGE, PARTS, PortUnusable, WebServer, bind, known_host, pages_of
from learner.shutdown import Stage
from learner.state import LearnerState
from protocol.process.descriptors import Reserve
from tests.learner.books import join, learner_state, trained

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 30.0


def visit(state: LearnerState, *paths: str, stuck: str | None = None) -> list[tuple[int, str, str]]:
    """(status, content type, text) of each page."""

    async def visiting(port: int) -> list[tuple[int, str, str]]:
        answers = []
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for path in paths:
                async with session.get(path) as answer:
                    answers.append((answer.status, answer.content_type, await answer.text()))
        return answers

    return asyncio.run(_served(state, visiting, stuck))


async def _served(state: LearnerState, use: Callable[[int], Awaitable[Any]], stuck: str | None = None) -> Any:
    metrics = Metrics(state, lambda: 0.0)
    site = WebServer(bind("127.0.0.1", 0), pages_of(state, metrics.render, lambda: 2.0, lambda: stuck))
    async with asyncio.timeout(DEADLINE_S):
        port = await site.start()
        try:
            return await use(port)
        finally:
            await site.stop()


def test_all_pages_answer() -> None:
    answers = visit(learner_state(trained([3.0])), "/", "/metrics", "/livez", "/readyz", "/status")
    assert [code for code, _, _ in answers] == [200] * 5
    assert [kind for _, kind, _ in answers] == ["text/html", *["text/plain"] * 3, "application/json"]
    assert "farflung_learner_run_env_steps 1000.0" in answers[1][2]
    assert '"env_steps":1000' in answers[4][2]


def test_there_is_nothing_else_and_nothing_to_post_to() -> None:
    assert visit(learner_state(), "/etc/passwd")[0][0] == 404


def test_a_stuck_math_thread_is_not_alive() -> None:
    assert visit(learner_state(), "/livez", stuck="busy for 60 s")[0] == (503, "text/plain", "busy for 60 s\n")


def test_a_draining_run_is_alive_and_not_ready() -> None:
    state = learner_state()
    state.shutdown.stage = Stage.DRAINING
    alive, ready = visit(state, "/livez", "/readyz")
    assert alive[0] == 200
    assert ready[0] == 503
    assert "draining" in ready[2]


def test_a_port_in_use_is_named() -> None:
    state = learner_state()

    async def twice(port: int) -> None:
        with pytest.raises(PortUnusable, match=rf"--http 127\.0\.0\.1:{port}: the port is in use") as told:
            bind("127.0.0.1", port)
        assert told.value.exit_code == 75

    asyncio.run(_served(state, twice))


def test_the_page_is_whole_and_loads_nothing_from_elsewhere() -> None:
    answers = visit(learner_state(), *PARTS)
    assert [code for code, _, _ in answers] == [200] * len(PARTS)
    assert [kind for _, kind, _ in answers] == [kind for _, kind in PARTS.values()]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answers[0][2])
    assert {"page.css", "page.js", "icon.svg", "status", "metrics"} <= set(loaded)
    assert all("/" + name in {*PARTS, "/status", "/history", "/metrics", "/livez", "/readyz"} for name in loaded)


def test_names_never_become_markup() -> None:
    script = "".join(file.read_text(encoding="utf-8") for file in PAGE.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|DOMParser", script)


def test_every_answer_forbids_what_the_page_does_not_need() -> None:
    async def visiting(port: int) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for path in ("/", "/status", "/nothing"):
                async with session.get(path) as answer:
                    policy = answer.headers["Content-Security-Policy"].split("; ")
                    assert policy[:2] == ["default-src 'none'", "script-src 'self'"]
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"

    asyncio.run(_served(learner_state(), visiting))


def test_a_browser_keeps_the_page_and_asks_again_and_keeps_no_numbers() -> None:
    async def visiting(port: int) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/page.js") as first:
                assert first.headers["Cache-Control"] == "no-cache"
                tag = first.headers["ETag"]
            async with session.get("/page.js", headers={"If-None-Match": tag}) as second:
                assert (second.status, await second.read()) == (304, b"")
            async with session.get("/page.js", headers={"If-None-Match": '"older"'}) as third:
                assert third.status == 200
            async with session.get("/status") as status:
                assert status.headers["Cache-Control"] == "no-store"

    asyncio.run(_served(learner_state(), visiting))


def test_heads_are_answered_and_nothing_is_taken() -> None:
    async def visiting(port: int) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for path in ("/", "/status", "/history", "/metrics", "/livez"):
                async with session.head(path) as answer:
                    assert (answer.status, await answer.read()) == (200, b"")
                async with session.post(path, data="x") as answer:
                    assert (answer.status, answer.content_type) == (405, "text/plain")

    asyncio.run(_served(learner_state(), visiting))


@pytest.mark.parametrize(
    "path",
    [
        "/status?by=password",
        "/status?actors=-1",
        "/status?actors=many",
        "/status?actors=99999",
        "/history?after=nan",
        "/history?after=soon",
        "/history?after=",
    ],
)
def test_a_question_without_sense_is_answered_plainly(path: str) -> None:
    (answer,) = visit(learner_state(), path)
    assert answer[:2] == (400, "text/plain")
    assert answer[2].endswith("\n")


def test_a_visitor_says_which_part_of_the_fleet_it_wants() -> None:
    state = learner_state()
    for number in range(3):
        join(state, f"a{number}", now=0.0).received_bytes = number
    (answer,) = visit(state, "/status?actors=2&by=-received_bytes")
    assert [actor["name"] for actor in json.loads(answer[2])["actor_list"]] == ["a2", "a1"]


def test_the_page_is_in_the_wheel() -> None:
    """Of what hatch packs, judged by its own rules."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert "learner" in settings["targets"]["wheel"]["packages"]
    assert not {"exclude", "only-include", "include"} & {*settings, *settings["targets"]["wheel"]}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert not any(Path(name).match(pattern.strip("/")) for name, _ in PARTS.values() for pattern in ignored)
    assert all((PAGE / name).is_file() for name, _ in PARTS.values())


HALF = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"


def test_a_request_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LONGEST_S", 0.0)
    monkeypatch.setattr(web, "SWEEP_S", 0.01)

    async def dawdle(port: int) -> list[bytes]:
        ends = []
        for said in (b"", HALF, HALF + b"\r\n"):  # the last asks once, and then keeps the connection
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            ends.append(await reader.read())
            writer.close()
        return ends

    silent, half, whole = asyncio.run(_served(learner_state(), dawdle))
    assert (silent, half) == (b"", b"")
    assert whole.startswith(b"HTTP/1.1 200 OK")


def test_who_comes_when_all_connections_are_taken_gets_that_of_who_was_silent_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "MOST", 4)

    async def crowd(port: int) -> tuple[list[bool], bytes]:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/livez") as answer:
            said = await answer.read()
        await silent[0][0].read()
        ended = [reader.at_eof() for reader, _ in silent]
        for _, writer in silent:
            writer.close()
        return ended, said

    assert asyncio.run(_served(learner_state(), crowd)) == ([True, False, False, False], b"ok\n")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:9400", True),
        ("[::1]:9400", True),
        ("10.4.0.7", True),
        ("localhost:1", True),
        ("learner:9400", True),  # compose's and Kubernetes' services, a machine of the same domain
        ("LEARNER.farflung.svc:9400", True),
        ("learner.farflung.svc.cluster.local.", True),
        ("box.home.arpa", True),
        ("proxy.example.org:443", True),  # as --http-name says
        ("", True),  # HTTP/1.0
        ("evil.example", False),
        ("127.0.0.1.evil.example:9400", False),
        ("svc.evil.example", False),
        ("a.proxy.example.org", False),
        ("[::1].evil.example", False),
        ("[::ffff:10.0.0.1]:80", True),
    ],
)
def test_pages_are_answered_under_names_that_nobody_else_can_have(host: str, known: bool) -> None:
    assert known_host(host, {"proxy.example.org"}) is known


def test_a_page_of_somebody_elses_reads_nothing_and_machines_ask_under_any_name() -> None:
    async def rebinding(port: int) -> dict[str, int]:
        found = {}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Host": "evil.example"}) as session:
            for path in (*PARTS, "/status", "/history", "/nothing", "/metrics", "/livez", "/readyz"):
                async with session.get(path) as answer:
                    found[path] = answer.status
        return found

    found = asyncio.run(_served(learner_state(), rebinding))
    assert {path for path, status in found.items() if status == 200} == {"/metrics", "/livez", "/readyz"}
    assert {status for path, status in found.items() if path not in ANY_NAME} == {421}


def test_a_visitor_who_finds_no_descriptor_is_let_in_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SWEEP_S", 0.01)
    refused: list[int] = []

    class Empty(Reserve):
        def lend(self, act: Callable[[], Any]) -> Any:
            if len(refused) < 3:
                refused.append(1)
                raise OSError(errno.EMFILE, "Too many open files")
            return super().lend(act)

    monkeypatch.setattr(web, "Reserve", Empty)
    assert visit(learner_state(), "/livez") == [(200, "text/plain", "ok\n")]
    assert len(refused) == 3
