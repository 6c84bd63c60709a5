"""Who hears this process's signals, whatever an environment in it installs. Knows the signals of one process.

An environment may take SIGINT and SIGTERM for itself when it is made, reset or stepped. Handlers belong to the process,
so ours are put back each time its code has run.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

OURS = (signal.SIGINT, signal.SIGTERM)
_held: list[Handler] = []  # the newest last


def hold(handler: Handler) -> None:
    """From now on ``handler`` hears them; to be called from the main thread."""
    _held.append(handler)
    keep()


def keep() -> None:
    """Puts the handler back where another has taken its place; from the main thread, and free where there is none."""
    if _held:
        for number in OURS:
            if signal.getsignal(number) is not _held[-1]:
                signal.signal(number, _held[-1])


def release() -> None:
    """Whoever has the signals now may keep them."""
    _held.clear()


def decided() -> None:
    """The exit code stays as it is: from here on nothing is left that a signal should end."""
    release()
    for number in OURS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Around code of an environment."""
    try:
        yield
    finally:
        keep()
