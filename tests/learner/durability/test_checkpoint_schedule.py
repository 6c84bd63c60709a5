"""Checkpoints come at intervals, one at a time; a journal that fails is told once and mended by one."""

from __future__ import annotations

from pathlib import Path

from learner.config import learner_settings
from learner.durability.checkpoint_schedule import GOES_ON, MEND_S, CheckpointSchedule
from learner.events import Announce, BatchApplied, CheckpointFailed, CheckpointWritten, Effect, WriteCheckpoint
from learner.progress import Progress

PATH = Path("checkpoint")


def saving(**settings: object) -> tuple[CheckpointSchedule, Progress]:
    progress = Progress(version=5)
    return CheckpointSchedule(learner_settings({"checkpoint_interval_s": 60.0, **settings}), progress, 100.0), progress


def batch(unlogged: str | None = None) -> BatchApplied:
    return BatchApplied((), 6, None, None, 0.0, 0.0, 0.0, unlogged)


def told(effects: list[Effect]) -> list[str]:
    return [effect.event for effect in effects if isinstance(effect, Announce)]


def test_one_at_a_time_and_none_of_what_is_on_disk() -> None:
    kept, progress = saving()
    assert not kept.due(159.0)
    assert kept.due(160.0)
    assert kept.order(160.0) == [WriteCheckpoint(progress.saved(), rebase=False)]
    assert kept.order(161.0) == []
    assert told(kept.written(CheckpointWritten(5, PATH))) == ["checkpoint_written"]
    assert (kept.version, kept.written_at) == (5, 160.0)
    assert kept.order(220.0) == []
    progress.version = 6
    assert len(kept.order(220.0)) == 1


def test_the_last_is_asked_for_once() -> None:
    kept, progress = saving()
    assert kept.order_last(160.0) == [WriteCheckpoint(progress.saved(), rebase=False)]
    assert kept.last
    kept.failed(CheckpointFailed(5, "full"))
    assert kept.order_last(161.0) == []


def test_a_failure_is_counted_and_tried_again() -> None:
    kept, progress = saving()
    kept.order(160.0)
    assert told(kept.failed(CheckpointFailed(5, "full"))) == ["checkpoint_failed"]
    assert progress.faults == {"checkpoint_failed": 1}
    assert len(kept.order(170.0)) == 1


def test_a_journal_that_fails_is_told_once_and_mended_soon() -> None:
    kept, progress = saving(durability="journal", on_journal_failure="continue")
    assert kept.journaled
    assert not kept.stops
    assert kept.record_batch(batch()) == []
    assert kept.record_batch(batch("No space left on device")) == [
        Announce("journal_failed", {"version": 6, "detail": "No space left on device", "then": GOES_ON})
    ]
    assert kept.record_batch(batch("closed")) == []
    assert not kept.due(100.0 + MEND_S / 2)
    assert kept.due(100.0 + MEND_S)
    assert kept.order(105.0) == [WriteCheckpoint(progress.saved(), rebase=True)]
    kept.failed(CheckpointFailed(5, "full"))
    assert not kept.due(105.0 + MEND_S)
    assert kept.due(105.0 + 2 * MEND_S)
    kept.order(115.0)
    kept.journal_began()
    kept.record_batch(batch("full"))  # it began, and failed again before the checkpoint was on disk
    assert told(kept.written(CheckpointWritten(5, PATH, based=True))) == ["checkpoint_written"]
    kept.order(140.0)
    assert told(kept.written(CheckpointWritten(5, PATH))) == ["checkpoint_written"]  # one that was asked for before
    kept.order(170.0)
    kept.journal_began()
    assert told(kept.written(CheckpointWritten(5, PATH, based=True))) == ["checkpoint_written", "journal_restored"]
    assert kept.journal_failure is None
    assert progress.faults == {"journal_failed": 1, "checkpoint_failed": 1}


def test_a_mended_journal_may_fail_again() -> None:
    kept, progress = saving(durability="journal")
    for _ in range(2):
        assert told(kept.record_batch(batch("full"))) == ["journal_failed"]
        kept.order(0.0)
        kept.journal_began()
        kept.written(CheckpointWritten(5, PATH, based=True))
    assert progress.faults["journal_failed"] == 2
