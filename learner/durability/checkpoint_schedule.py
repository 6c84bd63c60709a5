"""When θ is saved: at intervals, at the end, and where the journal must begin anew. Pure; ``now`` is an argument.

A life that has only begun is saved more often, so that a crash takes a sixth of what it trained at most, or EARLY_S: a
run that crashes every half a minute gets on too. That costs a life 21 checkpoints in its first six minutes in place of
six, and fewer where the disk is slow.

Where the journal fails, a run that is to ``stop`` ends at once. One that is to ``continue`` goes on as it would without
one, which is announced, counted and said with each verdict; a checkpoint mends it, whose version the journal then leads
on from.
"""

from __future__ import annotations

import math

from learner.config import LearnerSettings
from learner.events import Announce, BatchApplied, CheckpointFailed, CheckpointWritten, Effect, WriteCheckpoint
from learner.progress import Progress

# Longest wait for what is being written when the run ends, beyond learner.drain_s: with it a learner is out within the
# 30 s that service managers give, and a volume that takes 20 s for a checkpoint loses nothing.
SAVE_S = 20.0
STOPS = "the learner stops; all that it answered is on disk, and a run that is resumed goes on from there"
GOES_ON = "the run goes on; until the journal is restored a crash loses what was applied since the newest checkpoint"
EARLY_S = 5.0  # from a life's first update to its first checkpoint, and least time between two
EARLY_SHARE = 1.0 / 6.0  # of the time since that first update: 10 s after a minute, and 60 s after six
PAUSE = 9.0  # times as long as the last one took is left between two early ones: a tenth of the disk's time at most
MEND_S = 5.0  # until the first attempt to begin the journal anew; twice as long until each next one


class CheckpointSchedule:
    """Checkpoints of one life; at most one is being written.

    version: newest on disk by this life, None before the first. written_at: when that was begun. begun_at: when the
    newest was, written or not. took_s: how long that was under way. last: the run ends, and what is asked for now is
    what it was for. journaled: verdicts promise a journal. broken: why that is not kept at present. stops: the run
    ends where it is not kept.
    """

    def __init__(self, settings: LearnerSettings, progress: Progress, now: float) -> None:
        self._interval_s, self._progress = settings.checkpoint_interval_s, progress
        self.journaled = settings.journal is not None
        self.stops = settings.journal is None or settings.journal.on_journal_failure == "stop"
        self.busy = False
        self.version: int | None = None
        self.begun_at, self.took_s = now, 0.0
        self._from_version, self._trains_since = progress.version, math.inf
        self.written_at: float | None = None
        self.last = False
        self.journal_failure: str | None = None
        self._mend_s = MEND_S
        self._journal_began = False  # the journal takes records, and has since it was to begin anew

    def due(self, now: float) -> bool:
        """Whether the interval is over; to be asked often, as a life's first update is seen here."""
        if self._progress.version > self._from_version:
            self._trains_since = min(self._trains_since, now)
        if self.journal_failure is not None:
            return now - self.begun_at >= min(self._interval_s, self._mend_s)
        return now - self.begun_at >= self._interval_s or self._early(now)

    def _early(self, now: float) -> bool:
        """Whether one is due before the interval is over, in a life that trains only since."""
        least_s = max(EARLY_S, EARLY_SHARE * (now - self._trains_since), (1.0 + PAUSE) * self.took_s)
        return now - max(self.begun_at, self._trains_since) >= least_s

    def order(self, now: float) -> list[Effect]:
        """Orders one, unless one is under way or θ is on disk as it is."""
        rebase = self.journal_failure is not None
        if self.busy or (self.version == self._progress.version and not rebase):
            return []
        self.busy, self.begun_at = True, now
        self._mend_s = 2.0 * self._mend_s if rebase else MEND_S
        return [WriteCheckpoint(self._progress.saved(), rebase)]

    def order_last(self, now: float) -> list[Effect]:
        """Orders the last one, once."""
        if self.last:
            return []
        self.last = True
        return self.order(now)

    def written(self, event: CheckpointWritten, now: float) -> list[Effect]:
        """It is on disk."""
        self.took_s = now - self.begun_at
        self.busy, self.version, self.written_at = False, event.version, self.begun_at
        effects: list[Effect] = [Announce("checkpoint_written", {"version": event.version, "path": str(event.path)})]
        if event.based and self._journal_began and self.journal_failure is not None:
            self.journal_failure = None
            effects.append(Announce("journal_restored", {"version": event.version}))
        return effects

    def journal_began(self) -> list[Effect]:
        """The journal takes records again; it leads to them once the checkpoint is on disk."""
        self._journal_began = True
        return []

    def failed(self, event: CheckpointFailed, now: float) -> list[Effect]:
        """It is not."""
        self.took_s = now - self.begun_at
        self.busy = False
        self._progress.faults["checkpoint_failed"] += 1
        return [Announce("checkpoint_failed", {"version": event.version, "detail": event.detail})]

    def record_batch(self, event: BatchApplied) -> list[Effect]:
        """A batch was applied, and written to the journal or not. Between a failure and its mending all batches count
        as not written: the journal may take them and still not lead to them.
        """
        self._journal_began = self._journal_began and event.unlogged is None
        if event.unlogged is None or self.journal_failure is not None:
            return []
        self.journal_failure = event.unlogged
        self._progress.faults["journal_failed"] += 1
        told = {"version": event.version, "detail": event.unlogged, "then": STOPS if self.stops else GOES_ON}
        return [Announce("journal_failed", told)]
