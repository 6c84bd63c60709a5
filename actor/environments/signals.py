"""Who handles this process's signals, whatever an environment in it installs. Knows the signals of one process.

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
_installed: list[Handler] = []  # the newest last


def install(handler: Handler) -> None:
    """From now on ``handler`` gets them; to be called from the main thread."""
    _installed.append(handler)
    restore()


def restore() -> None:
    """Puts the handler back where another has taken its place; from the main thread, and free where there is none."""
    if _installed:
        for number in OURS:
            if signal.getsignal(number) is not _installed[-1]:
                signal.signal(number, _installed[-1])


def uninstall() -> None:
    """Whoever has the signals now may keep them."""
    _installed.clear()


def ignore() -> None:
    """The exit code stays as it is: from here on nothing is left that a signal should end."""
    uninstall()
    for number in OURS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Around code of an environment."""
    try:
        yield
    finally:
        restore()
