"""``python -m tests.failpoints POINT[@N]=ACTION learner run ...``: our own command, with a disk that fails at a point.

ACTION is ``kill`` (SIGKILL), ``half`` (writes half and then SIGKILL; at writes), ``full`` (No space left on device),
``broken`` (Input/output error), ``slow`` (each pass takes SLOW_S longer), ``hang`` (a pass does not end). From the N-th
pass on; all but the first two as long as the file that FAILPOINTS_WHILE names exists, or for ever.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from learner.durability.disk import POINTS, Disk, File

ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO}
WHILE = "FAILPOINTS_WHILE"
SLOW_S, LOOK_S = 1.5, 0.05


def arm(point: str, nth: int, action: str) -> None:
    """From now on, in this process."""
    passes: Counter[str] = Counter()
    while_there = os.environ.get(WHILE)

    def lasts() -> bool:
        return while_there is None or Path(while_there).exists()

    def passed(_: Disk, name: str) -> None:
        passes[name] += 1
        if name != point or passes[name] < nth:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action in ERRORS and lasts():
            raise OSError(ERRORS[action], os.strerror(ERRORS[action]))
        if action == "slow" and lasts():
            time.sleep(SLOW_S)
        while action == "hang" and lasts():
            time.sleep(LOOK_S)

    setattr(Disk, "point", passed)  # noqa: B010  (mypy minds the assignment)
    if action == "half":
        setattr(File, "write", _halving(File.write, point, passes, nth))  # noqa: B010


def _halving(
    write: Callable[[File, bytes], None], point: str, passes: Counter[str], nth: int
) -> Callable[[File, bytes], None]:
    def halved(file: File, data: bytes) -> None:
        if f"{file.what}.write" == point and passes[point] + 1 >= nth:
            write(file, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(file, data)

    return halved


def main() -> None:
    """Runs the command that follows, armed."""
    matched = re.fullmatch(r"([a-z.]+)(?:@(\d+))?=(kill|half|full|broken|slow|hang)", sys.argv[1])
    if matched is None or matched[1] not in POINTS:
        raise SystemExit(f"{sys.argv[1]!r}: POINT[@N]=ACTION, POINT one of {', '.join(POINTS)}")
    arm(matched[1], int(matched[2] or 1), matched[3])
    command = sys.argv[2]
    sys.argv = [command, *sys.argv[3:]]
    importlib.import_module(f"{command}.cli").main()


if __name__ == "__main__":
    main()
