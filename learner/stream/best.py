"""Which θ is the best that was evaluated, and whether it is on disk yet. Pure. Numbers, versions and records; no files.

A score counts for the best only if it is of the very record that its session was handed last: that record is pinned
here, so that the θ which was scored is the θ which is kept, whatever was applied meanwhile.

Scores of one key compete with each other, and the best of each is kept: what one key says, true or not, never takes
the place of what another found. The best of all is the one with the highest mean among the keys that may evaluate.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass

from learner.admission.rate_limit import RateLimit
from learner.events import Announce, BestFailed, BestWritten, Effect, KeyFrame, LeadBest, WriteBest
from learner.progress import Best, Progress
from protocol.errors import Reason, SessionFault
from protocol.messages import ROLES, Evaluation
from protocol.session import Peer

MAX_SCORE = 1e15  # beyond what a target may be (run.until_return)
EVALUATIONS_PER_S = 4.0  # of one sender, twenty at once: whole episodes of ten or more take longer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A score and its record. public_key: whose it is. leads: whether it was above all others' when ordered."""

    score: Evaluation
    record: KeyFrame
    public_key: str
    leads: bool = False


class BestCheckpoint:
    """The pinned records and the best among those scored.

    The books are in ``progress``: what is the best *on disk*, and the best of each other key. writing: what the disk
    was told to keep, or whose best to make the best of all, and has not said to have done. waiting: the best of each
    key since, which go next.
    """

    def __init__(self, progress: Progress) -> None:
        self.writing: Candidate | Best | None = None
        self.waiting: dict[str, Candidate] = {}
        self._progress = progress
        self._pinned: dict[int, KeyFrame] = {}  # by session; a record each, at most
        self._quota = RateLimit(EVALUATIONS_PER_S, None)
        self._revoked = False  # since ``writing`` was ordered, its key was
        self._unled = False  # best.safetensors holds what does not count any more

    def hold(self, session: int, record: KeyFrame) -> None:
        """This session is about to evaluate this record, and no longer the one before."""
        self._pinned[session] = record

    def forget(self, session: int) -> None:
        """The session is over."""
        self._pinned.pop(session, None)
        self._quota.forget(session)

    def score(self, score: Evaluation, peer: Peer, now: float) -> list[Effect]:
        """Books a score, tells of it, and has its θ written if it is its key's best so far: by mean, ties to the
        earlier.

        Raises SessionFault: over_quota beyond EVALUATIONS_PER_S, not_finite for a mean or a spread that is no number,
        malformed_message for a spread below 0 or a number that no task gives. An infinite ci95 says that a single
        episode was played: that is booked, and too little for a best.
        """
        if not self._quota.spend(peer.sender, 0, now):
            raise SessionFault(Reason.OVER_QUOTA, f"more than {EVALUATIONS_PER_S:g} evaluations a second")
        _check(score)
        self._progress.evaluations += 1
        record = self._pinned.get(score.session)
        pinned = record is not None and record[0].version == score.version
        best = pinned and math.isfinite(score.ci95) and score.mean > self._highest(peer.public_key)
        if best and record is not None:
            self.waiting[peer.public_key] = Candidate(score, record, peer.public_key)
        told: dict[str, object] = {"actor": peer.name, "version": score.version, **_numbers(score), "best": best}
        return [Announce("evaluated", told), *self._next()]

    def revoke(self, lost: Mapping[str, Container[str]]) -> list[Effect]:
        """What keys said that may not evaluate any more does not count: the best of all is the best of the others, if
        there is one. lost: roles, by key.
        """
        keys = {key for key, roles in lost.items() if "evaluate" in roles}
        progress, dropped = self._progress, self._progress.best
        for key in keys:
            progress.runners_up.pop(key, None)
            self.waiting.pop(key, None)
        self._revoked |= isinstance(self.writing, Candidate | Best) and self.writing.public_key in keys
        if dropped is None or dropped.public_key not in keys:
            return []
        progress.best, self._unled = None, True
        told = {"version": dropped.version, "mean": dropped.mean, "why": why_lost("evaluate", lost[dropped.public_key])}
        return [Announce("best_dropped", told), *self._next()]

    def _highest(self, key: str) -> float:
        """Of this key, on disk or on its way."""
        on_disk = (self._progress.best, self._progress.runners_up.get(key))
        means = [best.mean for best in on_disk if best is not None and best.public_key == key]
        coming = (self.writing if isinstance(self.writing, Candidate) else None, self.waiting.get(key))
        return max(
            [*means, *(one.score.mean for one in coming if one is not None and one.public_key == key), -math.inf]
        )

    def _next(self) -> list[Effect]:
        """What to write now, one at a time: a key's best, else the file of the best where that does not count."""
        if self.writing is not None:
            return []
        self._revoked = False
        best = self._progress.best
        if self.waiting:
            key = next(iter(self.waiting))
            found = self.waiting.pop(key)
            leads = best is None or best.public_key == key or found.score.mean > best.mean
            self.writing = Candidate(found.score, found.record, key, leads)
            return [WriteBest(found.record, _numbers(found.score), self._progress.saved(), key, leads)]
        if not self._unled:
            return []
        heir = max(self._progress.runners_up.values(), key=lambda each: each.mean, default=None)
        self.writing = heir or Best(-math.inf, 0, "")
        return [LeadBest(None if heir is None else heir.public_key, self.writing.version)]

    def written(self, event: BestWritten | BestFailed) -> list[Effect]:
        """The disk has answered. After a failure the best before still holds, and what is better than it may come."""
        assert self.writing is not None
        done, self.writing = self.writing, None
        version = done.version if isinstance(done, Best) else done.score.version
        if isinstance(event, BestFailed):
            self._progress.faults["checkpoint_failed"] += 1
            failed = Announce("best_checkpoint_failed", {"version": version, "detail": event.detail})
            return [failed, *(self._next() if self.waiting else [])]
        return [*self._booked(done, event), *self._next()]

    def _booked(self, done: Candidate | Best, event: BestWritten) -> list[Effect]:
        """What is on disk now, in a key's own file and, where it leads, in that of the best."""
        progress = self._progress
        led = isinstance(done, Best) or done.leads
        best = done if isinstance(done, Best) else Best(done.score.mean, done.score.version, done.public_key)
        if led:
            self._unled = self._revoked
            if progress.best is not None and progress.best.public_key != best.public_key:
                progress.runners_up[progress.best.public_key] = progress.best
            progress.best = None
        if self._revoked or best.mean == -math.inf:
            return []
        if led:
            progress.runners_up.pop(best.public_key, None)
            progress.best = best
        else:
            progress.runners_up[best.public_key] = best
        return [Announce("best_checkpoint", {"version": best.version, "mean": best.mean, "path": str(event.path)})]


def why_lost(role: str, lost: Container[str]) -> str:
    """Why what a key did in this role is over, for people. lost: the roles that its key had, this one among them."""
    return "its key was revoked" if all(each in lost for each in ROLES) else f"its key may not {role} any more"


def _check(score: Evaluation) -> None:
    """Raises SessionFault for numbers that no evaluation can have (WIRE.md, section 3)."""
    told = f"an evaluation with mean {score.mean}, std {score.std} and ci95 {score.ci95}"
    single = score.ci95 == math.inf
    numbers = (score.mean, score.std, 0.0 if single else score.ci95)
    if not all(map(math.isfinite, numbers)):
        raise SessionFault(Reason.NOT_FINITE, told)
    if min(score.std, score.ci95) < 0.0 or max(map(abs, numbers)) > MAX_SCORE:
        raise SessionFault(Reason.MALFORMED_MESSAGE, told)


def _numbers(score: Evaluation) -> dict[str, int | float]:
    return {
        "episodes": score.episodes,
        "mean": score.mean,
        "std": score.std,
        "ci95": score.ci95,
        "seed": score.seed,
    }
