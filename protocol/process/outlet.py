"""Output that must not hold anybody up: a thread of its own writes it. Knows threads and streams; no messages.

A pipe that nobody reads is full after 64 KiB, and a terminal that was stopped (Ctrl-S) takes nothing at all: a write
then waits for as long as the reader likes. So both daemons hand over what they say, and what does not fit into a
bounded queue is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import IO, cast

LIMIT = 1000  # jobs that may wait: events of a fleet that comes at once, a few hundred kB
CLOSE_S = 1.0  # for the last lines to leave; whoever has not read by then does not read

Job = Callable[[], object]


class Unbuffered:
    """A text stream's descriptor without its buffer, whose lock a blocked thread would hold when the process ends."""

    def __init__(self, stream: IO[str]) -> None:
        stream.flush()
        self._descriptor, self._tty = stream.fileno(), stream.isatty()
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str, /) -> int:
        """All of it, however long that takes. Raises OSError."""
        data = text.encode(self.encoding, "replace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever shares the descriptor made it so; the thread may wait
                select.select([], [self._descriptor], [])
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return self._tty

    def fileno(self) -> int:
        return self._descriptor


def unbuffered(stream: IO[str]) -> IO[str]:
    """The stream without its buffer, or itself where it has no descriptor."""
    try:
        return cast("IO[str]", Unbuffered(stream))
    except (OSError, ValueError):  # in memory, or closed
        return stream


class Outlet:
    """Does jobs that write, in order, on a thread of its own. lost: writes that so many did not get in.

    dropped: jobs that found the queue full, in all. A job whose stream is gone or full is done with.
    """

    def __init__(self, lost: Callable[[int], object], limit: int = LIMIT) -> None:
        self.dropped = 0
        self._lost, self._limit = lost, limit
        self._untold = 0  # of dropped
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> bool:
        """Queues a job, or drops it; whether it was queued. Never waits."""
        with self._changed:
            if len(self._jobs) >= self._limit:
                self.dropped += 1
                self._untold += 1
                return False
            self._tell_lost()
            self._jobs.append(job)
            self._changed.notify()
            return True

    def close(self, wait_s: float = CLOSE_S, last: Job | None = None) -> bool:
        """Ends the thread once the queue is empty; whether it was within ``wait_s``. last: always gets in."""
        with self._changed:
            self._tell_lost()
            if last is not None:
                self._jobs.append(last)
            self._closing = True
            self._changed.notify()
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _tell_lost(self) -> None:
        """Where they are missing: behind what waits, before what comes next."""
        if self._untold:
            self._jobs.append(partial(self._lost, self._untold))
            self._untold = 0

    def _run(self) -> None:
        while (job := self._next()) is not None:
            with contextlib.suppress(OSError, ValueError):  # whoever read is gone, or the disk is full
                job()

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            return self._jobs.popleft() if self._jobs else None
