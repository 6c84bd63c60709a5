"""What the math and disk threads do for durability, and the events that say how it went. Knows files."""

from __future__ import annotations

import contextlib
import errno
from typing import NamedTuple

from learner.config import Journaled, LearnerSettings
from learner.durability import checkpoint as checkpoints
from learner.durability.checkpoint import Checkpoint, state_digest
from learner.durability.journal import Journal, retain, size_bytes, write_base
from learner.durability.journal_format import Mark
from learner.durability.recovery import RunFiles
from learner.events import BestFailed, BestWritten, CheckpointFailed, CheckpointWritten, Event


class JournalStats(NamedTuple):
    """disk_bytes: of all segments and bases. syncs, sync_s: of records in this life, and what they took."""

    disk_bytes: int
    syncs: int
    sync_s: float


class RunStorage:
    """A run's files as one life writes them. journal: None without one."""

    def __init__(self, files: RunFiles, settings: LearnerSettings, journal: Journal | None) -> None:
        self.journal = journal
        self._lacks_room = False  # the journal found the disk full
        kept = settings.journal or Journaled()  # without one, of the journal that an earlier life kept
        self._files, self._kept, self._max_bytes = files, settings.checkpoints_kept, kept.journal_bytes
        self._stops = kept.on_journal_failure == "stop"
        self._before = 0  # bytes on disk when they were last measured, less what this life had appended by then
        with contextlib.suppress(OSError):
            self._measure()

    def append_mark(self, checkpoint: Checkpoint, *, rebase: bool) -> bool:
        """Math thread: notes a checkpoint that was just copied; where the journal is to begin anew, whether it does."""
        if self.journal is None:
            return False
        try:
            if rebase and not self.journal.accepts:
                self.journal.start_segment(checkpoint.version)
            self.journal.append(Mark(checkpoint.version, state_digest(checkpoint.arrays)))
        except OSError as error:  # the next batch says so
            self._lacks_room = error.errno == errno.ENOSPC
            return False
        return rebase

    def refuse(self, version: int) -> CheckpointFailed | None:
        """Math thread: θ that the journal lacks, in a life that is about to stop for it. Nobody has heard of it."""
        if self.journal is None or not self._stops or self.journal.version == version:
            return None
        return CheckpointFailed(version, "the journal does not lead to it")

    def save(self, checkpoint: Checkpoint, *, based: bool) -> Event:
        """Disk thread. based: the journal leads on from it."""
        files = self._files
        try:
            path = checkpoints.save(files.checkpoints, checkpoint, self._kept, files.disk)
            if based:
                write_base(files.journal, path, checkpoint.version, files.disk)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._make_room()
            return CheckpointFailed(checkpoint.version, str(error))
        if self._lacks_room:
            self._make_room()
        self._retain(self._max_bytes)
        return CheckpointWritten(checkpoint.version, path, based)

    def _make_room(self) -> None:
        """Gives up what can be spared: a half-written checkpoint, and all of the journal that is not needed."""
        self._lacks_room = False
        with contextlib.suppress(OSError):
            self._files.disk.remove(self._files.checkpoints / checkpoints.TEMPORARY)
        self._retain(0)

    def _retain(self, max_bytes: int) -> None:
        """What cannot be deleted is kept too long, which does no harm: the next checkpoint tries again."""
        files = self._files
        if self.journal is None:
            return
        with contextlib.suppress(OSError):
            if self._measure() > max_bytes:
                oldest = checkpoints.oldest_sound(files.checkpoints, files.disk)
                if oldest is not None:
                    retain(files.journal, *oldest, files.disk)
                    self._measure()

    def _measure(self) -> int:
        """Bytes of the journal on disk; 0 without one. Raises OSError."""
        if self.journal is None:
            return 0
        appended, found = self.journal.appended_bytes, size_bytes(self._files.journal, self._files.disk)
        self._before = found - appended
        return found

    def journal_stats(self) -> JournalStats | None:
        """Of the journal, from any thread and without a look at the disk, which may hang."""
        journal = self.journal
        if journal is None:
            return None
        return JournalStats(self._before + journal.appended_bytes, journal.syncs, journal.sync_s)

    def save_best(self, best: Checkpoint, *, leads: bool = True) -> Event:
        """Disk thread. leads: it is the best of all keys."""
        files = self._files
        try:
            path = checkpoints.save_best(files.checkpoints, best, files.disk, leads=leads)
        except OSError as error:
            return BestFailed(best.version, str(error))
        return BestWritten(best.version, path)

    def promote_best(self, key: str | None, version: int) -> Event:
        """Disk thread. The best of this key, of this version, becomes the best of all."""
        try:
            return BestWritten(version, checkpoints.promote_best(self._files.checkpoints, key, self._files.disk))
        except OSError as error:
            return BestFailed(version, str(error))

    def close(self) -> None:
        """The journal's files. Where the disk is full, the next life finds what room can be made."""
        if self.journal is not None:
            self.journal.close()
            if self.journal.failure is not None and self.journal.failure.errno == errno.ENOSPC:
                self._make_room()
