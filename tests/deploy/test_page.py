"""The learner's page in a real browser, during real runs: what a person sees of a run, of a stall and of a death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from learner.admission.quarantine import TOLERATED
from learner.monitoring.status import Sampler
from learner.monitoring.summary import STALLED_S
from learner.monitoring.web import WebServer, bind, pages_of
from protocol.errors import Reason
from tests.deploy.browser import DEADLINE_S, Page, browsing, found
from tests.learner.books import join, learner_state, trained
from tests.loopback.system import ENDLESS, Daemon, Launcher, free_ports, processes

pytestmark = [
    pytest.mark.skipif(not os.environ.get("TEST_DEPLOY"), reason="takes a minute: make test-deploy"),
    pytest.mark.skipif(found() is None, reason="there is no Chromium (Debian: apt install chromium)"),
    pytest.mark.timeout(300),
]
TARGET = "target 100\u202fk \u2191"
HOSTILE = "<img src=x onerror=window.owned=1>"
POINTS = "(document.querySelector('#curve path.line')?.getAttribute('d').length ?? 0)"
RETURN = "document.getElementById('return').textContent"
EARLIER_POINTS = "fetch('history').then((a) => a.json()).then((h) => h.time_s[0] < 2)"
PARTS = "[...document.querySelectorAll('#curve path')].map((p) => p.getAttribute('d').split('M').length - 1)"
SCALE = "[...document.querySelectorAll('#curve .main text:not(.target)')].map((t) => t.textContent)"
CUT_OFF = """[...document.querySelectorAll('#fleet tr > *, #heads th')].filter((cell) => {
  const box = cell.getBoundingClientRect();
  return !box.width || box.left < 0 || box.right > innerWidth + 1 || cell.scrollWidth > cell.clientWidth + 1;
}).map((cell) => cell.textContent)"""
ROWS = "document.querySelectorAll('#fleet tr').length"
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


@contextlib.asynccontextmanager
async def watching(
    folder: Path, launcher: Launcher, port: int, *arguments: object
) -> AsyncIterator[tuple[Page, Daemon]]:
    """The page of a learner that trains CartPole-v1, and that learner."""
    learner = launcher.learner("--http", f"127.0.0.1:{port}", "--run-dir", folder / "run", *ENDLESS, *arguments)
    await asyncio.to_thread(learner.event, "started")
    async with browsing(folder / "browser") as page:
        await page.open(f"http://127.0.0.1:{port}/")
        await page.until("document.querySelector('#curve path.line') && document.body.dataset.health === 'good'")
        yield page, learner


def test_a_run_is_shown_on_any_screen(tmp_path: Path) -> None:
    async def scene(launcher: Launcher) -> None:
        async with watching(tmp_path, launcher, free_ports()) as (page, _):
            length = await page.value(POINTS)
            await page.until(f"{POINTS} > {length}")
            assert await page.value("document.querySelectorAll('#fleet tr').length") == 2
            assert "actors" in str(await page.value("document.getElementById('limit').textContent")).lower()
            paper = set()
            for dark in (False, True):
                for width in (1280, 390):
                    await page.shape(width, 844, dark=dark)
                    await page.until(f"{FITS} && innerWidth === {width}")
                paper.add(await page.value(BACKGROUND))
            assert len(paper) == 2
            await page.value("document.querySelector('[data-axis=time_s]').click()")
            await page.until("document.querySelector('#curve').textContent.includes('s')")
            await page.value("document.querySelector('[data-field=lag_updates] button').click()")
            await page.until("document.querySelector('[data-field=lag_updates]').ariaSort === 'descending'")
            assert page.errors == []

    play(tmp_path, scene)


def test_a_name_is_text_and_nothing_but_the_page_s_own_script_runs(tmp_path: Path) -> None:
    async def scene(launcher: Launcher) -> None:
        bind = f"tcp://127.0.0.1:{free_ports()}"
        more = ("--actors", 1, "--bind", bind, "--insecure")
        async with watching(tmp_path, launcher, free_ports(), *more) as (page, _):
            launcher.actor(bind, HOSTILE)
            await page.until(f"[...document.querySelectorAll('#fleet th')].some(th => th.textContent === '{HOSTILE}')")
            assert await page.value("document.querySelectorAll('img').length") == 0
            assert page.errors == []
            await page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned=1\">')")
            await page.until("document.images[0].complete")
            assert await page.value("window.owned === undefined")
            assert any("Content Security Policy" in error for error in page.errors)

    play(tmp_path, scene)


def test_a_run_that_stands_still_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    async def scene(launcher: Launcher) -> None:
        more = ("--set", "learner.silence_s=120")
        async with watching(tmp_path, launcher, free_ports(), *more) as (page, learner):
            actors = [pid for pid in processes(launcher.mark, "actor") if pid != learner.pid]
            assert len(actors) >= 2
            for pid in actors:
                os.kill(pid, signal.SIGSTOP)
            await page.until("document.body.dataset.health === 'stalled'", STALLED_S + DEADLINE_S)
            assert "no update for" in str(await page.value("document.getElementById('health').textContent"))
            said = str(await page.value("document.getElementById('limit').textContent"))
            assert said.startswith("Nothing was applied for")
            await page.until("document.querySelectorAll('#fleet tr[data-state=silent]').length === 2")
            for pid in actors:
                os.kill(pid, signal.SIGCONT)
            await page.until("document.body.dataset.health === 'good'")
            assert page.errors == []

    play(tmp_path, scene)


def test_the_page_outlives_its_learner(tmp_path: Path) -> None:
    async def scene(launcher: Launcher) -> None:
        port = free_ports()
        more = ("--set", "learner.checkpoint_interval_s=0.5")
        async with watching(tmp_path, launcher, port, *more) as (page, learner):
            await asyncio.to_thread(learner.event, "checkpoint_written")
            await page.until(f"{POINTS} > 100 && {RETURN}.match(/[0-9]/)")
            learner.kill()
            await page.until("document.body.dataset.health === 'gone'")
            assert "learner unreachable since" in str(await page.value("document.getElementById('health').textContent"))
            assert await page.value("document.getElementById('age').textContent.startsWith('The numbers are those of')")
            said = str(await page.value("document.getElementById('limit').textContent"))
            assert said.startswith("The learner cannot be reached")
            assert await page.value(f"{RETURN}.match(/[0-9]/)")
            resumed = launcher.learner(
                "--resume", "--http", f"127.0.0.1:{port}", "--run-dir", tmp_path / "run", *ENDLESS, *more
            )
            await asyncio.to_thread(resumed.event, "started")
            await page.until("document.getElementById('run').textContent.includes('life 2')")
            await page.until("document.body.dataset.health === 'good'")
            assert await page.value(EARLIER_POINTS)
            assert set(await page.value(PARTS)) == {1}, "no curve breaks off where a life ends"
            length = await page.value(POINTS)
            await page.until(f"{POINTS} > {length}")
            assert all("ERR_CONNECTION" in error or "ERR_EMPTY" in error for error in page.errors)  # while it was gone

    play(tmp_path, scene)


def test_the_page_agrees_with_itself_and_a_phone_hides_nothing(tmp_path: Path) -> None:
    """Two of four actors are in quarantine, the target is far above all that was reached."""

    async def scene(_: Launcher) -> None:
        state = learner_state(trained([float(score) for score in range(100)]), until_return=100_000.0)
        sampler, now = Sampler(), 4.0
        peers = [join(state, name, now=4.0) for name in ("rack7-node-with-a-long-name-012", "a", "b", "c")]
        state.training_since = 0.0
        for tick in range(17):
            state.progress.env_steps += 500
            sampler.sample(state, tick / 4)
        for peer in peers[:2]:
            for _strike in range(TOLERATED + 1):
                state.admission.record_outcome(peer.sender, peer.name, Reason.NOT_FINITE, now)
        site = WebServer(bind("127.0.0.1", 0), pages_of(state, bytes, lambda: now, lambda: None, sampler))
        port = await site.start()
        try:
            async with browsing(tmp_path / "browser") as page:
                await page.open(f"http://127.0.0.1:{port}/")
                for width in (1280, 390):
                    await page.shape(width, 844)
                    await page.until(f"{FITS} && innerWidth === {width} && {ROWS} === 4")
                    assert await page.value(CUT_OFF) == []
                    fleet = await page.value("document.getElementById('fleet-count').textContent")
                    assert fleet == "2 training, 2 quarantined"
                    assert await page.value("document.querySelectorAll('#fleet [data-head=credit]').length") == 4
                    assert await page.value("document.querySelector('#curve text.target').textContent") == TARGET
                    assert not [text for text in await page.value(SCALE) if "k" in text], "it sets no scale"
                assert page.errors == []
        finally:
            await site.stop()

    play(tmp_path, scene)


def test_a_thousand_actors_are_shown_fifty_at_a_time(tmp_path: Path) -> None:
    async def scene(_: Launcher) -> None:
        state = learner_state(trained([float(score) for score in range(100)]))
        for number in range(1000):
            join(state, f"rack{number // 40}-{number % 40:02d}", now=0.0).received_bytes = number
        site = WebServer(bind("127.0.0.1", 0), pages_of(state, bytes, lambda: 4.0, lambda: None))
        port = await site.start()
        try:
            async with browsing(tmp_path / "browser") as page:
                await page.shape(390, 844)
                await page.open(f"http://127.0.0.1:{port}/")
                await page.until(f"{ROWS} === 50")
                await page.value("document.querySelector('[data-field=received_bytes] button').click()")
                await page.until("document.querySelector('#fleet th').textContent === 'rack24-39'")
                await page.value("document.getElementById('fleet-more').click()")
                await page.until(f"{ROWS} === 1000")
                assert await page.value(FITS)
                assert await page.value("document.getElementById('reasons').textContent.includes('stale updates')")
                assert page.errors == []
        finally:
            await site.stop()

    play(tmp_path, scene)


def play(folder: Path, scene: Callable[[Launcher], Coroutine[Any, Any, None]]) -> None:
    """The scene, and the end of all that it started."""
    with Launcher(folder) as launcher:
        asyncio.run(scene(launcher))
