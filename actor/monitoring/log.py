"""What an actor says: JSON lines on stderr, which is one for the whole process, and so is this. Knows streams.

A simulator's process and a learner's child alike may have a parent that does not read: nobody waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache, partial

from protocol.process.outlet import Outlet, unbuffered
from protocol.process.stdio import json_line

Write = Callable[[Mapping[str, object]], None]


def say(line: Mapping[str, object]) -> None:
    """One line, later; from any thread."""
    outlet, write = _voice()
    outlet.submit(partial(write, line))


def finish() -> None:
    """Once all is said, or nobody has read it for a while; to be called before the process ends."""
    outlet, _ = _voice()
    outlet.close()
    _voice.cache_clear()


@cache
def _voice() -> tuple[Outlet, Write]:
    stream = unbuffered(sys.stderr)

    def write(line: Mapping[str, object]) -> None:
        stream.write(json_line(line).decode())
        stream.flush()

    return Outlet(lambda count: write({"event": "output_lost", "lines": count})), write
