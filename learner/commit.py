"""When a verdict may be told: with a journal, once what it says is on disk. Pure; ``now`` is an argument.

While the disk fails the run goes on as it would without a journal, which is announced and counted. It is mended by a
checkpoint whose version the journal begins anew from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from learner.events import Announce, BatchApplied, Effect, SyncJournal
from learner.parameters import APPLIED, Outcome

MEND_S = 5.0  # between attempts to begin the journal anew


class Commit:
    """Outcomes that wait for the disk. journaled: whether there is a journal at all; else nothing waits.

    durable: version up to which the journal is known to be on disk. failed: it takes nothing, or has no base yet.
    failures: times that it began to fail.
    """

    def __init__(self, *, journaled: bool, version: int) -> None:
        self.journaled, self.durable = journaled, version
        self.failed = False
        self.failures = 0
        self._owed: deque[tuple[int, Sequence[Outcome]]] = deque()  # version that must be on disk; at most all credit
        self._syncing = False
        self._mend_at = 0.0

    @property
    def waiting(self) -> int:
        """Outcomes that are not told yet."""
        return sum(len(outcomes) for _, outcomes in self._owed)

    def applied(self, event: BatchApplied, now: float) -> tuple[list[Outcome], list[Effect]]:
        """What may be told now, and what to do for the rest."""
        if not self.journaled:
            return list(event.outcomes), []
        if event.unlogged is not None:
            told, effects = self.fail(event.unlogged, now)
            return [*told, *event.outcomes], effects
        changed = any(outcome.outcome == APPLIED for outcome in event.outcomes)
        if self.failed or not (changed or self._owed):
            return list(event.outcomes), []
        self._owed.append((event.version, event.outcomes))
        return [], self._sync()

    def synced(self, version: int) -> tuple[list[Outcome], list[Effect]]:
        """All up to ``version`` is on disk."""
        self._syncing = False
        self.durable = max(self.durable, version)
        told: list[Outcome] = []
        while self._owed and self._owed[0][0] <= version:
            told += self._owed.popleft()[1]
        return told, self._sync()

    def fail(self, detail: str, now: float) -> tuple[list[Outcome], list[Effect]]:
        """The journal takes nothing any more: what waits is told as it would be without one."""
        self._syncing = False
        told = [outcome for _, outcomes in self._owed for outcome in outcomes]
        self._owed.clear()
        if self.failed:
            return told, []
        self.failed, self._mend_at = True, now
        self.failures += 1
        return told, [Announce("journal_failed", {"durable": self.durable, "detail": detail})]

    def mend(self, now: float) -> bool:
        """Whether a checkpoint is to be written now, for the journal to begin anew from."""
        if not self.failed or now < self._mend_at:
            return False
        self._mend_at = now + MEND_S
        return True

    def mended(self, version: int) -> list[Effect]:
        """A checkpoint of ``version`` is on disk, and the journal leads on from it."""
        if not self.failed:
            return []
        self.failed = False
        self.durable = max(self.durable, version)
        return [Announce("journal_restored", {"version": version})]

    def _sync(self) -> list[Effect]:
        if self._syncing or not self._owed:
            return []
        self._syncing = True
        return [SyncJournal()]
