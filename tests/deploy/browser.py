"""A headless Chromium for tests, driven over its DevTools protocol. Knows processes and aiohttp; no other package.

Its connections leave this machine for nothing: all that Chromium does by itself in the background is turned off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

DEADLINE_S = 30.0
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # the tests run as root in a container, where Chromium has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def found() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One tab. errors: uncaught exceptions and error lines of its console, so far."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []

    async def listen(self) -> None:
        """Takes in what the browser says, until it closes."""
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                details = said["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                entry = said["params"]["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}".rstrip())

    async def do(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        said = await asyncio.wait_for(answer, DEADLINE_S)
        assert "error" not in said, f"{method}: {said['error']}"
        result: dict[str, Any] = said["result"]
        return result

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to in the page."""
        answer = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, expression: str, deadline_s: float = DEADLINE_S) -> Any:
        """The value of an expression once it is true."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while not (value := await self.value(expression)):  # noqa: ASYNC110 - the page has no event of ours
                    await asyncio.sleep(0.1)
                return value
        seen = await self.value("document.body.innerText")
        raise AssertionError(f"{expression} did not come true. The page shows:\n{seen}\n{self.errors}")

    async def open(self, url: str) -> None:
        """Goes there."""
        await self.do("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def shape(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of its window, and what its reader prefers."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 2 if width < 600 else 1, "mobile": width < 600}
        await self.do("Emulation.setDeviceMetricsOverride", **sizes)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """All of the page as a PNG."""
        shot = await self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextlib.asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """An empty page in a browser whose files are in ``folder``."""
    path = found()
    assert path is not None
    sink = asyncio.subprocess.DEVNULL
    arguments = (*FLAGS, f"--user-data-dir={folder}", "about:blank")
    process = await asyncio.create_subprocess_exec(path, *arguments, stdout=sink, stderr=sink)
    try:
        async with aiohttp.ClientSession() as session:
            address = await _address(folder, process)
            async with session.get(f"http://{address}/json/list") as answer:
                tab = next(tab for tab in await answer.json() if tab["type"] == "page")
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=64 << 20) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log"):
                    await page.do(f"{domain}.enable")
                yield page
                listening.cancel()
    finally:
        process.terminate()
        await process.wait()


async def _address(folder: Path, process: asyncio.subprocess.Process) -> str:
    """Where it listens, which it writes down in its folder once it does."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            assert process.returncode is None, f"the browser ended with {process.returncode}"
            with contextlib.suppress(FileNotFoundError, IndexError):
                return f"127.0.0.1:{int((folder / 'DevToolsActivePort').read_text().splitlines()[0])}"
            await asyncio.sleep(0.05)
