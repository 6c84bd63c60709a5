"""How many files and connections the process may hold, and some of them in reserve. Knows the system's limit alone.

libzmq accepts connections until no descriptor is left, and unauthenticated peers may open as many as they like. So the
limit is as high as the system lets it be; some descriptors are held back for files; and a thread that must not wait for
peers to go has a table of descriptors of its own, where the system gives one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread, current_thread
from typing import TypeVar
from weakref import WeakSet

from protocol.errors import UserError

MOST = 1 << 16  # sixteen connections for each of the most actors that a learner takes by default, and their buffers
CLONE_FILES = 0x400  # of unshare(2)
RESERVED = 32  # for the files that a life opens at one time, and some that others are quicker to take
PATIENCE_S = 0.05  # before the next attempt, of as many as there are in reserve

T = TypeVar("T")


class TooFewDescriptors(UserError):
    """The system lets the process open too few files. limit: how many. least: that ``what`` needs."""

    def __init__(self, limit: int, least: int, what: str) -> None:
        super().__init__(limit, least, what)
        self.limit, self.least, self.what = limit, least, what

    def __str__(self) -> str:
        return f"ulimit -n is {self.limit}: {self.what} needs {self.least} open files and connections at least"


def raise_limit(least: int, what: str) -> int:
    """Raises the soft limit as far as it goes; returns it. Raises TooFewDescriptors below ``least``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower one that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft != resource.RLIM_INFINITY and soft < least:
        raise TooFewDescriptors(soft, least, what)
    return soft


class Reserve:
    """Descriptors that are held so that a file can be opened when there are no others.

    held: they. patience_s: before an attempt after one in which a peer was quicker.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.held: list[int] = []
        self._patience_s = patience_s

    def fill(self, count: int = RESERVED) -> bool:
        """Whether it holds ``count`` now."""
        with contextlib.suppress(OSError):
            while len(self.held) < count:
                self.held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return len(self.held) >= count

    def lend(self, act: Callable[[], T]) -> T:
        """What ``act`` returns, which opens a file. Where no descriptor is left it is given one of those held, and
        again where a peer was quicker, until none is left. Raises OSError, at once in a thread whose table is not
        the process's: a number that is held here may be a file of its own there.
        """
        while True:
            try:
                return act()
            except OSError as error:
                if error.errno != errno.EMFILE or not self.held or current_thread() in _APART:
                    raise
            os.close(self.held.pop())
            with contextlib.suppress(OSError):
                return act()
            time.sleep(self._patience_s)


_APART: WeakSet[Thread] = WeakSet()  # that do not share the process's table
RESERVE = Reserve()  # of the process, empty until a daemon fills it


class Apart:
    """A thread with a table of descriptors of its own, and whatever is started from it shares that: what they open does
    not count with the process's, and nobody else may use it. Where the system gives none (Linux does, but not in every
    container) they share the process's.

    To be made before anything is opened: the table begins as a copy, and a port or a pipe would be held in it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "apart", _own_table)
        self.call(lambda: None)  # it has its table

    def call(self, act: Callable[[], T]) -> T:
        """What ``act`` returns, done in that thread."""
        return self._thread.submit(act).result()

    def start(self, thread: Thread) -> None:
        """Starts it with this table."""

        def begin() -> None:
            if current_thread() in _APART:
                _APART.add(thread)
            thread.start()

        self.call(begin)

    def close(self) -> None:
        """Ends the thread, not what was started from it."""
        self._thread.shutdown()


def _own_table() -> None:
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is not None and unshare(CLONE_FILES) == 0:
        _APART.add(current_thread())
