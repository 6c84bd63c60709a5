"""One thread that works through jobs in order and reports to the event loop. Knows threads; no sockets, no θ."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from learner.events import Event

JOIN_S = 0.5  # longest wait when closing: what is still written then was waited for, or is not to be


class WorkThread:
    """One thread that does one thing at a time and reports back to the loop.

    done: called on the loop with each event that a job returns. broke: called on the loop if a job raises. start: in
    whose place it is started.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[Event], None],
        broke: Callable[[BaseException], None],
        *,
        start: Callable[[threading.Thread], None] = threading.Thread.start,
    ) -> None:
        self._loop, self._done, self._broke = loop, done, broke
        self._jobs: queue.SimpleQueue[Callable[[], Event | None] | None] = queue.SimpleQueue()
        self._since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        start(self._thread)

    def submit(self, job: Callable[[], Event | None]) -> None:
        """Queues a job; the state machine has at most two under way."""
        self._jobs.put(job)

    @property
    def busy_s(self) -> float:
        """Seconds that the present job has taken so far."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> bool:
        """Ends the thread after what it is doing; whether it has ended."""
        self._jobs.put(None)
        self._thread.join(JOIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._since = time.monotonic()
            try:
                event = job()
            except BaseException as error:
                self._tell(self._broke, error)
                return
            self._since = None
            if event is not None:
                self._tell(self._done, event)

    def _tell(self, what: Callable[[Any], None], argument: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(what, argument)
