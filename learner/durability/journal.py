"""The journal on disk: segments of applied updates, and the bases that they lead on from. Knows files; no θ.

``journal/`` holds ``<version>-<epoch>.log``, one segment each, named after the version that it continues, and
``base-<version>.safetensors``, a checkpoint to begin from. A life begins a new segment, and so does one that has grown
large, so nothing is ever written behind a torn record: who reads goes on with the segment that continues what was read.

A batch is one record, one write and one sync, after which its verdicts and weights may leave. What arrives meanwhile
is the next batch: the slower the disk, the more share a sync.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from learner.durability.disk import DISK, Disk, File
from learner.durability.journal_format import Batch, Head, Record, Segment, Writer
from protocol.buffers import Buffer
from protocol.errors import UserError

Announcer = Callable[[str, dict[str, object]], None]
SEGMENT_BYTES = 16 << 20  # a segment is read whole, and deleted whole
RESERVED_BYTES = 1 << 20  # of zeros ahead of what is written: some milliseconds, once in a thousand batches
_SEGMENT = re.compile(r"(\d{12,})-(\d{6,})\.log")
_BASE = re.compile(r"base-(\d{12,})\.safetensors")


class JournalError(UserError):
    """A journal that cannot be used. path: of the folder or file. cause: why. code: its errno, where it has one."""

    def __init__(self, path: Path, cause: str, code: int | None = None) -> None:
        super().__init__(path, cause, code=code)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"journal {self.path}: {self.cause}"


class Journal:
    """What one life writes; one thread does. folder: of the run's journal. head: of its segments, but for versions.

    version: of θ after the last record. failure: why nothing was taken when it was last tried; None where it was.
    Of this life, for who watches: appended_bytes; syncs, one for each record; sync_s, what writing and syncing took.
    """

    def __init__(self, folder: Path, head: Head, disk: Disk = DISK, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._head, self._disk, self._segment_bytes = folder, head, disk, segment_bytes
        self._writer = Writer()
        self._file: File | None = None
        self._size = self._reserved = 0  # bytes written, and from where on none are reserved
        self.version = 0
        self.failure: OSError | None = None
        self.appended_bytes = self.syncs = 0
        self.sync_s = 0.0

    def start_segment(self, version: int) -> None:
        """A new segment for what leads on from ``version``. Raises OSError; then nothing is taken until it succeeds."""
        self.close()
        file = self._disk.create(self._folder / f"{version:012d}-{self._head.epoch:06d}.log", "journal")
        head = self._writer.head(msgspec.structs.replace(self._head, version=version))
        try:
            file.write(head)
            file.sync()
            self._disk.sync_folder(self._folder, "journal")
        except OSError:
            file.close()
            self._disk.remove(file.path)  # it holds nothing
            raise
        self._file, self._size, self.version, self.failure = file, len(head), version, None
        self._reserved = 0

    def append(self, record: Record, buffers: Sequence[Buffer] = ()) -> None:
        """It is on disk on return. Raises OSError, and from then on until it begins anew.

        What the system still holds of a file that failed to sync is not known, so that one is not written to again. A
        record that follows the last one that was taken begins a segment: what failed then was a mark.
        """
        if not self.accepts and record.version != self.version:
            raise OSError(f"the journal takes nothing since it failed: {self.failure and self.failure.strerror}")
        try:
            if self._file is None or self.failure is not None or self._size >= self._segment_bytes:
                self.start_segment(self.version)
            assert self._file is not None
            data = self._writer.record(record, buffers)
            thin = len(data) < RESERVED_BYTES // 4  # else zeros would cost as much as they save
            if thin and self._size + len(data) > self._reserved:
                self._file.reserve(len(data) + RESERVED_BYTES)
                self._reserved = self._size + len(data) + RESERVED_BYTES
            began = time.perf_counter()
            self._file.write(data)
            self._file.sync()
            self.sync_s += time.perf_counter() - began
            self.syncs += 1
        except OSError as error:
            self.failure = error
            raise
        self._size += len(data)
        self.appended_bytes += len(data)
        self.version = version_after(record)

    @property
    def accepts(self) -> bool:
        """Whether records are taken."""
        return self._file is not None and self.failure is None

    def close(self) -> None:
        """Nothing more is written."""
        if self._file is not None:
            self._file.close()
        self._file = None


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment's file. version: that it continues. epoch: of the life that wrote it."""

    version: int
    epoch: int
    path: Path


def segment_files(folder: Path, disk: Disk = DISK) -> list[SegmentFile]:
    """Every segment, in the order in which they lead on."""
    matched = ((_SEGMENT.fullmatch(path.name), path) for path in disk.list(folder))
    found = [SegmentFile(int(match[1]), int(match[2]), path) for match, path in matched if match]
    return sorted(found, key=lambda segment: (segment.version, segment.epoch))


