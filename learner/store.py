"""What the math and disk threads do for durability, and the events that say how it went. Knows files."""

from __future__ import annotations

import contextlib

from learner import checkpoint as checkpoints
from learner.checkpoint import Checkpoint, state_digest
from learner.config import LearnerSettings
from learner.entries import Mark
from learner.events import BestFailed, BestWritten, CheckpointFailed, CheckpointWritten, Event
from learner.journal import Journal, lay_base, retain
from learner.restore import Files


class Store:
    """A run's files as one life writes them. journal: None without one."""

    def __init__(self, files: Files, settings: LearnerSettings, journal: Journal | None) -> None:
        self.journal = journal
        self._files, self._kept, self._max_bytes = files, settings.checkpoints_kept, settings.journal_bytes

    def mark(self, checkpoint: Checkpoint, *, rebase: bool) -> bool:
        """Math thread: notes a checkpoint that was just copied; where the journal is to begin anew, whether it does."""
        if self.journal is None:
            return False
        try:
            if rebase:
                self.journal.begin(checkpoint.version)
            self.journal.append(Mark(checkpoint.version, state_digest(checkpoint.arrays)))
        except OSError:  # the next batch says so
            return False
        return rebase

    def save(self, checkpoint: Checkpoint, *, based: bool) -> Event:
        """Disk thread. based: the journal leads on from it."""
        files = self._files
        try:
            path = checkpoints.save(files.checkpoints, checkpoint, self._kept, files.disk)
            if based:
                lay_base(files.journal, path, checkpoint.version, files.disk)
        except OSError as error:
            return CheckpointFailed(checkpoint.version, str(error))
        if self.journal is not None:
            oldest, version = checkpoints.oldest(files.checkpoints, files.disk)
            with contextlib.suppress(OSError):  # what is kept too long does no harm; the next checkpoint tries again
                retain(files.journal, oldest, version, self._max_bytes, files.disk)
        return CheckpointWritten(checkpoint.version, path, based)

    def save_best(self, best: Checkpoint) -> Event:
        """Disk thread."""
        try:
            return BestWritten(best.version, checkpoints.save_best(self._files.checkpoints, best, self._files.disk))
        except OSError as error:
            return BestFailed(best.version, str(error))

    def close(self) -> None:
        """The journal's files."""
        if self.journal is not None:
            self.journal.close()
