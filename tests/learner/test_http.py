"""The pages over a real socket on a port that the system chose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from learner.http import ACTORS_LISTED, PortUnusable, Site, bind, front_page, pages_of, status
from learner.metrics import Metrics
from learner.state import LearnerState, Stage
from tests.learner.books import join, learner_state, trained

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
    assert "farflung_learner_env_steps_total 1000.0" in answers[1][2]
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
        with pytest.raises(PortUnusable, match=rf"--http 127\.0\.0\.1:{port}: the port is in use"):
            bind("127.0.0.1", port)

    asyncio.run(_served(state, twice))


def test_status_tells_of_each_actor() -> None:
    state = learner_state(trained([3.0]))
    peer = join(state, "local-0", now=1.0)
    peer.version, peer.env_steps = 1, 640
    told = status(state, 4.0)
    assert told["version"] == 3
    assert told["actors"] == 1
    (actor,) = told["actor_list"]
    assert (actor["name"], actor["lag_updates"], actor["silent_s"], actor["env_steps"]) == ("local-0", 2, 3.0, 640)


def test_status_tells_roles_and_what_was_evaluated() -> None:
    state = learner_state(trained([3.0]))
    join(state, "local-0", now=1.0)
    join(state, "judge", now=1.0, role="evaluate")
    state.progress.evaluations, state.progress.evaluated_best_mean, state.progress.evaluated_best_version = 2, 9.5, 1
    told = status(state, 4.0)
    assert [actor["role"] for actor in told["actor_list"]] == ["train", "evaluate"]
    assert (told["actors"], told["evaluators"], told["target_version"], told["staleness_rule"]) == (
        1,
        1,
        None,
        "compensate",
    )
    assert (told["evaluations"], told["evaluated_best_mean"], told["evaluated_best_version"]) == (2, 9.5, 1)


def test_status_is_bounded() -> None:
    state = learner_state()
    for number in range(ACTORS_LISTED + 5):
        join(state, f"a{number}", 0.0)
    told = status(state, 0.0)
    assert told["actors"] == ACTORS_LISTED + 5
    assert len(told["actor_list"]) == ACTORS_LISTED


def test_the_front_page_escapes() -> None:
    assert "<script>" not in front_page([("name", "<script>alert(1)</script>")])
