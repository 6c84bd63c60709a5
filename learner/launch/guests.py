"""Others' code in this process, such as hooks: it prints beside our lines, and cannot keep the process alive.

Knows descriptors, threads and the interpreter's end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from typing import IO

LEAST_S = 1.0  # for an interpreter that nobody holds up: it takes a tenth of it
FLUSH_S = 0.5  # for what is still buffered: whoever does not read must not hold us up either


def own_stdout() -> IO[str]:
    """A stream to where stdout leads. What anybody prints from now on, child processes too, goes to stderr."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # in memory, or closed
        return sys.stdout
    sys.stdout.flush()
    ours = os.fdopen(os.dup(number), "w", encoding=sys.stdout.encoding, closefd=False)
    os.dup2(2, number)
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return ours


def leave(code: int, words: str = "") -> None:
    """Ends the process, whatever waits in it. words: a line for people."""
    last = threading.Thread(target=_last_words, args=(words,), daemon=True)
    last.start()
    last.join(FLUSH_S)
    os._exit(code)


def leave_within(left_s: float, code: int, who: str) -> None:
    """Lets the interpreter end as it does, with all that it waits for, but no longer than this.

    who: whose code it is, for people.
    """
    left_s = max(LEAST_S, left_s)

    def watch() -> None:
        time.sleep(left_s)
        leave(code, f"note: {who} left something running that does not end: the process ends without it")

    threading.Thread(target=watch, name="leave", daemon=True).start()
    # When modules are taken apart no thread of Python's runs any more; this one is none.
    faulthandler.dump_traceback_later(left_s + 2.0 * LEAST_S, exit=True)


def _last_words(words: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.write(f"{words}\n" if words else "")
        sys.stderr.flush()
