"""A checkpoint is whole or refused, and a crash at any moment leaves a whole one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
import safetensors.numpy

from learner.durability import checkpoint as module
from learner.durability.checkpoint import BEST, Checkpoint, CheckpointFault, load, load_best, newest, save, save_best
from learner.durability.disk import POINTS
from tests.disk import FailingDisk, MemoryDisk, failing


def a_checkpoint(version: int = 5) -> Checkpoint:
    random = np.random.default_rng(version)
    arrays: dict[str, np.ndarray] = {
        "theta": random.standard_normal(100).astype(np.float32),
        "optimizer.step": np.array(version, np.float32),
        "observations.count": np.array(2**40 + version, np.int64),
        "observations.mean": random.standard_normal(4),
        "empty": np.empty(0, np.float32),
    }
    return Checkpoint("ab" * 8, version, 2, {"env_steps": 2**52 + 1, "math_s": 0.1}, arrays)


def assert_same(found: Checkpoint | None, expected: Checkpoint) -> None:
    assert found is not None
    assert (found.manifest, found.version, found.epoch) == (expected.manifest, expected.version, expected.epoch)
    assert found.counters == expected.counters
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found.arrays[name], array)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    path = save(tmp_path, a_checkpoint(5), keep=3)
    assert path.name == "checkpoint-000000000005.safetensors"
    assert_same(load(path), a_checkpoint(5))
    assert names(tmp_path) == [path.name]


def test_loaded_arrays_are_owned_and_writable(tmp_path: Path) -> None:
    found = load(save(tmp_path, a_checkpoint(), keep=1))
    found.arrays["theta"] += 1


def test_a_view_with_strides_is_saved_by_value(tmp_path: Path) -> None:
    strided = Checkpoint("", 1, 1, {}, {"theta": np.arange(10, dtype=np.float32)[::2]})
    np.testing.assert_array_equal(load(save(tmp_path, strided, 1)).arrays["theta"], [0, 2, 4, 6, 8])


def test_the_newest_is_found_by_version_not_by_name_length(tmp_path: Path) -> None:
    for version in (9, 10**12 + 1, 100):
        save(tmp_path, a_checkpoint(version), keep=9)
    assert_same(newest(tmp_path).checkpoint, a_checkpoint(10**12 + 1))


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_checkpoints_has_none(tmp_path: Path, exists: bool) -> None:
    found = newest(tmp_path if exists else tmp_path / "missing")
    assert found.checkpoint is None
    assert found.bad == ()


def test_the_newest_few_are_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for version in (1, 2, 3, 4):
        save(tmp_path, a_checkpoint(version), keep=2)
    kept = ["checkpoint-000000000003.safetensors", "checkpoint-000000000004.safetensors", "notes.txt"]
    assert names(tmp_path) == kept


def test_bad_newer_files_never_push_out_good_ones(tmp_path: Path) -> None:
    for version in (7, 8, 9):
        (tmp_path / f"checkpoint-{version:012d}.safetensors").write_bytes(b"rubbish")
    save(tmp_path, a_checkpoint(5), keep=1)
    assert_same(newest(tmp_path).checkpoint, a_checkpoint(5))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, a_checkpoint(), keep=1)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointFault, match=str(path)):
            load(path)


def test_every_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Padding of the safetensors header carries nothing; every other byte does."""
    path = save(tmp_path, a_checkpoint(), keep=1)
    whole = bytearray(path.read_bytes())
    for offset in range(len(whole)):
        whole[offset] ^= 1 << offset % 8
        path.write_bytes(whole)
        with contextlib.suppress(CheckpointFault):
            assert_same(load(path), a_checkpoint())
        whole[offset] ^= 1 << offset % 8