def bases(folder: Path, disk: Disk = DISK) -> dict[int, Path]:
    """Checkpoints that segments lead on from, by version, oldest first."""
    matched = ((_BASE.fullmatch(path.name), path) for path in disk.list(folder))
    return dict(sorted((int(match[1]), path) for match, path in matched if match))


def read(
    folder: Path, manifest: str, version: int, disk: Disk = DISK, announce: Announcer | None = None
) -> Iterator[tuple[Head | Record, Sequence[memoryview]]]:
    """All that leads on from ``version``, in order, as far as it goes; marks of that version among it.

    Heads of segments come before what they hold. announce: called for bytes at its end that no record could be read
    from; a crash leaves less than one record (``journal_torn``), more is damage (``journal_damaged``). Raises
    JournalError for another run's segment, and OSError.
    """
    reached, path, segment = version, folder, Segment(b"")
    found = _in_force(segment_files(folder, disk))
    for index, part in enumerate(found):
        if index + 1 < len(found) and found[index + 1].version <= version and part.version < version:
            continue  # all of it is older
        if part.version > reached:
            break
        path, segment = part.path, Segment(disk.read(part.path))
        if segment.head is not None and segment.head.manifest != manifest:
            raise JournalError(part.path, "it belongs to another run")
        if segment.head is not None:
            yield segment.head, ()
        overtaken = next((after.version for after in found[index:] if after.epoch > part.epoch), math.inf)
        for record, buffers in segment.records:
            if version_after(record) > overtaken:
                break
            if record.version == reached:
                yield record, buffers
                reached = version_after(record)
            elif record.version > reached:
                return
    if announce is not None and segment.unread_bytes:
        told: dict[str, object] = {"path": str(path), "version": reached, "bytes": segment.unread_bytes}
        if segment.damaged:
            announce("journal_damaged", told)
        else:
            announce("journal_torn", told)


def _in_force(found: list[SegmentFile]) -> list[SegmentFile]:
    """Without those of a life whose end was lost: a later one has gone on from before them."""
    kept: list[SegmentFile] = []
    for segment in found:
        if not kept or segment.epoch >= kept[-1].epoch:
            kept.append(segment)
    return kept


def version_after(record: Head | Record) -> int:
    """Of θ once the record was repeated."""
    return record.version + (len(record.steps) if isinstance(record, Batch) else 0)


def settle(folder: Path, disk: Disk = DISK) -> None:
    """Makes durable what earlier lives wrote, the last of which may have died before it could. Raises OSError."""
    for segment in segment_files(folder, disk):
        disk.settle(segment.path, "journal")


def set_aside(folder: Path, version: int, disk: Disk = DISK) -> list[Path]:
    """Renames segments that lead on from later versions than ``version``, which is all that could be read.

    What they hold cannot be reached: it stays as evidence and is in nobody's way. Raises OSError.
    """
    lost = [segment.path for segment in segment_files(folder, disk) if segment.version > version]
    for path in lost:
        disk.rename(path, path.with_suffix(".unreachable"), "journal")
    return lost


def base_paths(folder: Path, version: int) -> tuple[Path, Path]:
    """Of a checkpoint to begin from, and a temporary name for it."""
    return folder / f"base-{version:012d}.safetensors", folder / "base.tmp"


def write_base(folder: Path, checkpoint: Path, version: int, disk: Disk = DISK) -> None:
    """Makes a checkpoint on disk one to begin from, unless it is. Raises OSError."""
    if version not in bases(folder, disk):
        disk.link(checkpoint, *base_paths(folder, version), "base")


def size_bytes(folder: Path, disk: Disk = DISK) -> int:
    """Of all segments and bases. Raises OSError."""
    segments = [segment.path for segment in segment_files(folder, disk)]
    return sum(map(disk.size, [*segments, *bases(folder, disk).values()]))


def retain(folder: Path, oldest: Path, version: int, disk: Disk = DISK) -> None:
    """Forgets all that lies before the checkpoint ``oldest``, of this version, which becomes the base.

    What leads on from it is kept, whatever it takes. Raises OSError.
    """
    found = segment_files(folder, disk)
    before = [segment.path for segment, following in itertools.pairwise(found) if following.version <= version]
    write_base(folder, oldest, version, disk)
    earlier = [path for base, path in bases(folder, disk).items() if base < version]
    for path in (*earlier, *before):  # a base that leads nowhere would be taken for a gap
        disk.remove(path)
