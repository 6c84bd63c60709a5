"""Whoever hears a run's lines, each on a thread of its own behind a queue with a bound. Knows threads and the loop.

Nothing that a listener does reaches training: one that is slow loses lines, which is counted and told, and one that
raises is counted and told once. In the end all of them together have END_S.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from learner.monitoring.sinks.sink import SinkFollower
from protocol.process.outlet import Outlet

LIMIT = 1000  # lines that may wait for one listener: minutes of them
END_S = 10.0  # for what waits in the end: an upload over a slow link, and less than a service manager's patience
DETAIL_CHARACTERS = 200
FINISHED = "finished"  # the line that every listener gets, however far behind it is

Hear = Callable[[Mapping[str, Any]], object]
Tell = Callable[[str, dict[str, object]], None]


class Feed:
    """One listener. name: for people. tell: gets events, from any thread. failed: calls of it that raised.

    detail: why it missed anything, as far as that is known: what it raised first, or what it is busy with.
    """

    def __init__(self, name: str, hear: Hear, tell: Tell, limit: int = LIMIT) -> None:
        self.name, self.failed = name, 0
        self._failure, self._doing = "", ""
        self._hear, self._tell, self._limit = hear, tell, limit
        self._last: bytes | None = None
        self._outlet = Outlet(lambda _: None, limit)

    @property
    def lost(self) -> int:
        """Lines that it did not get, since it was too far behind."""
        return self._outlet.dropped

    def submit(self, event: str, line: bytes) -> None:
        """One line of progress.jsonl, as it is written there. Never waits."""
        if event == FINISHED and self._last is None:
            self._last = line
        elif not self._outlet.submit(partial(self._take, line)) and self.lost == 1:
            self._tell("sink_behind", {"sink": self.name, "lines": self._limit})

    def close(self, wait_s: float) -> bool:
        """Hands over the last line and waits; whether all was taken in that time."""
        return self._outlet.close(wait_s, None if self._last is None else partial(self._take, self._last))

    @property
    def detail(self) -> str:
        busy = f"still busy with the event {self._doing}" if self._doing else ""
        where = f"{self._hear.where}: " if busy and isinstance(self._hear, SinkFollower) else ""
        return "; ".join(part for part in (self._failure, where + busy) if part)

    def _take(self, line: bytes) -> None:
        said = msgspec.json.decode(line)
        self._doing = str(said["event"])
        try:
            self._hear(said)
            self._doing = ""
        except BaseException as error:  # a user's callable may even try to end the interpreter
            self._doing = ""
            self.failed += 1
            if self.failed == 1:
                self._failure = f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]
                self._tell("sink_failed", {"sink": self.name, "detail": self._failure})


class Feeds:
    """All listeners of one life. tell: gets events, on the loop's thread.

    Known after ``close``: unfinished, names; left_s, of what they had together.
    """

    def __init__(self, listeners: Sequence[tuple[str, Hear]], tell: Tell) -> None:
        loop = asyncio.get_running_loop()

        def from_thread(event: str, fields: dict[str, object]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed, and who waited has told that
                loop.call_soon_threadsafe(tell, event, fields)

        self.unfinished: list[str] = []
        self.left_s = END_S
        self._tell = tell
        self._feeds = [Feed(name, hear, from_thread) for name, hear in listeners]

    def submit(self, event: str, line: bytes) -> None:
        """As of a feed, to all of them."""
        for feed in self._feeds:
            feed.submit(event, line)

    async def close(self, wait_s: float = END_S) -> None:
        """Waits for all of them at once, no longer than this; of one that missed anything a line says how much."""
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        closing = (asyncio.to_thread(feed.close, wait_s) for feed in self._feeds)
        for feed, finished in zip(self._feeds, await asyncio.gather(*closing), strict=True):
            if not finished:
                self.unfinished.append(feed.name)
            if feed.failed or feed.lost or not finished:
                missed: dict[str, object] = {"failed": feed.failed, "lost": feed.lost, "unfinished": not finished}
                self._tell("sink_closed", {"sink": feed.name, **missed, "detail": feed.detail})
        self.left_s = max(0.0, until - clock())
