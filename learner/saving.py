"""When θ is saved: at intervals, at the end, and where the journal must begin anew. Pure; ``now`` is an argument."""

from __future__ import annotations

from learner.events import Announce, CheckpointFailed, CheckpointWritten, Effect, WriteCheckpoint
from learner.progress import Progress


class Saving:
    """Checkpoints of one life; at most one is being written.

    version: newest on disk by this life, None before the first. written_at: when that was begun. begun_at: when the
    newest was, written or not. last: the run ends, and what is asked for now is what it was for.
    """

    def __init__(self, interval_s: float, progress: Progress, now: float) -> None:
        self._interval_s, self._progress = interval_s, progress
        self.busy = False
        self.version: int | None = None
        self.begun_at = now
        self.written_at: float | None = None
        self.last = False

    def due(self, now: float) -> bool:
        """Whether the interval is over."""
        return now - self.begun_at >= self._interval_s

    def begin(self, now: float, *, rebase: bool = False) -> list[Effect]:
        """Orders one, unless one is under way or θ is on disk as it is. rebase: the journal begins anew from it."""
        if self.busy or (self.version == self._progress.updates and not rebase):
            return []
        self.busy, self.begun_at = True, now
        return [WriteCheckpoint(self._progress.saved(), rebase)]

    def written(self, event: CheckpointWritten) -> list[Effect]:
        """It is on disk."""
        self.busy, self.version, self.written_at = False, event.version, self.begun_at
        return [Announce("checkpoint_written", {"version": event.version, "path": str(event.path)})]

    def failed(self, event: CheckpointFailed) -> list[Effect]:
        """It is not."""
        self.busy = False
        self._progress.faults["checkpoint_failed"] += 1
        return [Announce("checkpoint_failed", {"version": event.version, "detail": event.detail})]
