"""An actor's log: JSON lines on stderr, which is one for the whole process, and so is this. Knows streams.

A simulator's process and a learner's child alike may have a parent that does not read: nobody waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache, partial

from protocol.process.outlet import Outlet, unbuffered
from protocol.process.stdio import json_line

Write = Callable[[Mapping[str, object]], None]


def write(line: Mapping[str, object]) -> None:
    """One line, later; from any thread."""
    outlet, write_now = _stream()
    outlet.submit(partial(write_now, line))


def close() -> None:
    """Returns once all is written, or nobody read it for a while; to be called before the process ends."""
    if _stream.cache_info().currsize:  # something was written
        outlet, _ = _stream()
        outlet.close()
        _stream.cache_clear()


@cache
def _stream() -> tuple[Outlet, Write]:
    stream = unbuffered(sys.stderr)

    def write_now(line: Mapping[str, object]) -> None:
        stream.write(json_line(line).decode())
        stream.flush()

    return Outlet(lambda count: write_now({"event": "output_lost", "lines": count})), write_now