def test_a_bad_one_is_passed_over_with_its_reason(tmp_path: Path) -> None:
    save(tmp_path, a_checkpoint(1), keep=9)
    damaged = save(tmp_path, a_checkpoint(2), keep=9)
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    found = newest(tmp_path)
    assert_same(found.checkpoint, a_checkpoint(1))
    assert [(fault.path, fault.cause) for fault in found.bad] == [
        (damaged, "its digest does not match its contents; the file is damaged")
    ]


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-000000000001.safetensors"
    with pytest.raises(CheckpointFault, match="No such file"):
        load(path)
    path.write_bytes(safetensors.numpy.save({"theta": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointFault, match="no Farflung header"):
        load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointFault):
        load(path)


def test_another_format_is_refused_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT", 2)
    path = save(tmp_path, a_checkpoint(), keep=1)
    monkeypatch.undo()
    with pytest.raises(CheckpointFault, match="format 2; this program reads format 1"):
        load(path)


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("checkpoint.")])
def test_a_disk_that_fails_at_any_point_leaves_the_old_one(tmp_path: Path, point: str) -> None:
    save(tmp_path, a_checkpoint(1), keep=1)
    disk = FailingDisk(failing(point))
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, a_checkpoint(2), keep=1, disk=disk)
    renamed = point == "checkpoint.folder"
    assert_same(newest(tmp_path).checkpoint, a_checkpoint(2 if renamed else 1))
    save(tmp_path, a_checkpoint(3), keep=1)
    assert names(tmp_path) == ["checkpoint-000000000003.safetensors"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("checkpoint.")])
def test_power_lost_at_any_point_leaves_the_old_one_or_the_new_one(point: str, seed: int) -> None:
    folder, disk = Path("/checkpoints"), MemoryDisk()
    save(folder, a_checkpoint(1), keep=1, disk=disk)
    disk.passed = failing(point)
    with pytest.raises(OSError, match="No space left"):
        save(folder, a_checkpoint(2), keep=1, disk=disk)
    disk.lose_power(Random(seed))
    found = newest(folder, disk=disk).checkpoint
    assert found is not None
    assert_same(found, a_checkpoint(found.version))
    assert found.version in ((1, 2) if point == "checkpoint.folder" else (1,))


def test_data_is_synced_before_the_rename_and_the_folder_after(tmp_path: Path) -> None:
    disk = FailingDisk(failing())
    save(tmp_path, a_checkpoint(), keep=1, disk=disk)
    assert disk.passes == [point for point in POINTS if point.startswith("checkpoint.")]


# the best


def the_best(version: int = 5, mean: float = 10.0) -> Checkpoint:
    kept = a_checkpoint(version)
    return Checkpoint(kept.manifest, version, kept.epoch, kept.counters, kept.arrays, {"mean": mean, "episodes": 20})


def test_the_best_comes_back_with_its_score(tmp_path: Path) -> None:
    assert load_best(tmp_path) is None
    assert save_best(tmp_path, the_best()) == tmp_path / BEST
    found = load_best(tmp_path)
    assert_same(found, the_best())
    assert found is not None
    assert found.score == {"mean": 10.0, "episodes": 20}
    assert names(tmp_path) == [BEST]


def test_the_best_is_neither_resumed_from_nor_retired(tmp_path: Path) -> None:
    save_best(tmp_path, the_best(9))
    for version in (1, 2, 3):
        save(tmp_path, a_checkpoint(version), keep=1)
    assert names(tmp_path) == [BEST, "checkpoint-000000000003.safetensors"]
    assert_same(newest(tmp_path).checkpoint, a_checkpoint(3))


def test_a_better_one_takes_its_place(tmp_path: Path) -> None:
    save_best(tmp_path, the_best(5, 10.0))
    save_best(tmp_path, the_best(3, 11.0))
    assert_same(load_best(tmp_path), the_best(3))


def test_a_best_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    save_best(tmp_path, the_best(5))
    with pytest.raises(OSError, match="No space"):
        save_best(tmp_path, the_best(6), FailingDisk(failing("checkpoint.sync")))
    assert_same(load_best(tmp_path), the_best(5))


def test_a_damaged_best_is_refused(tmp_path: Path) -> None:
    path = save_best(tmp_path, the_best())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointFault, match="digest"):
        load_best(tmp_path)


def test_an_ordinary_checkpoint_says_nothing_of_scores(tmp_path: Path) -> None:
    """So that a program from before there were scores still reads it."""
    assert b"score" not in save(tmp_path, a_checkpoint(), 1).read_bytes()
