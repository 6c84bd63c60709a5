"""The memory of the processes that a measurement starts, all of them together. Knows /proc and a thread."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.25  # a look takes well under a millisecond
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Memory:
    """A context manager that watches every process that descends from this one while it is open."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._peaks: dict[int, int] = {}  # of each process that was seen, bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int | None:
        """The sum of each process's largest resident set, what they share counted in each; None where none was seen."""
        return sum(self._peaks.values()) or None

    def look(self, root: int) -> None:
        """Takes down the peaks of all that descend from ``root``."""
        for pid in self._descendants(root):
            if (peak := _peak(self._proc / str(pid) / "status")) is not None:
                self._peaks[pid] = peak

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            self.look(os.getpid())

    def _descendants(self, pid: int) -> Iterator[int]:
        tasks = self._proc / str(pid) / "task"
        for thread in _names(tasks):
            for child in _text(tasks / thread / "children").split():
                yield int(child)
                yield from self._descendants(int(child))


def _peak(status: Path) -> int | None:
    """Bytes; None of a process that has ended."""
    found = PEAK.search(_text(status))
    return None if found is None else 1024 * int(found[1])


def _names(folder: Path) -> list[str]:
    """Nothing where the process has ended since it was found."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _text(path: Path) -> str:
    """The same of a file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
