"""Segments lead on from each other; a crash or a failing disk anywhere leaves all that was appended."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from learner.durability.disk import Disk
from learner.durability.journal import (
    RESERVED_BYTES,
    Journal,
    JournalError,
    bases,
    read,
    retain,
    segment_files,
    set_aside,
    settle,
    version_after,
    write_base,
)
from learner.durability.journal_format import Batch, Head, Mark, Record, Step
from tests.disk import FailingDisk, MemoryDisk, failing

FOLDER = Path("/run/journal")
MANIFEST = "ab" * 8
JOURNAL_POINTS = [f"journal.{operation}" for operation in ("create", "write", "sync", "folder")]


def journal(disk: Disk, epoch: int = 1, folder: Path = FOLDER, segment_bytes: int = 1 << 20) -> Journal:
    return Journal(folder, Head(MANIFEST, epoch, 0, {"optimizer": "addition"}), disk, segment_bytes)


def batch(version: int, steps: int = 1) -> tuple[Batch, list[bytes]]:
    step = Step(((7, version + 1),), "f32", 1, 4, 0.5, 1.0)
    return Batch(version, (step,) * steps, {}), [b"abcd"] * steps


def versions(disk: Disk, since: int = 0, folder: Path = FOLDER) -> list[int]:
    return [record.version for record, _ in read(folder, MANIFEST, since, disk) if isinstance(record, Batch)]


def write(kept: Journal, *of: int) -> None:
    for version in of:
        kept.append(*batch(version))


def test_what_was_appended_is_read_from_any_version(tmp_path: Path) -> None:
    disk = Disk()
    kept = journal(disk, folder=tmp_path)
    kept.start_segment(0)
    write(kept, 0, 1, 2)
    kept.append(Mark(3, "cd"))
    kept.append(*batch(3, steps=4))
    write(kept, 7)
    kept.close()
    found = [record for record, _ in read(tmp_path, MANIFEST, 0, disk)]
    assert [type(record).__name__ for record in found] == ["Head", *["Batch"] * 3, "Mark", "Batch", "Batch"]
    assert versions(disk, 2, tmp_path) == [2, 3, 7]
    assert versions(disk, 4, tmp_path) == []  # within a batch nobody begins
    assert versions(disk, 8, tmp_path) == []
    assert [segment.path.name for segment in segment_files(tmp_path)] == ["000000000000-000001.log"]


def test_a_segment_that_has_grown_is_followed_by_another(tmp_path: Path) -> None:
    kept = journal(Disk(), folder=tmp_path, segment_bytes=300)
    kept.start_segment(5)
    write(kept, *range(5, 25))
    assert len(segment_files(tmp_path)) > 3
    assert versions(Disk(), 5, tmp_path) == list(range(5, 25))
    assert versions(Disk(), 17, tmp_path) == list(range(17, 25))
    kept.close()


def test_a_new_life_leads_on_from_a_torn_end() -> None:
    disk = MemoryDisk()
    first = journal(disk)
    first.start_segment(0)
    write(first, 0, 1, 2)
    disk.files[segment_files(FOLDER, disk)[0].path].data[-3:] = b""
    assert versions(disk) == [0, 1]
    second = journal(disk, epoch=2)
    second.start_segment(2)
    write(second, 2, 3)
    assert versions(disk) == [0, 1, 2, 3]
    assert versions(disk, 2) == [2, 3]


def test_a_life_that_wrote_nothing_is_passed_over() -> None:
    disk = MemoryDisk()
    journal(disk).start_segment(0)
    for epoch in (2, 3):
        journal(disk, epoch).start_segment(0)
    disk.files[segment_files(FOLDER, disk)[1].path].data.clear()  # it died within its first write
    last = journal(disk, 4)
    last.start_segment(0)
    write(last, 0)
    assert versions(disk) == [0]


def test_another_runs_segment_is_refused() -> None:
    disk = MemoryDisk()
    journal(disk).start_segment(0)
    with pytest.raises(JournalError, match="belongs to another run"):
        list(read(FOLDER, "cd" * 8, 0, disk))


def test_what_a_gap_cuts_off_is_set_aside() -> None:
    disk = MemoryDisk()
    kept = journal(disk, segment_bytes=200)
    kept.start_segment(0)
    write(kept, *range(12))
    damaged = segment_files(FOLDER, disk)[1]
    disk.files[damaged.path].data[60] ^= 1
    reached = damaged.version + len(versions(disk, damaged.version))
    assert versions(disk) == list(range(reached))
    assert reached < 12
    lost = set_aside(FOLDER, reached, disk)
    assert [path.suffix for path in lost] == [".log"] * len(lost)
    again = journal(disk, epoch=2)
    again.start_segment(reached)
    write(again, reached)
    assert versions(disk) == list(range(reached + 1))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("point", JOURNAL_POINTS)
def test_a_disk_that_fails_closes_it_until_it_begins_anew(tmp_path: Path, point: str, error: int) -> None:
    disk = FailingDisk(failing())
    kept = journal(disk, folder=tmp_path, segment_bytes=150)
    kept.start_segment(0)
    write(kept, 0)
    disk.passed = failing(point, error=error)
    with pytest.raises(OSError, match=r"No space left|Input/output"):
        write(kept, *range(1, 9))
    disk.passed = failing()
    with pytest.raises(OSError, match="since it failed: "):
        kept.append(*batch(9))
    kept.start_segment(9)
    write(kept, 9, 10)
    assert versions(disk, 9, tmp_path) == [9, 10]
    told = versions(disk, 0, tmp_path)
    assert told == list(range(len(told)))
    assert len(told) < 9
    kept.close()


@pytest.mark.parametrize("seed", range(200))
def test_power_lost_at_any_moment_leaves_all_that_was_appended(seed: int) -> None:
    random, disk = Random(seed), MemoryDisk()
    version = 0
    for epoch in range(1, 5):
        kept = journal(disk, epoch, segment_bytes=random.choice((150, 400)))
        disk.passed = _dies_after(random.randint(2, 40))
        try:
            kept.start_segment(version)
            while True:
                write(kept, version)
                version += 1
        except OSError:
            disk.passed = failing()
        disk.lose_power(random)
        found = versions(disk)
        assert found == list(range(len(found)))
        assert version <= len(found) <= version + 1
        version = len(found)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_killed_life_did_not_live_to_sync_is_durable_once_it_is_settled(seed: int) -> None:
    disk = MemoryDisk()
    kept = journal(disk)
    kept.start_segment(0)
    write(kept, 0, 1)
    disk.passed = failing("journal.sync", error=errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        write(kept, 2)
    assert versions(disk) == [0, 1, 2]  # the system still holds it
    settle(FOLDER, disk)
    disk.lose_power(Random(seed))
    assert versions(disk) == [0, 1, 2]


def _dies_after(points: int) -> Callable[[str], None]:
    left = [points]

    def passed(name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, name)

    return passed


# retention


def laid(disk: MemoryDisk, version: int) -> Path:
    path = Path(f"/run/checkpoints/{version}")
    disk.create(path, "checkpoint").write(b"x" * 10)
    return path


def test_what_lies_before_the_oldest_checkpoint_is_forgotten() -> None:
    disk = MemoryDisk()
    kept = journal(disk, segment_bytes=200)
    kept.start_segment(0)
    write_base(FOLDER, laid(disk, 0), 0, disk)
    write(kept, *range(20))
    retain(FOLDER, laid(disk, 11), 11, disk)
    assert list(bases(FOLDER, disk)) == [11]
    assert versions(disk, 11) == list(range(11, 20))
    assert segment_files(FOLDER, disk)[0].version <= 11
    assert segment_files(FOLDER, disk)[1].version > 11
    retain(FOLDER, laid(disk, 11), 11, disk)  # nothing is left to forget
    assert versions(disk, 11) == list(range(11, 20))


@pytest.mark.parametrize("point", ["base.link", "base.rename", "base.folder"])
def test_a_disk_that_fails_while_forgetting_forgets_nothing(point: str) -> None:
    disk = MemoryDisk()
    kept = journal(disk, segment_bytes=200)
    kept.start_segment(0)
    write_base(FOLDER, laid(disk, 0), 0, disk)
    write(kept, *range(20))
    disk.passed = failing(point)
    with pytest.raises(OSError, match="No space"):
        retain(FOLDER, laid(disk, 11), 11, disk)
    assert versions(disk) == list(range(20))
    assert 0 in bases(FOLDER, disk)


def test_what_a_life_wrote_beyond_where_a_later_one_began_is_passed_over() -> None:
    disk = MemoryDisk()
    first = journal(disk, segment_bytes=200)
    first.start_segment(0)
    write(first, *range(9))
    beyond = [segment for segment in segment_files(FOLDER, disk) if segment.version > 4]
    second = journal(disk, epoch=2)
    second.start_segment(4)
    for version in (4, 5, 6):
        second.append(Batch(version, batch(version)[0].steps, {"life": 2}), [b"efgh"])
    lives = [record.counters for record, _ in read(FOLDER, MANIFEST, 0, disk) if isinstance(record, Batch)]
    assert lives == [{}] * 4 + [{"life": 2}] * 3
    assert beyond
    assert versions(disk) == list(range(7))
    for since in range(8):
        assert versions(disk, since) == list(range(since, 7))


def test_records_say_where_they_lead() -> None:
    record: Record = batch(3, steps=2)[0]
    assert version_after(record) == 5
    assert version_after(Mark(3, "")) == 3


def test_a_segment_is_not_read_beyond_where_a_later_life_went_on() -> None:
    disk = MemoryDisk()
    first = journal(disk)
    first.start_segment(0)
    write(first, *range(6))
    second = journal(disk, epoch=2)
    second.start_segment(4)
    second.append(Batch(4, batch(4)[0].steps, {"life": 2}), [b"efgh"])
    found = [record for record, _ in read(FOLDER, MANIFEST, 0, disk) if isinstance(record, Batch)]
    assert [record.version for record in found] == [0, 1, 2, 3, 4]
    assert found[-1].counters == {"life": 2}


def test_a_record_that_fits_is_written_where_zeros_do_not(tmp_path: Path) -> None:
    kept = journal(FailingDisk(failing("journal.reserve")), folder=tmp_path)
    kept.start_segment(0)
    write(kept, 0, 1, 2)
    assert versions(Disk(), 0, tmp_path) == [0, 1, 2]
    kept.close()


def test_what_was_reserved_and_not_written_is_given_back(tmp_path: Path) -> None:
    kept = journal(Disk(), folder=tmp_path)
    kept.start_segment(0)
    write(kept, 0)
    (segment,) = segment_files(tmp_path)
    assert segment.path.stat().st_size > RESERVED_BYTES
    told: list[object] = []
    assert len(list(read(tmp_path, MANIFEST, 0, announce=lambda *each: told.append(each)))) == 2
    assert told == []  # zeros are no damage
    kept.close()
    assert segment.path.stat().st_size < 1000
    assert versions(Disk(), 0, tmp_path) == [0]


@pytest.mark.parametrize(("cut", "told_as"), [(1, "journal_torn"), (40, "journal_torn"), (90, "journal_damaged")])
def test_bytes_that_no_record_was_read_from_are_told(cut: int, told_as: str) -> None:
    disk, told = MemoryDisk(), []
    kept = journal(disk)
    kept.start_segment(0)
    write(kept, *range(3))
    path = segment_files(FOLDER, disk)[0].path
    disk.files[path].data[-cut] ^= 1
    for _ in read(FOLDER, MANIFEST, 0, disk, lambda event, fields: told.append((event, fields))):
        pass
    ((event, fields),) = told
    assert event == told_as  # the first two are in the last record
    assert fields["path"] == str(path)
    assert cut <= fields["bytes"] <= len(disk.files[path].data)  # type: ignore[operator]


def test_a_base_can_be_copied_where_files_cannot_have_two_names(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"weights")
    write_base(tmp_path, tmp_path / "checkpoint", 7, FailingDisk(failing("base.link", error=errno.EPERM)))
    assert bases(tmp_path)[7].read_bytes() == b"weights"
