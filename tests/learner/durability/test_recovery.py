"""A life goes on from the bits that the one before had written down, with any optimizer, rule and codec."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from actor.compression.selection import make_selection
from learner.analysis.replay import Replay
from learner.apply_batch import apply_batch
from learner.cli import app
from learner.config import Experiment, Journaled, LearnerSettings, RunSettings, learner_settings
from learner.durability.checkpoint import BEST, Checkpoint, CheckpointFault, best_paths, load
from learner.durability.disk import DISK, Disk
from learner.durability.journal import SEGMENT_BYTES, JournalError, bases, read, segment_files
from learner.durability.journal_format import Head
from learner.durability.journal_replay import JournalReplay, ReplayError
from learner.durability.recovery import (
    RunFiles,
    blank,
    make_parameters,
    open_journal,
    restore,
    restore_best,
)
from learner.durability.storage import RunStorage
from learner.events import ApplyBatch, BestWritten, CheckpointFailed, CheckpointWritten, Job
from learner.launch.run_directory import RunDirectoryError
from learner.launch.toml import dumps
from learner.optim.parameters import Parameters
from learner.progress import Best
from learner.stream.writer import StreamWriter
from protocol import manifest as manifests
from protocol.codecs.registry import codec
from protocol.errors import UserError
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.moments import Moments
from tests.disk import FailingDisk, MemoryDisk, failing

P, D = 60, 3
LAYOUT = Layout((Entry("w", (5, 12)),))
MANIFEST = Manifest(
    run="toy-1",
    env="Toy-v0",
    seed=1,
    layout=LAYOUT,
    observation_size=D,
    actor_table=b"\x80",
    actor_digest=digest_of(b"\x80"),
    created="",
)
DIGEST = digest_of(manifests.encode(MANIFEST)).hex()
KINDS = [
    ("preconditioned", "compensate", "topk_i8"),
    ("preconditioned", "gap", "topk_i8"),
    ("preconditioned", "scale", "i4"),
    ("preconditioned", "compensate", "lowrank"),
    ("adam", "none", "f32"),
    ("adam", "compensate", "topk_i8"),
    ("adamw", "compensate", "i8"),
    ("lion", "scale", "topk_i8"),
    ("rmsprop", "compensate", "i8"),
    ("rmsprop_paper", "compensate", "bf16"),
    ("sgd", "scale", "f32"),
]


def made(optimizer: str = "preconditioned", rule: str = "compensate", **more: Any) -> LearnerSettings:
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    clipped = {} if optimizer == "preconditioned" else {"max_gradient_norm": 0.5}
    return learner_settings(
        {"optimizer": optimizer, "staleness_rule": rule, "durability": "journal", **momentum, **clipped, **more}
    )


def short(**more: Any) -> LearnerSettings:
    """With a journal that is cut at 2000 bytes, which no file may ask for."""
    return msgspec.structs.replace(made(**more), durability=Journaled(journal_bytes=2000))


def make(settings: LearnerSettings) -> Parameters:
    return blank(settings, LAYOUT, D)


class Life:
    """One life of a learner's numbers: what the service's threads do, in one."""

    def __init__(
        self,
        folder: Path,
        settings: LearnerSettings,
        epoch: int = 1,
        disk: Disk = DISK,
        *,
        journaled: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []
        where = folder / "checkpoints", folder / "journal"
        self.files = RunFiles(*where, DIGEST, self.tell, disk, segment_bytes, journaled)
        theta = np.linspace(-1.0, 1.0, P, dtype=np.float32)
        self.parameters = make_parameters(settings, theta, LAYOUT, D)
        self.settings = settings
        self.restored = restore(self.parameters, settings, make, self.files)
        self.began_at = self.parameters.version
        self.stream = StreamWriter(self.parameters, budgeted=False)
        self.epoch = epoch
        self.store = RunStorage(
            self.files, settings, open_journal(self.parameters, self.restored, settings, self.files, epoch)
        )
        self.random = np.random.default_rng([epoch, 5])
        self.sequence = 0

    def tell(self, event: str, fields: dict[str, object]) -> None:
        self.told.append((event, fields))

    def work(self, batches: int, codec_name: str = "topk_i8") -> str | None:
        """Some batches of one to three gradients, late by up to two; why the last one is not in the journal."""
        unlogged = None
        for _ in range(batches):
            jobs = [self.job(codec_name) for _ in range(self.random.integers(1, 4))]
            counters: dict[str, int | float] = {"env_steps": 10 * self.sequence}
            order = ApplyBatch(jobs, 0.01, self.parameters.version, counters=counters)
            unlogged = apply_batch(self.parameters, self.stream, order, self.epoch, self.store.journal).unlogged
        return unlogged

    def job(self, codec_name: str) -> Job:
        self.sequence += 1
        wanted = codec(codec_name)
        value = self.random.standard_normal(P).astype(np.float32)
        encoded = wanted.encode(make_selection(wanted, [(5, 12)], 0.2, 0, 1, 0).select(value))
        base = max(0, self.parameters.version - int(self.random.integers(0, 3)))
        moments = None
        if self.sequence % 3 == 0:
            rows = Moments(4, self.random.standard_normal(D), np.ones(D))
            moments = (rows.count, rows.to_buffer())
        return Job(7, self.sequence, base, codec_name, P, encoded.count, encoded.buffer, moments, 0.0)

    def save(self, *, rebase: bool = False) -> CheckpointWritten | CheckpointFailed:
        arrays, version = self.parameters.checkpoint_arrays(), self.parameters.version
        kept = Checkpoint(DIGEST, version, self.epoch, {"env_steps": 10 * self.sequence}, arrays)
        event = self.store.save(kept, based=self.store.append_mark(kept, rebase=rebase))
        assert isinstance(event, CheckpointWritten | CheckpointFailed)
        return event

    def digest(self) -> str:
        return JournalReplay(self.parameters, self.settings, make).digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "manifest.json").write_bytes(manifests.encode(MANIFEST))
    return tmp_path


def note(folder: Path, settings: LearnerSettings) -> None:
    (folder / "experiment.toml").write_text(dumps(Experiment(run=RunSettings(), learner=settings)))


# going on


@pytest.mark.parametrize(("optimizer", "rule", "codec_name"), KINDS)
def test_checkpoint_and_tail_lead_to_the_same_bits(folder: Path, optimizer: str, rule: str, codec_name: str) -> None:
    settings = made(optimizer, rule)
    first = Life(folder, settings)
    first.work(5, codec_name)
    first.save()
    first.work(5, codec_name)
    second = Life(folder, settings, 2)
    assert second.digest() == first.digest()
    assert second.parameters.version == first.parameters.version > 5
    assert second.restored.progress.version == first.parameters.version
    assert ("journal_repeated", {"checkpoint": second.restored.checkpoint.version, "version": second.began_at}) in (  # type: ignore[union-attr]
        second.told
    )
    second.work(3, codec_name)
    assert Life(folder, settings, 3).digest() == second.digest()


def test_counters_are_the_newest_that_the_journal_has(folder: Path) -> None:
    first = Life(folder, made())
    first.save()
    first.work(4)
    assert Life(folder, made(), 2).restored.progress.env_steps == 10 * first.sequence


def test_a_life_without_a_checkpoint_goes_on_from_its_first_parameters(folder: Path) -> None:
    first = Life(folder, made())
    first.work(7)
    second = Life(folder, made(), 2)
    assert second.digest() == first.digest()
    assert list(bases(folder / "journal")) == [0]


def test_a_journal_is_repeated_in_a_life_that_keeps_none(folder: Path) -> None:
    first = Life(folder, made())
    first.work(7)
    theta = np.zeros(P, np.float32)
    parameters = make_parameters(LearnerSettings(), theta, LAYOUT, D)
    restore(parameters, LearnerSettings(), make, first.files)
    assert parameters.digest() == first.parameters.digest()


def test_a_run_without_a_journal_can_begin_one(folder: Path) -> None:
    files = RunFiles(folder / "checkpoints", folder / "journal", DIGEST, lambda *_: None)
    parameters = make_parameters(LearnerSettings(), np.ones(P, np.float32), LAYOUT, D)
    RunStorage(files, LearnerSettings(), None).save(
        Checkpoint(DIGEST, 40, 1, {}, parameters.checkpoint_arrays()), based=False
    )
    life = Life(folder, made(), 2)
    assert list(bases(folder / "journal")) == [40]
    life.work(3)
    assert Life(folder, made(), 3).digest() == life.digest()


def test_a_damaged_checkpoint_costs_nothing_where_the_journal_leads_past_it(folder: Path) -> None:
    first = Life(folder, made())
    first.work(3)
    first.save()
    first.work(3)
    written = first.save()
    first.work(3)
    assert isinstance(written, CheckpointWritten)
    written.path.write_bytes(b"nonsense")
    second = Life(folder, made(), 2)
    assert second.digest() == first.digest()
    assert [event for event, _ in second.told] == ["checkpoint_refused", "journal_repeated"]


def test_a_damaged_journal_is_said_aloud_and_what_lies_beyond_is_kept_aside(folder: Path) -> None:
    first = Life(folder, made(), segment_bytes=500)
    first.work(12)
    damaged = segment_files(folder / "journal")[1]
    data = bytearray(damaged.path.read_bytes())
    data[-1] ^= 1
    damaged.path.write_bytes(data)
    second = Life(folder, made(), 2)
    assert damaged.version <= second.began_at < first.parameters.version
    assert [event for event, _ in second.told] == ["journal_torn", "journal_repeated", "journal_unreachable"]
    second.work(3)
    assert Life(folder, made(), 3).digest() == second.digest()


def test_what_cannot_be_decoded_names_the_version(folder: Path) -> None:
    first = Life(folder, made())
    first.work(3, "f32")
    other = Layout((Entry("w", (5, 13)),))
    parameters = make_parameters(made(), np.zeros(65, np.float32), other, 0)
    with pytest.raises(ReplayError, match="beyond version 0: malformed_payload"):
        list(JournalReplay(parameters, made(), make).run(read(folder / "journal", DIGEST, 0)))


def test_the_journal_is_told_to_who_watches_it(folder: Path) -> None:
    life = Life(folder, made("preconditioned", "none"))
    began = life.store.journal_stats()
    life.work(5)
    books = life.store.journal_stats()
    assert began is not None
    assert books is not None
    assert (began.syncs, books.syncs) == (0, 5)
    assert books.sync_s > 0.0
    assert life.store.journal is not None
    assert books.disk_bytes - began.disk_bytes == life.store.journal.appended_bytes
    life.save()
    life.store.close()  # gives back what was reserved
    again = Life(folder, made("preconditioned", "none"), 2).store.journal_stats()
    assert again is not None
    assert again.disk_bytes >= books.disk_bytes
    assert RunStorage(life.files, LearnerSettings(), None).journal_stats() is None


def test_a_head_with_a_setting_that_is_unknown_names_it(folder: Path) -> None:
    head = Head(DIGEST, 1, 7, {"momentum_of_tomorrow": 0.5})
    with pytest.raises(ReplayError, match=r"beyond version 7: .*another version's: .*momentum_of_tomorrow"):
        list(JournalReplay(blank(made(), LAYOUT, 0), made(), make).run([(head, ())]))


def test_a_journal_that_cannot_be_begun_is_a_clear_error(folder: Path) -> None:
    for point in ("base.write", "journal.create", "journal.sync", "journal.folder"):
        with pytest.raises(JournalError, match=r"journal: No space left on device$") as told:
            Life(folder, made(), disk=FailingDisk(failing(point)))
        assert told.value.exit_code == 75


def test_the_best_is_recalled_from_its_file(folder: Path) -> None:
    life = Life(folder, made())
    score: dict[str, int | float] = {"mean": 9.5, "episodes": 20}
    life.store.save_best(Checkpoint(DIGEST, 3, 1, {}, life.parameters.checkpoint_arrays(), score))
    restore_best(life.restored.progress, life.files)
    assert (life.restored.progress.evaluated_best_mean, life.restored.progress.evaluated_best_version) == (9.5, 3)


def test_what_a_key_said_that_may_not_evaluate_is_not_recalled(folder: Path) -> None:
    life, arrays = Life(folder, made()), {"theta": np.zeros(2, np.float32)}
    for version, mean, key in ((3, 9.5, "one"), (4, 8.0, "two"), (5, 1e14, "liar")):
        life.store.save_best(Checkpoint(DIGEST, version, 1, {}, arrays, {"mean": mean}, key))
    progress = life.restored.progress
    restore_best(progress, life.files)
    assert (progress.best, sorted(progress.runners_up)) == (Best(1e14, 5, "liar"), ["one", "two"])
    for _ in range(2):  # the second time from what the first left on disk
        restore_best(progress, life.files, lambda key: key != "liar")
        assert (progress.best, progress.runners_up) == (Best(9.5, 3, "one"), {"two": Best(8.0, 4, "two")})
    restore_best(progress, life.files, lambda _: False)
    assert (progress.best, progress.runners_up) == (None, {})
    assert not (life.files.checkpoints / BEST).exists()
    assert len(best_paths(life.files.checkpoints)) == 3  # nothing that was found is deleted


def test_a_best_that_has_no_key_outlives_a_liar_who_led(folder: Path) -> None:
    life, arrays = Life(folder, made()), {"theta": np.zeros(2, np.float32)}
    path, progress = life.files.checkpoints / BEST, life.restored.progress

    def writes(version: int, mean: float, key: str) -> None:
        life.store.save_best(Checkpoint(DIGEST, version, 1, {}, arrays, {"mean": mean}, key))

    writes(3, 480.0, "")
    writes(4, 1e14, "liar")
    writes(5, 1e15, "liar")
    assert isinstance(life.store.promote_best("", 3), BestWritten)  # as after a revocation
    assert (load(path).version, load(path).evaluator) == (3, "")
    writes(6, 1e15, "liar")
    restore_best(progress, life.files, lambda _: False)  # after a restart
    assert progress.best == Best(480.0, 3, "")
    assert load(path).version == 3


# disks that fail


def test_a_full_disk_stops_no_batch_and_the_journal_begins_anew_from_a_checkpoint(folder: Path) -> None:
    disk = FailingDisk(failing())
    life = Life(folder, made(), disk=disk)
    assert life.work(3) is None
    disk.passed = failing("journal.write", "checkpoint.write")
    assert life.work(1) == "No space left on device"
    assert life.work(2) == "the journal takes nothing since it failed: No space left on device"
    assert isinstance(life.save(rebase=True), CheckpointFailed)
    disk.passed = failing()
    written = life.save(rebase=True)
    assert isinstance(written, CheckpointWritten)
    assert written.based
    assert life.work(3) is None
    assert Life(folder, made(), 2).digest() == life.digest()
    assert len(bases(folder / "journal")) == 2


def test_a_mark_that_fails_costs_nothing(folder: Path) -> None:
    """What follows it follows the record before it, in a segment of its own."""
    note(folder, made())
    disk = FailingDisk(failing())
    life = Life(folder, made(), disk=disk)
    life.work(3)
    for point in ("journal.write", "journal.sync"):
        disk.passed = failing(point)
        life.save()
        assert life.store.journal is not None
        assert not life.store.journal.accepts
        disk.passed = failing()
        assert life.work(2) is None
        life.save()
    assert Life(folder, made(), 2).digest() == life.digest()
    assert sentences(folder) == ""


def test_a_life_that_stops_keeps_no_weights_that_its_journal_lacks(folder: Path) -> None:
    disk = FailingDisk(failing())
    life = Life(folder, made(), disk=disk)
    life.work(3)
    held, digest = life.parameters.version, life.digest()
    assert life.store.refuse(held) is None
    disk.passed = failing("journal.write")
    assert life.work(1) == "No space left on device"
    assert life.store.refuse(life.parameters.version) == CheckpointFailed(
        life.parameters.version, "the journal does not lead to it"
    )
    going_on = RunStorage(life.files, made(on_journal_failure="continue"), life.store.journal)
    assert going_on.refuse(life.parameters.version) is None
    again = Life(folder, made(), 2)
    assert (again.began_at, again.digest()) == (held, digest)


def long_life(folder: Path) -> tuple[Life, FailingDisk, int]:
    """A life on a disk that may fail, and how many segments its journal has."""
    disk = FailingDisk(failing())
    life = Life(folder, made(checkpoints_kept=1), disk=disk, segment_bytes=500)
    for _ in range(3):
        life.work(4)
        life.save()
    return life, disk, len(segment_files(folder / "journal"))


def test_a_life_that_ends_for_want_of_room_leaves_what_can_be_spared(folder: Path) -> None:
    life, disk, before = long_life(folder)
    disk.passed = failing("journal.write")
    assert life.work(1) is not None
    disk.passed = failing()
    held = life.store.journal.version  # type: ignore[union-attr]
    life.store.close()
    assert len(segment_files(folder / "journal")) < before
    assert Life(folder, made(), 2).began_at == held


def test_a_sync_that_fails_is_no_different(folder: Path) -> None:
    disk = FailingDisk(failing())
    life = Life(folder, made(), disk=disk)
    disk.passed = failing("journal.sync", error=5)
    assert life.work(1) == "Input/output error"
    disk.passed = failing()
    assert life.work(1) == "the journal takes nothing since it failed: Input/output error"


@pytest.mark.parametrize("seed", range(60))
def test_power_lost_anywhere_loses_nothing_that_was_acked(seed: int) -> None:
    """Several lives, each ended at a random point of the disk; θ afterwards is one that this history went through."""
    random, disk, folder = Random(seed), MemoryDisk(), Path("/run")
    small = Journaled(journal_bytes=1 << 20)
    settings = msgspec.structs.replace(made(random.choice(("preconditioned", "adam"))), durability=small)
    seen: dict[int, str] = {}
    acked = 0
    for epoch in range(1, 6):
        disk.passed = dies_after(random.randint(5, 60))
        with contextlib.suppress(JournalError):
            life = Life(folder, settings, epoch, disk)
            assert life.began_at >= acked
            assert seen.setdefault(life.began_at, life.digest()) == life.digest()
            while life.work(1) is None:
                seen[life.parameters.version] = life.digest()
                acked = life.parameters.version
                if random.random() < 0.2:
                    life.save()
        disk.passed = failing()
        disk.lose_power(random)
    life = Life(folder, settings, 9, disk)
    assert life.began_at >= acked
    assert seen.setdefault(life.began_at, life.digest()) == life.digest()


def dies_after(points: int) -> Callable[[str], None]:
    left = [points]

    def passed(name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")

    return passed


# seeing it again


def told_of(folder: Path, until: int | None = None) -> tuple[Replay, list[tuple[str, dict[str, object]]]]:
    told: list[tuple[str, dict[str, object]]] = []
    rerun = Replay(folder, lambda event, fields: told.append((event, fields)))
    rerun.run(until, verify=True)
    return rerun, told


@pytest.mark.parametrize(("optimizer", "rule", "codec_name"), KINDS)
def test_three_lives_are_seen_again_bit_for_bit(folder: Path, optimizer: str, rule: str, codec_name: str) -> None:
    note(folder, made(optimizer, rule))
    digests = {}
    for epoch in range(1, 4):
        life = Life(folder, made(optimizer, rule), epoch)
        for _ in range(3):
            life.work(3, codec_name)
            life.save()
            digests[life.parameters.version] = life.parameters.digest()
        life.work(2, codec_name)
    rerun, told = told_of(folder)
    assert [event for event, _ in told] == ["same"] * 9 + ["replayed"]
    assert told[-1][1]["theta"] == life.parameters.digest()
    assert (rerun.compared, rerun.differing, rerun.updates) == (9, 0, life.parameters.version)
    for version, digest in digests.items():
        assert Replay(folder, lambda *_: None).run(version, verify=False).digest() == digest


def test_until_stops_within_a_batch(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(6)
    thetas = {Replay(folder, lambda *_: None).run(version, verify=False).digest() for version in range(7)}
    assert len(thetas) == 7


def test_an_optimizer_that_changed_between_lives_is_followed(folder: Path) -> None:
    first = Life(folder, made("adam", beta1=0.9))
    first.work(3)
    first.save()
    first.work(3)  # which the next life repeats as it was
    second = Life(folder, made("adam", beta1=0.5), 2)
    assert second.digest() == first.digest()
    second.work(3)
    second.save()
    note(folder, made("adam", beta1=0.5))
    assert told_of(folder)[0].differing == 0


def test_a_gap_is_told_and_leapt_over(folder: Path) -> None:
    note(folder, made())
    disk = FailingDisk(failing())
    life = Life(folder, made(), disk=disk)
    life.work(3)
    before = life.parameters.version
    disk.passed = failing("journal.write")
    life.work(2)
    disk.passed = failing()
    life.save(rebase=True)
    life.work(3)
    rerun, told = told_of(folder)
    after = list(bases(folder / "journal"))[1]
    assert ("gap", {"from": before, "to": after}) in told
    assert rerun.omissions == [f"{folder / 'journal'}: it does not lead from version {before} to {after}"]
    assert rerun.run(None, verify=False).digest() == life.parameters.digest()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def sentences(folder: Path, **asked: Any) -> str:
    """What a replay of the run could not say, from a journal that was closed."""
    rerun = Replay(folder, lambda *_: None)
    rerun.run(asked.get("until"), verify=asked.get("verify", True))
    return "\n".join(sentence.replace(str(folder), "") for sentence in rerun.omissions)


@pytest.mark.parametrize("verify", [True, False])
def test_one_flipped_byte_near_the_beginning_is_no_success(folder: Path, verify: bool) -> None:
    note(folder, made())
    life = Life(folder, made())
    for _ in range(3):
        life.work(3)
        life.save()
    (segment,) = segment_files(folder / "journal")
    flip(segment.path, 400)
    said = sentences(folder, verify=verify)
    assert f"/journal/{segment.path.name}: " in said
    assert "cannot be read, more than one record; a crash leaves less" in said
    assert ", and kept checkpoints lie beyond: " in said
    assert ("nothing was compared" in said) == verify


def test_the_exit_code_of_a_replay_tells_the_same_from_all_that_is_not(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(3)
    life.save()
    replay = [*map(str, ("replay", folder, "--verify"))]
    assert CliRunner().invoke(app, replay).exit_code == 0
    life.parameters.theta[0] += 1.0
    life.save()
    assert CliRunner().invoke(app, replay).exit_code == 1
    (segment,) = segment_files(folder / "journal")
    flip(segment.path, 400)
    damaged = CliRunner().invoke(app, replay)
    assert damaged.exit_code == 3
    assert f"error: {segment.path}: " in damaged.stderr
    assert '"compared": 0, "differing": 0' in damaged.stdout
    shutil.rmtree(folder / "journal")
    gone = CliRunner().invoke(app, replay)
    assert isinstance(gone.exception, UserError)  # which main makes one line and code 2
    assert gone.exception.exit_code == 2


def test_a_journal_that_may_not_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(folder, made())
    Life(folder, made()).work(3)

    def refuse(_: Disk, path: Path) -> bytes:
        if path.suffix == ".log":
            raise PermissionError(13, "Permission denied", "journal")
        return path.read_bytes()

    monkeypatch.setattr(Disk, "read", refuse)
    refused = CliRunner().invoke(app, ["replay", str(folder)])
    assert str(refused.exception) == "journal: Permission denied"


def test_what_one_flipped_byte_hides_is_never_a_success(folder: Path) -> None:
    """Wherever in the segment it is, but for the zeros behind what was written."""
    note(folder, made())
    life = Life(folder, made())
    for _ in range(3):
        life.work(2)
        life.save()
    life.store.close()
    (segment,) = segment_files(folder / "journal")
    assert sentences(folder) == ""
    for offset in range(0, segment.path.stat().st_size - 100, 37):
        flip(segment.path, offset)
        assert "kept checkpoints lie beyond" in sentences(folder), offset
        flip(segment.path, offset)
    assert sentences(folder) == ""


def test_a_segment_that_is_missing_is_no_success(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made(), segment_bytes=500)
    life.work(12)
    segment_files(folder / "journal")[1].path.unlink()
    assert "segments lie beyond" in sentences(folder, verify=False)


def test_a_replay_that_met_no_checkpoint_compared_nothing(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(3)
    nothing = "/journal: nothing was compared, for no checkpoint is noted on the way"
    assert sentences(folder) == nothing
    assert sentences(folder, verify=False) == ""
    life.save()
    assert sentences(folder) == ""
    assert sentences(folder, until=1) == nothing


def test_a_kept_checkpoint_that_the_journal_does_not_note_is_no_success(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(3)
    life.save()
    version = life.parameters.version
    life.work(1)
    kept = Checkpoint(DIGEST, life.parameters.version, 1, {}, life.parameters.checkpoint_arrays())
    life.store.save(kept, based=False)
    life.work(1)
    assert sentences(folder) == f"/journal: it leads to no kept checkpoint of version {kept.version}"
    assert sentences(folder, until=version) == ""


def test_other_bits_are_found(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(3)
    life.parameters.theta[0] = np.nextafter(life.parameters.theta[0], np.float32(9.0))
    life.save()
    rerun, told = told_of(folder)
    assert [event for event, _ in told] == ["differs", "replayed"]
    assert rerun.differing == 1


def test_a_checkpoint_whose_file_was_changed_is_found(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(3)
    life.save()
    version, epoch = life.parameters.version, 1
    life.parameters.theta[0] += 1
    life.store.save(Checkpoint(DIGEST, version, epoch, {}, life.parameters.checkpoint_arrays()), based=False)
    assert told_of(folder)[0].differing == 1


def test_what_was_reached_can_be_written(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(3)
    rerun, _ = told_of(folder)
    rerun.write(folder / "there.safetensors")
    kept = load(folder / "there.safetensors")
    assert (kept.version, kept.epoch, kept.manifest) == (life.parameters.version, 1, DIGEST)
    np.testing.assert_array_equal(kept.arrays["theta"], life.parameters.theta)
    with pytest.raises(CheckpointFault, match="No such file"):
        rerun.write(folder / "nowhere" / "there.safetensors")


@pytest.mark.parametrize("until", [-1, 10_000])
def test_a_version_that_is_not_on_the_way_is_refused(folder: Path, until: int) -> None:
    note(folder, made())
    Life(folder, made()).work(3)
    with pytest.raises(UserError, match=f"--until {until}: the journal (begins at version 0|leads to version)"):
        told_of(folder, until)


def test_what_is_no_run_or_has_no_journal_is_refused(folder: Path) -> None:
    note(folder, made())
    with pytest.raises(RunDirectoryError, match="its journal is gone: journal/ holds nothing to begin from"):
        Replay(folder, lambda *_: None)
    note(folder, LearnerSettings())
    with pytest.raises(RunDirectoryError, match="it holds no journal; a run that is to be replayed"):
        Replay(folder, lambda *_: None)
    with pytest.raises(RunDirectoryError, match=r"there is no run: manifest\.json"):
        Replay(folder / "checkpoints", lambda *_: None)


def test_retention_forgets_what_lies_before_the_oldest_checkpoint(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, short(checkpoints_kept=1), segment_bytes=500)
    for _ in range(6):
        life.work(4)
        life.save()
    (base,) = bases(folder / "journal")
    assert base > 0
    rerun, told = told_of(folder)
    assert told[-1][1]["theta"] == life.parameters.digest()
    assert rerun.updates == life.parameters.version - base


def test_a_damaged_oldest_checkpoint_becomes_no_base(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, short(checkpoints_kept=2), segment_bytes=500)
    for _ in range(2):
        life.work(4)
        written = life.save()
    assert isinstance(written, CheckpointWritten)
    written.path.write_bytes(b"nonsense")  # the oldest, once another is there
    life.work(4)
    life.save()
    rerun, told = told_of(folder)
    assert told[-1][1]["theta"] == life.parameters.digest()
    assert rerun.differing == 0
    assert Life(folder, made(), 2).digest() == life.digest()


def test_a_damaged_base_is_told_and_the_next_one_taken(folder: Path) -> None:
    note(folder, made())
    life = Life(folder, made())
    life.work(4)
    life.save()
    second = Life(folder, made(), 2)
    second.work(3)
    next(iter(bases(folder / "journal").values())).write_bytes(b"nonsense")
    _, told = told_of(folder)
    assert told[0][0] == "checkpoint_refused"
    assert "not a safetensors file of ours" in sentences(folder)
    assert told[-1][1]["theta"] == second.parameters.digest()


def test_a_journal_without_a_beginning_is_no_reason_to_begin_again(folder: Path) -> None:
    Life(folder, made()).work(3)
    for path in bases(folder / "journal").values():
        path.unlink()
    with pytest.raises(JournalError, match="there is no checkpoint that it leads on from"):
        Life(folder, made(), 2)


def test_damage_in_the_only_segment_is_told(folder: Path) -> None:
    first = Life(folder, made())
    first.work(12)
    (segment,) = segment_files(folder / "journal")
    data = bytearray(segment.path.read_bytes().rstrip(b"\0"))
    data[len(data) // 3] ^= 1
    segment.path.write_bytes(data)
    second = Life(folder, made(), 2)
    damaged = dict(second.told)["journal_damaged"]
    assert damaged["version"] == second.began_at < first.parameters.version
    assert int(str(damaged["bytes"])) > len(data) // 2


@pytest.mark.parametrize("what", ["gone", "empty", "cut short"])
def test_a_journal_that_the_life_before_kept_and_that_is_gone_is_said_aloud(folder: Path, what: str) -> None:
    first = Life(folder, made())
    first.work(3)
    first.save()
    version = first.parameters.version
    first.store.close()
    again = Life(folder, made(), 2, journaled=True)
    assert not again.told  # the one that is there is not missed
    old, new = (segment.path for segment in segment_files(folder / "journal"))
    if what == "cut short":
        new.unlink()
        old.write_bytes(old.read_bytes()[:500])
    else:
        shutil.rmtree(folder / "journal")
    if what == "empty":
        (folder / "journal").mkdir()
    third = Life(folder, made(), 3, journaled=True)
    told = dict(third.told)["journal_missing"]
    detail = "nothing in it leads on" if what == "cut short" else "it is gone, or empty; the run goes on, without"
    assert (told["path"], told["version"]) == (str(folder / "journal"), version)
    assert str(told["detail"]).startswith(detail)
    assert third.began_at == version
    third.work(2)
    assert Life(folder, made(), 4, journaled=True).digest() == third.digest()


def test_a_journal_that_is_gone_before_there_was_a_checkpoint_is_said_aloud(folder: Path) -> None:
    Life(folder, made()).work(2)
    shutil.rmtree(folder / "journal")
    assert dict(Life(folder, made(), 2, journaled=True).told)["journal_missing"]["version"] == 0


def test_a_run_that_kept_none_misses_no_journal(folder: Path) -> None:
    assert not Life(folder, made()).told


def test_a_full_disk_gives_up_what_it_can_spare(folder: Path) -> None:
    life, disk, before = long_life(folder)
    disk.passed = failing("checkpoint.sync")
    assert isinstance(life.save(), CheckpointFailed)
    assert not (folder / "checkpoints" / "checkpoint.tmp").exists()
    assert len(segment_files(folder / "journal")) < before
    disk.passed = failing()
    assert Life(folder, made(), 2).digest() == life.digest()
