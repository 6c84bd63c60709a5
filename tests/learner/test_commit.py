"""No verdict before its update is on disk; a disk that fails is told and stops nobody."""

from __future__ import annotations

from learner.commit import MEND_S, Commit
from learner.events import Announce, BatchApplied, Effect, SyncJournal
from learner.parameters import Outcome


def outcome(sequence: int, applied: bool = True) -> Outcome:
    return Outcome(7, sequence, "applied" if applied else "not_finite", sequence, 1.0, "f32", 0)


def batch(version: int, *outcomes: Outcome, unlogged: str | None = None) -> BatchApplied:
    return BatchApplied(outcomes, version, None, None, 0.0, 0.0, 0.0, unlogged)


def names(effects: list[Effect]) -> list[str]:
    return [effect.event if isinstance(effect, Announce) else type(effect).__name__ for effect in effects]


def test_without_a_journal_nothing_waits() -> None:
    commit = Commit(journaled=False, version=0)
    assert commit.applied(batch(1, outcome(1)), 0.0) == ([outcome(1)], [])
    assert commit.waiting == 0


def test_a_verdict_waits_for_the_disk() -> None:
    commit = Commit(journaled=True, version=0)
    assert commit.applied(batch(1, outcome(1)), 0.0) == ([], [SyncJournal()])
    assert commit.waiting == 1
    assert commit.synced(1) == ([outcome(1)], [])
    assert (commit.waiting, commit.durable) == (0, 1)


def test_what_gathers_during_a_sync_shares_the_next_one() -> None:
    commit = Commit(journaled=True, version=0)
    commit.applied(batch(1, outcome(1)), 0.0)
    assert commit.applied(batch(2, outcome(2)), 0.0) == ([], [])
    assert commit.applied(batch(3, outcome(3)), 0.0) == ([], [])
    assert commit.synced(1) == ([outcome(1)], [SyncJournal()])
    assert commit.synced(3) == ([outcome(2), outcome(3)], [])


def test_a_refusal_waits_for_nothing_but_those_before_it() -> None:
    commit = Commit(journaled=True, version=0)
    assert commit.applied(batch(0, outcome(1, applied=False)), 0.0) == ([outcome(1, applied=False)], [])
    commit.applied(batch(1, outcome(2)), 0.0)
    assert commit.applied(batch(1, outcome(3, applied=False)), 0.0) == ([], [])
    assert commit.synced(1)[0] == [outcome(2), outcome(3, applied=False)]


def test_a_disk_that_fails_frees_what_waits_and_is_told_once() -> None:
    commit = Commit(journaled=True, version=0)
    commit.applied(batch(1, outcome(1)), 0.0)
    told, effects = commit.applied(batch(2, outcome(2), unlogged="No space left on device"), 1.0)
    assert told == [outcome(1), outcome(2)]
    assert effects == [Announce("journal_failed", {"durable": 0, "detail": "No space left on device"})]
    assert commit.applied(batch(3, outcome(3), unlogged="closed"), 1.0) == ([outcome(3)], [])
    assert (commit.failures, commit.waiting) == (1, 0)


def test_a_sync_that_fails_is_the_same() -> None:
    commit = Commit(journaled=True, version=0)
    commit.applied(batch(1, outcome(1)), 0.0)
    told, effects = commit.fail("Input/output error", 0.0)
    assert told == [outcome(1)]
    assert names(effects) == ["journal_failed"]


def test_it_is_mended_by_a_checkpoint_that_the_journal_leads_on_from() -> None:
    commit = Commit(journaled=True, version=0)
    assert not commit.mend(0.0)
    commit.fail("full", 10.0)
    assert commit.mend(10.0)
    assert not commit.mend(10.0 + MEND_S / 2)
    assert commit.mend(10.0 + MEND_S)
    assert commit.applied(batch(4, outcome(4)), 15.0) == ([outcome(4)], [])  # in the journal, which has no base yet
    assert commit.mended(3) == [Announce("journal_restored", {"version": 3})]
    assert commit.applied(batch(5, outcome(5)), 16.0) == ([], [SyncJournal()])
    assert commit.mended(3) == []


def test_a_sync_that_was_under_way_when_it_failed_changes_nothing() -> None:
    commit = Commit(journaled=True, version=0)
    commit.applied(batch(1, outcome(1)), 0.0)
    commit.applied(batch(2, outcome(2), unlogged="full"), 0.0)
    assert commit.synced(1) == ([], [])
    assert commit.failed
