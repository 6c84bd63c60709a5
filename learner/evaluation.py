"""Which θ is the best that was evaluated, and whether it is on disk yet. Pure. Numbers, versions and records; no files.

A score counts for the best only if it is of the very record that its session was handed last: that record is pinned
here, so that the θ which was scored is the θ which is kept, whatever was applied meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from learner.events import Announce, BestFailed, BestWritten, Effect, Key, WriteBest
from learner.progress import Progress
from protocol.errors import Reason, SessionFault
from protocol.messages import Evaluation


@dataclass(frozen=True, slots=True)
class Candidate:
    """A score and the record that it is of."""

    score: Evaluation
    record: Key


class Contest:
    """The pinned records and the best among those scored.

    The books are in ``progress``: what is the best *on disk*. writing: what the disk was told to keep and has not said
    to have kept. waiting: the best since, which goes next.
    """

    def __init__(self, progress: Progress) -> None:
        self.writing: Candidate | None = None
        self.waiting: Candidate | None = None
        self._progress = progress
        self._pinned: dict[int, Key] = {}  # by session; a record each, at most

    def pin(self, session: int, record: Key) -> None:
        """This session is about to evaluate this record, and no longer the one before."""
        self._pinned[session] = record

    def forget(self, session: int) -> None:
        """The session is over."""
        self._pinned.pop(session, None)

    def judge(self, score: Evaluation, actor: str) -> list[Effect]:
        """Books a score, tells of it, and has its θ written if it is the best so far: by mean, ties to the earlier.

        Raises SessionFault: not_finite for a mean or a spread that is no number, malformed_message for a spread below
        0. An infinite ci95 says that a single episode was played: that is booked, and too little for a best.
        """
        _check(score)
        self._progress.evaluations += 1
        record = self._pinned.get(score.session)
        pinned = record is not None and record[0].version == score.version
        best = pinned and math.isfinite(score.ci95) and score.mean > self._highest()
        if best and record is not None:
            self.waiting = Candidate(score, record)
        told: dict[str, object] = {"actor": actor, "version": score.version, **_numbers(score), "best": best}
        return [Announce("evaluated", told), *self._next()]

    def _highest(self) -> float:
        known = [candidate.score.mean for candidate in (self.writing, self.waiting) if candidate]
        held = self._progress.evaluated_best_mean
        return max([*known, -math.inf if held is None else held])

    def _next(self) -> list[Effect]:
        """What to write now: one at a time, and only what is better than what was written."""
        if self.writing is not None or self.waiting is None:
            return []
        self.writing, self.waiting = self.waiting, None
        return [WriteBest(self.writing.record, _numbers(self.writing.score), self._progress.saved())]

    def saved(self, event: BestWritten | BestFailed) -> list[Effect]:
        """The disk has answered. After a failure the best before still holds, and what is better than it may come."""
        assert self.writing is not None
        score, self.writing = self.writing.score, None
        if isinstance(event, BestWritten):
            self._progress.evaluated_best_mean, self._progress.evaluated_best_version = score.mean, score.version
            told = {"version": score.version, "mean": score.mean, "path": str(event.path)}
            return [Announce("best_checkpoint", told), *self._next()]
        self._progress.faults["checkpoint_failed"] += 1
        failed = {"version": score.version, "detail": event.detail}
        return [Announce("best_checkpoint_failed", failed), *self._next()]


def _check(score: Evaluation) -> None:
    """Raises SessionFault for numbers that no evaluation can have (WIRE.md, section 3)."""
    told = f"an evaluation with mean {score.mean}, std {score.std} and ci95 {score.ci95}"
    single = score.ci95 == math.inf
    if not all(map(math.isfinite, (score.mean, score.std, 0.0 if single else score.ci95))):
        raise SessionFault(Reason.NOT_FINITE, told)
    if min(score.std, score.ci95) < 0.0:
        raise SessionFault(Reason.MALFORMED_MESSAGE, told)


def _numbers(score: Evaluation) -> dict[str, int | float]:
    return {
        "episodes": score.episodes,
        "mean": score.mean,
        "std": score.std,
        "ci95": score.ci95,
        "seed": score.seed,
    }
