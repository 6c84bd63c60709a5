"""Disks for tests: one in memory that forgets on power loss what was not synced, and one that fails where it is told.

``MemoryDisk`` keeps for each file what was written and how much of it is durable, and for each folder the names that
are. ``lose_power`` takes the rest away, each file's tail at a place that chance picks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from learner.durability.disk import Disk, File


class Inode:
    """One file's bytes. durable: how many of them a power loss leaves. reserved: how long it is then at least."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = self.reserved = 0


class MemoryFile(File):
    def __init__(self, disk: MemoryDisk, path: Path, what: str) -> None:
        self.path, self._disk, self.what = path, disk, what
        self._inode = disk.files[path]

    def reserve(self, size: int) -> None:
        self._disk.point(f"{self.what}.reserve")
        self._inode.durable = len(self._inode.data)
        self._inode.reserved = len(self._inode.data) + size

    def write(self, data: bytes) -> None:
        self._disk.point(f"{self.what}.write")
        self._inode.data += data

    def sync(self) -> None:
        self._disk.point(f"{self.what}.sync")
        self._inode.durable = len(self._inode.data)

    def close(self) -> None:
        pass


class MemoryDisk(Disk):
    """passed: hears of each point before its operation; what it raises, the operation raises."""

    def __init__(self, passed: Callable[[str], None] = lambda name: None) -> None:
        self.files: dict[Path, Inode] = {}
        self.durable: dict[Path, Inode] = {}
        self.passed = passed
        self.passes: list[str] = []

    def point(self, name: str) -> None:
        self.passes.append(name)
        self.passed(name)

    def create(self, path: Path, what: str) -> File:
        self.point(f"{what}.create")
        self.files[path] = Inode()
        return MemoryFile(self, path, what)

    def link(self, path: Path, name: Path, temporary: Path, what: str) -> None:
        self.point(f"{what}.link")
        self.files[temporary] = self.files[path]
        self.rename(temporary, name, what)
        self.sync_folder(name.parent, what)

    def settle(self, path: Path, what: str) -> None:
        self.point(f"{what}.settle")
        self.files[path].durable = len(self.files[path].data)

    def rename(self, old: Path, new: Path, what: str) -> None:
        self.point(f"{what}.rename")
        self.files[new] = self.files.pop(old)

    def sync_folder(self, folder: Path, what: str) -> None:
        self.point(f"{what}.folder")
        elsewhere = {path: inode for path, inode in self.durable.items() if path.parent != folder}
        self.durable = elsewhere | {path: inode for path, inode in self.files.items() if path.parent == folder}

    def read(self, path: Path) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return bytes(self.files[path].data)

    def size(self, path: Path) -> int:
        return len(self.files[path].data)

    def make_folder(self, folder: Path, what: str) -> None:
        pass

    def list(self, folder: Path) -> list[Path]:
        return sorted(path for path in self.files if path.parent == folder)

    def remove(self, path: Path) -> None:
        self.files.pop(path, None)

    def lose_power(self, random: Random) -> None:
        """What was not synced is gone, but for as much of each file's tail as chance leaves; names too."""
        names = dict(self.durable)
        for path, inode in self.files.items():
            if self.durable.get(path) is not inode and random.random() < 0.5:
                names[path] = inode
        for path in self.durable:
            if path not in self.files and random.random() < 0.5:
                del names[path]
        for inode in {id(inode): inode for inode in names.values()}.values():
            left = random.randint(inode.durable, len(inode.data))
            del inode.data[left:]
            if len(inode.data) > inode.durable and random.random() < 0.3:
                inode.data[-1] ^= 0xFF  # a block that was never written holds anything
            inode.data += bytes(max(0, inode.reserved - len(inode.data)))
            inode.durable = len(inode.data)
        self.files, self.durable = names, dict(names)


def failing(*points: str, error: int = errno.ENOSPC) -> Callable[[str], None]:
    """For ``passed``: these points fail."""

    def passed(name: str) -> None:
        if name in points:
            raise OSError(error, os.strerror(error))

    return passed


class FailingDisk(Disk):
    """This machine's, with points that fail as ``passed`` says."""

    def __init__(self, passed: Callable[[str], None]) -> None:
        self.passed = passed
        self.passes: list[str] = []

    def point(self, name: str) -> None:
        self.passes.append(name)
        self.passed(name)
