"""The few file operations that durability rests on, each at a named point. Knows files; not what is in them.

A point is ``WHAT.OPERATION``, as in ``journal.sync``. Passing one does nothing here: tests put another disk in this
one's place, which fails at a point or ends the process there. What these calls promise is what POSIX does: data is
durable after ``sync``, a name after ``sync_folder`` of its folder, and a rename replaces whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from protocol.process.descriptors import RESERVE

POINTS = tuple(  # in the order in which they are passed
    f"{what}.{operation}"
    for what, operations in (
        ("run", "create write sync rename folder"),
        ("checkpoint", "create write sync rename folder"),
        ("journal", "settle create write sync folder reserve"),
        ("base", "create write sync link rename folder"),
    )
    for operation in operations.split()
)


MODE = 0o600  # session numbers and weights are nobody else's business
UNLINKABLE = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)  # where files cannot have two names
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has none


class File:
    """One new file, written from its beginning to its end. what: the first half of its points' names."""

    def __init__(self, disk: Disk, path: Path, what: str) -> None:
        self.path = path
        self._disk, self.what = disk, what
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = RESERVE.lend(lambda: os.open(path, flags, MODE))
        self._written = self._reserved = 0

    def reserve(self, size: int) -> None:
        """Zeros, durably, where the next ``size`` bytes will be written: to sync what is written over them takes half
        as long, since the file does not grow. Where there is no room for so much nothing is reserved, and no harm done.
        """
        end = self._written + size
        try:
            self._disk.point(f"{self.what}.reserve")
            while self._reserved < end:
                start = max(self._written, self._reserved)
                self._reserved = start + os.pwrite(self._descriptor, bytes(end - start), start)
            _sync(self._descriptor)
        except OSError:
            self._reserved = self._written
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._written)

    def write(self, data: bytes) -> None:
        """All of it, behind what was written before. Raises OSError; a part may then be there."""
        self._disk.point(f"{self.what}.write")
        left = memoryview(data)
        while left:
            written = os.pwrite(self._descriptor, left, self._written)
            self._written += written
            left = left[written:]

    def sync(self) -> None:
        """What was written becomes durable. Raises OSError, after which nothing is known of it."""
        self._disk.point(f"{self.what}.sync")
        _sync(self._descriptor)

    def close(self) -> None:
        """Syncs nothing, and gives back what was reserved. Twice does no harm."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._written)
            os.close(self._descriptor)
            self._descriptor = -1


class Disk:
    """The machine's own. Every call raises OSError where it fails."""

    def point(self, name: str) -> None:
        """Something is about to be done."""

    def create(self, path: Path, what: str) -> File:
        """An empty file, in place of what lay there."""
        self.point(f"{what}.create")
        return File(self, path, what)

    def write_whole(self, path: Path, temporary: Path, data: bytes, what: str) -> None:
        """Old contents or new ones, never a mixture, whenever the machine stops; the new ones on return."""
        file = self.create(temporary, what)
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()
        self.rename(temporary, path, what)
        self.sync_folder(path.parent, what)

    def link(self, path: Path, name: Path, temporary: Path, what: str) -> None:
        """Makes what lies at ``path`` lie at ``name`` too, in place of what lay there, durably."""
        temporary.unlink(missing_ok=True)
        try:
            self.point(f"{what}.link")
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in UNLINKABLE:
                raise
            self.write_whole(name, temporary, self.read(path), what)
            return
        self.rename(temporary, name, what)
        self.sync_folder(name.parent, what)

    def settle(self, path: Path, what: str) -> None:
        """What another process wrote there, and may not have lived to sync, becomes durable as it is read now."""
        self.point(f"{what}.settle")
        _sync_path(path, os.O_RDWR)

    def rename(self, old: Path, new: Path, what: str) -> None:
        """In place of what lay there; durable after ``sync_folder``."""
        self.point(f"{what}.rename")
        old.replace(new)

    def sync_folder(self, folder: Path, what: str) -> None:
        """The names in it become durable."""
        self.point(f"{what}.folder")
        _sync_path(folder, os.O_RDONLY)

    def read(self, path: Path) -> bytes:
        """All of a file."""
        return RESERVE.lend(path.read_bytes)

    def size(self, path: Path) -> int:
        """Bytes."""
        return path.stat().st_size

    def make_folder(self, folder: Path, what: str) -> None:
        """If it is not there; durable on return."""
        folder.mkdir(exist_ok=True)
        self.sync_folder(folder.parent, what)

    def list(self, folder: Path) -> list[Path]:
        """The files of a folder, in order of names; none where there is no such folder."""
        return sorted(RESERVE.lend(lambda: list(folder.iterdir()))) if folder.is_dir() else []

    def remove(self, path: Path) -> None:
        """If it is there."""
        path.unlink(missing_ok=True)


def _sync_path(path: Path, flags: int) -> None:
    """What lies there becomes durable, whoever wrote it. flags: to open it with."""
    descriptor = RESERVE.lend(lambda: os.open(path, flags | os.O_CLOEXEC))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


DISK = Disk()
