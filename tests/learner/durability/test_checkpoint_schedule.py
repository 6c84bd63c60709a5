"""Checkpoints come at intervals, one at a time; a journal that fails is told once and mended by one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from learner.config import learner_settings
from learner.durability.checkpoint_schedule import EARLY_S, EARLY_SHARE, GOES_ON, MEND_S, CheckpointSchedule
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
    assert told(kept.written(CheckpointWritten(5, PATH), 161.5)) == ["checkpoint_written"]
    assert (kept.version, kept.written_at) == (5, 160.0)
    assert kept.order(220.0) == []
    progress.version = 6
    assert len(kept.order(220.0)) == 1


def test_the_last_is_asked_for_once() -> None:
    kept, progress = saving()
    assert kept.order_last(160.0) == [WriteCheckpoint(progress.saved(), rebase=False)]
    assert kept.last
    kept.failed(CheckpointFailed(5, "full"), 160.5)
    assert kept.order_last(161.0) == []


def test_a_failure_is_counted_and_tried_again() -> None:
    kept, progress = saving()
    kept.order(160.0)
    assert told(kept.failed(CheckpointFailed(5, "full"), 160.5)) == ["checkpoint_failed"]
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
    kept.failed(CheckpointFailed(5, "full"), 105.5)
    assert not kept.due(105.0 + MEND_S)
    assert kept.due(105.0 + 2 * MEND_S)
    kept.order(115.0)
    kept.journal_began()
    kept.record_batch(batch("full"))  # it began, and failed again before the checkpoint was on disk
    assert told(kept.written(CheckpointWritten(5, PATH, based=True), 9.0)) == ["checkpoint_written"]
    kept.order(140.0)
    assert told(kept.written(CheckpointWritten(5, PATH), 141.0)) == ["checkpoint_written"]  # asked for before
    kept.order(170.0)
    kept.journal_began()
    assert told(kept.written(CheckpointWritten(5, PATH, based=True), 9.0)) == ["checkpoint_written", "journal_restored"]
    assert kept.journal_failure is None
    assert progress.faults == {"journal_failed": 1, "checkpoint_failed": 1}


def test_a_mended_journal_may_fail_again() -> None:
    kept, progress = saving(durability="journal")
    for _ in range(2):
        assert told(kept.record_batch(batch("full"))) == ["journal_failed"]
        kept.order(0.0)
        kept.journal_began()
        kept.written(CheckpointWritten(5, PATH, based=True), 9.0)
    assert progress.faults["journal_failed"] == 2


def life(*, training_from: float, lasts_s: float, write_s: float = 0.1, **settings: object) -> list[float]:
    """When checkpoints of a life that trains from then on were begun, in seconds since; it is asked four times a second
    and each takes ``write_s``. As it begins at 100.0, so does time.
    """
    kept, progress = saving(**settings)
    ordered, done_at, version = list[float](), float("inf"), 0
    for tick in range(int(4 * lasts_s)):
        now = 100.0 + tick / 4
        progress.version += now >= 100.0 + training_from
        if now >= done_at:
            kept.written(CheckpointWritten(version, PATH), done_at)
            done_at = float("inf")
        if kept.due(now) and kept.order(now):
            ordered.append(now - 100.0 - training_from)
            done_at, version = now + write_s, progress.version
    return ordered


def test_a_life_that_crashes_in_its_first_minute_loses_ten_seconds_at_most() -> None:
    moments = life(training_from=7.0, lasts_s=600.0)
    assert moments[0] == EARLY_S
    assert all(after - before <= 10.0 for before, after in pairwise(moments) if after <= 60.0)
    assert all(after - before <= max(EARLY_S, EARLY_SHARE * after) + 0.25 for before, after in pairwise(moments))
    assert sum(moment <= 360.0 for moment in moments) <= 21
    late = [moment for moment in moments if moment > 360.0]
    assert {after - before for before, after in pairwise(late)} == {60.0}


def test_a_slow_disk_writes_a_tenth_of_the_time_at_most() -> None:
    moments = life(training_from=0.0, lasts_s=120.0, write_s=2.0)
    assert moments == [EARLY_S, 25.0, 45.0, 65.0, 85.0, 105.0]


def test_the_interval_is_kept_where_it_is_shorter_or_nothing_was_applied() -> None:
    assert life(training_from=0.0, lasts_s=5.0, checkpoint_interval_s=1.0) == [1.0, 2.0, 3.0, 4.0]
    assert life(training_from=1000.0, lasts_s=130.0) == [60.0 - 1000.0]
