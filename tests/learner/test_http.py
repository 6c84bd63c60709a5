"""The pages over a real socket on a port that the system chose."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from learner.http import PAGE, PARTS, PortUnusable, Site, bind, pages_of
from learner.metrics import Metrics
from learner.state import LearnerState, Stage
from tests.learner.books import join, learner_state, trained

ROOT = Path(__file__).resolve().parents[2]
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
    site = Site(bind("127.0.0.1", 0), pages_of(state, metrics.render, lambda: 2.0, lambda: stuck))
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
    state.stage = Stage.DRAINING
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
        join(state, f"a{number}", now=0.0).bytes_up = number
    (answer,) = visit(state, "/status?actors=2&by=-bytes_up")
    assert [actor["name"] for actor in json.loads(answer[2])["actor_list"]] == ["a2", "a1"]


def test_the_page_is_in_the_wheel() -> None:
    """Of what hatch packs, judged by its own rules."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert "learner" in settings["targets"]["wheel"]["packages"]
    assert not {"exclude", "only-include", "include"} & {*settings, *settings["targets"]["wheel"]}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert not any(Path(name).match(pattern.strip("/")) for name, _ in PARTS.values() for pattern in ignored)
    assert all((PAGE / name).is_file() for name, _ in PARTS.values())
