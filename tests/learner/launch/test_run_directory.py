"""A run's directory: who may begin in it, what stands in it afterwards, and what a full disk does."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from learner.config import Experiment, RunSettings, actor_table, learner_settings
from learner.durability.disk import Disk
from learner.launch import run_directory
from learner.launch.experiment_file import load
from learner.launch.run_directory import LOCK, PROGRESS, RunDirectory, RunDirectoryError, edition_of
from learner.progress import RENAMED_IN_RESULT
from protocol import manifest as manifests
from protocol.manifest import digest_of
from protocol.setting_names import DEFAULTS_EDITION
from tests.learner.books import manifest

EXPERIMENT = Experiment(run=RunSettings(seed=7), actor={"env": "CartPole-v1"})


class FullDisk:
    """A log file that takes ``room`` more bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.data = room, b""

    def write(self, data: bytes) -> int:
        taken = data[: self.room]
        if data and not taken:
            raise OSError(28, "No space left on device")
        self.room -= len(taken)
        self.data += taken
        return len(taken)

    def close(self) -> None:
        pass


def begun(path: Path) -> None:
    with RunDirectory.prepare(path, resume=False) as directory:
        assert directory.start_life(EXPERIMENT, manifest()) == 1


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (path / "progress.jsonl").read_text().splitlines()]


def test_a_fresh_run_leaves_all_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    begun(path)
    assert load(path / "experiment.toml", (), {}, kept=True) == EXPERIMENT
    assert manifests.decode((path / "manifest.json").read_bytes()) == manifest()
    assert (path / "checkpoints").is_dir()
    assert (path / "epoch").read_text() == "1\n"


def test_every_folder_that_it_made_is_there_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(Disk, "sync_folder", lambda disk, folder, what: synced.append(folder))
    with RunDirectory.prepare(tmp_path / "runs" / "today" / "one", resume=False):
        assert set(synced) == {tmp_path, tmp_path / "runs", tmp_path / "runs" / "today"}


def test_a_second_run_needs_another_place_or_resume(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"not empty; --resume"):
        RunDirectory.prepare(tmp_path, resume=False)


def test_a_stranger_s_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.prepare(tmp_path, resume=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_failed_early_leaves_the_place_usable(tmp_path: Path) -> None:
    with RunDirectory.prepare(tmp_path, resume=False):
        pass
    begun(tmp_path)


def test_a_start_that_failed_early_leaves_no_directory_that_it_made(tmp_path: Path) -> None:
    with RunDirectory.prepare(tmp_path / "run", resume=False):
        pass
    assert list(tmp_path.iterdir()) == []
    with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
        (directory.path / "notes").touch()
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [LOCK, "notes"]


def test_each_life_is_counted(tmp_path: Path) -> None:
    begun(tmp_path)
    for epoch in (2, 3):
        with RunDirectory.prepare(tmp_path, resume=True) as directory:
            assert directory.start_life(EXPERIMENT, manifest(created="tomorrow")) == epoch
    assert manifests.decode((tmp_path / "manifest.json").read_bytes()).created == "today"


def test_proceeding_begins_where_there_is_no_run_and_goes_on_where_there_is(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        with RunDirectory.prepare(tmp_path, resume=False, proceed=True) as directory:
            assert directory.resuming == (epoch > 1)
            assert directory.start_life(EXPERIMENT, manifest()) == epoch


def test_what_a_volume_and_a_death_leave_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".manifest.json.tmp").write_bytes(b"{")
    begun(tmp_path)


def over(path: Path, experiment: Experiment) -> int | None:
    with RunDirectory.prepare(path, resume=False, proceed=True) as directory:
        return directory.finished_exit_code(experiment)


@pytest.mark.parametrize(
    ("ended", "asked", "code"),
    [
        ({"solved": True, "return_target": 475.0, "env_steps": 9}, {"until_return": 475.0}, 0),
        ({"solved": True, "return_target": 475.0, "env_steps": 9}, {"until_return": 400.0, "until_steps": 10}, 0),
        ({"solved": True, "return_target": 475.0, "env_steps": 9}, {"until_return": 490.0}, None),
        ({"solved": True, "return_target": 475.0, "env_steps": 9}, {}, None),
        ({"solved": False, "return_target": 475.0, "env_steps": 9}, {"until_return": 475.0}, None),
        ({"solved": False, "return_target": 475.0, "env_steps": 9}, {"until_return": 475.0, "until_steps": 9}, 3),
        ({"solved": False, "return_target": 475.0, "env_steps": 9}, {"until_return": 475.0, "until_steps": 10}, None),
        ({"solved": False, "target": None, "env_steps": 9}, {"until_steps": 9}, 0),
    ],
)
def test_a_run_is_over_when_nothing_is_left_of_what_is_asked(
    tmp_path: Path, ended: dict[str, object], asked: dict[str, object], code: int | None
) -> None:
    experiment = Experiment(run=RunSettings(seed=7, **asked), actor=EXPERIMENT.actor)  # type: ignore[arg-type]
    begun(tmp_path)
    assert over(tmp_path, experiment) is None  # killed before it had a result
    kept = {**ended, "version": 3, "checkpoint_version": 3, "exit_code": 0}
    (tmp_path / "result.json").write_text(json.dumps(kept))
    assert over(tmp_path, experiment) == code
    assert over(tmp_path, Experiment(run=experiment.run, actor={"env": "Acrobot-v1"})) is None  # begin says why


@pytest.mark.parametrize(
    "lost", [{"checkpoint_version": 2, "exit_code": 1}, {"checkpoint_version": None}, {"exit_code": 1}]
)
def test_a_run_whose_last_parameters_are_lost_is_not_over(tmp_path: Path, lost: dict[str, int | None]) -> None:
    begun(tmp_path)
    experiment = Experiment(run=RunSettings(seed=7, until_return=475.0, until_steps=9), actor=EXPERIMENT.actor)
    ended = {
        "solved": True,
        "return_target": 475.0,
        "env_steps": 9,
        "version": 3,
        "checkpoint_version": 3,
        "exit_code": 0,
    }
    (tmp_path / "result.json").write_text(json.dumps(ended))
    assert over(tmp_path, experiment) == 0
    former = {RENAMED_IN_RESULT.get(name, name): value for name, value in ended.items()}
    (tmp_path / "result.json").write_text(json.dumps(former))  # as an older learner wrote it
    assert "saved_version" in former
    assert over(tmp_path, experiment) == 0
    (tmp_path / "result.json").write_text(json.dumps({**ended, **lost}))
    assert over(tmp_path, experiment) is None


def test_a_place_without_a_run_is_not_over(tmp_path: Path) -> None:
    assert over(tmp_path, EXPERIMENT) is None


def test_nothing_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"no run to resume: it has no manifest\.json"):
        RunDirectory.prepare(tmp_path / "absent", resume=True)
    assert not (tmp_path / "absent").exists()


def test_another_experiment_cannot_be_resumed(tmp_path: Path) -> None:
    begun(tmp_path)
    before = (tmp_path / "experiment.toml").read_text()
    with (
        RunDirectory.prepare(tmp_path, resume=True) as directory,
        pytest.raises(RunDirectoryError, match=r"another experiment\. A run keeps .* and \[8\] in the other"),
    ):
        directory.start_life(*changed(hidden=[8]))
    assert (tmp_path / "experiment.toml").read_text() == before
    assert (tmp_path / "epoch").read_text() == "1\n"


def changed(**settings: object) -> tuple[Experiment, manifests.Manifest]:
    """EXPERIMENT with these settings of actors, and its manifest."""
    experiment = msgspec.structs.replace(EXPERIMENT, actor={**EXPERIMENT.actor, **settings})
    table = actor_table(experiment)
    return experiment, manifest(actor_table=table, actor_digest=digest_of(table))


def test_settings_that_may_change_are_told_kept_and_told_no_second_time(tmp_path: Path) -> None:
    begun(tmp_path)
    made = (tmp_path / "manifest.json").read_bytes()
    for settings, told in (
        ({"discount": 0.9, "codec": "f32"}, {"actor.discount": [None, 0.9], "actor.codec": [None, "f32"]}),
        ({"discount": 0.9, "codec": "f32"}, {}),
        ({"discount": 0.8}, {"actor.discount": [0.9, 0.8], "actor.codec": ["f32", None]}),
    ):
        experiment, other = changed(**settings)
        with RunDirectory.prepare(tmp_path, resume=True) as directory:
            directory.start_life(experiment, other)
            assert {name: [*values] for name, values in directory.changed.items()} == told
            assert directory.table() == actor_table(experiment)
        assert load(tmp_path / "experiment.toml", (), {}, kept=True) == experiment
        assert (tmp_path / "manifest.json").read_bytes() == made  # checkpoints and the journal are bound to it
    said = [line["changed"] for line in lines(tmp_path)]
    assert said == [
        {"actor.discount": [None, 0.9], "actor.codec": [None, "f32"]},
        {"actor.discount": [0.9, 0.8], "actor.codec": ["f32", None]},
    ]


def test_settings_of_the_learner_that_change_are_told_too(tmp_path: Path) -> None:
    begun(tmp_path)
    other = msgspec.structs.replace(EXPERIMENT, learner=learner_settings({"learning_rate": 0.5}))
    with RunDirectory.prepare(tmp_path, resume=True) as directory:
        directory.start_life(other, changed(discount=0.9)[1])
    told = {"actor.discount": [None, 0.9], "learner.learning_rate": [1e-3, 0.5]}
    assert [line["changed"] for line in lines(tmp_path)] == [told]


def test_a_change_is_in_the_log_before_the_experiment_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path)
    write = Disk.write_whole

    def full(disk: Disk, path: Path, *rest: Any) -> None:
        if path.name == "experiment.toml":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(disk, path, *rest)

    monkeypatch.setattr(Disk, "write_whole", full)
    with RunDirectory.prepare(tmp_path, resume=True) as directory, pytest.raises(RunDirectoryError):
        directory.start_life(*changed(discount=0.9))
    assert [line["changed"] for line in lines(tmp_path)] == [{"actor.discount": [None, 0.9]}]


def test_one_learner_at_a_time(tmp_path: Path) -> None:
    begun(tmp_path)
    with (
        RunDirectory.prepare(tmp_path, resume=True),
        pytest.raises(RunDirectoryError, match="another learner is using it") as told,
    ):
        RunDirectory.prepare(tmp_path, resume=True)
    assert told.value.exit_code == 75
    with RunDirectory.prepare(tmp_path, resume=True):
        pass


def test_nobody_else_may_open_the_lock_whoever_made_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(0o644)  # as earlier versions left it
    path.chmod(0o644)
    for _ in range(2):
        with RunDirectory.prepare(tmp_path, resume=False):
            assert path.stat().st_mode & 0o077 == 0
            with pytest.raises(RunDirectoryError, match="another learner is using it"):
                RunDirectory.prepare(tmp_path, resume=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("stranger", [True, False])
def test_a_lock_that_others_may_open_is_theirs_to_hold_only_if_they_could_run_this_learner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: bool
) -> None:
    path = tmp_path / "lock"
    path.touch(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + stranger)  # who holds it is then somebody else
    monkeypatch.setattr(run_directory, "OPERATOR", -1)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stranger:
            with RunDirectory.prepare(tmp_path, resume=False), pytest.raises(RunDirectoryError):
                RunDirectory.prepare(tmp_path, resume=False)
        else:
            with pytest.raises(RunDirectoryError, match="another learner is using it"):
                RunDirectory.prepare(tmp_path, resume=False)


def test_what_begins_while_it_waits_for_the_lock_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner looks, another begins and dies, and then the first holds the lock."""
    flock = fcntl.flock

    def another_first(path: Path) -> None:
        def late(lock: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", flock)
            begun(path)
            flock(lock, operation)

        monkeypatch.setattr(fcntl, "flock", late)

    another_first(tmp_path / "one")
    with RunDirectory.prepare(tmp_path / "one", resume=False, proceed=True) as directory:
        assert directory.resuming
    another_first(tmp_path / "two")
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.prepare(tmp_path / "two", resume=False)
    with RunDirectory.prepare(tmp_path / "two", resume=True):  # nor does who was refused keep the lock
        pass


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 75), (errno.EIO, 75), (errno.EACCES, 2), (errno.EROFS, 2)])
def test_only_a_trouble_that_may_pass_is_worth_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Disk, "sync_folder", fail)
    with pytest.raises(RunDirectoryError, match=os.strerror(number)) as told:
        RunDirectory.prepare(tmp_path / "run", resume=False)
    assert told.value.exit_code == code


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="Not a directory"):
        RunDirectory.prepare(tmp_path / "file", resume=False)


def test_progress_is_appended_through_all_lives(tmp_path: Path) -> None:
    with RunDirectory.prepare(tmp_path, resume=False) as directory:
        directory.record("actor_said", 0.0, {"text": "early"})
        directory.start_life(EXPERIMENT, manifest())
        directory.record("progress", 1.23456, {"env_steps": 5})
    with RunDirectory.prepare(tmp_path, resume=True) as directory:
        directory.start_life(EXPERIMENT, manifest())
        directory.record("progress", 2.0, {"env_steps": 9})
    recorded = lines(tmp_path)
    assert all(isinstance(line.pop("unix_s"), float) for line in recorded)
    assert recorded == [
        {"event": "actor_said", "wall_s": 0.0, "text": "early"},
        {"event": "progress", "wall_s": 1.235, "env_steps": 5},
        {"event": "progress", "wall_s": 2.0, "env_steps": 9},
    ]


def test_what_a_line_relies_on_cannot_be_claimed_by_a_field(tmp_path: Path) -> None:
    with RunDirectory.prepare(tmp_path, resume=False) as directory:
        directory.start_life(EXPERIMENT, manifest())
        directory.record("actor_said", 1.0, {"event": "progress", "wall_s": 9.0, "unix_s": 0.0, "text": "hello"})
    (line,) = lines(tmp_path)
    assert (line["event"], line["wall_s"], line["text"]) == ("actor_said", 1.0, "hello")
    assert line["unix_s"] != 0.0


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, real = FullDisk(room=20), Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *how, **more: disk if path.name == PROGRESS else real(path, *how, **more)
    )
    with RunDirectory.prepare(tmp_path, resume=False) as directory:
        directory.start_life(EXPERIMENT, manifest())
        directory.record("torn", 0.0, {"text": "x" * 20})
        directory.record("lost", 0.0, {})
        assert directory.lost_lines == 2
        disk.room = 1000
        directory.record("whole", 0.0, {})
    assert json.loads(disk.data.splitlines()[-1])["event"] == "whole"
    assert directory.lost_lines == 2


def test_lines_of_progress_are_spread_over_all_of_it_and_the_newest_is_among_them(tmp_path: Path) -> None:
    with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
        assert directory.progress_lines(4) == []
        directory.start_life(EXPERIMENT, manifest())
        for number in range(10):
            directory.record("progress", float(number), {})
        told = [json.loads(line)["wall_s"] for line in directory.progress_lines(4)]
        assert told == [0.0, 3.0, 6.0, 9.0]
        assert len(directory.progress_lines(100)) == 10


def test_little_is_read_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.launch.run_directory.SEEN_BYTES", 100)
    monkeypatch.setattr(
        "learner.launch.run_directory.time", SimpleNamespace(time=lambda: 1_700_000_000.5)
    )  # so lines are as long
    with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
        directory.start_life(EXPERIMENT, manifest())
        for number in range(1000):
            directory.record("progress", float(number), {})
        directory.record("long", 0.0, {"text": "x" * 5000})
        told = [json.loads(line)["wall_s"] for line in directory.progress_lines(10) if line.endswith(b"}\n")]
        assert len(told) in range(5, 11)
        assert told == sorted(told)
        assert all(len(line) <= 100 for line in directory.progress_lines(10))


def test_a_result_is_old_or_new_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
        directory.start_life(Experiment(), manifest())
        directory.write_result({"updates": 1})

        def fail(_: Disk, name: str) -> None:
            if name == "run.sync":
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(Disk, "point", fail)
        with pytest.raises(OSError, match="Input/output"):
            directory.write_result({"updates": 2})
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == {"updates": 1}


def test_every_name_of_a_run_is_durable_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(Disk, "sync_folder", lambda _, folder, what: synced.append(folder))
    with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
        assert synced == [tmp_path]
        directory.start_life(Experiment(), manifest())
    assert synced[1:] == [tmp_path / "run"] * 4  # manifest, experiment, checkpoints, epoch


def test_whether_the_life_before_kept_a_journal_is_known(tmp_path: Path) -> None:
    found: list[bool] = []
    for durability in ("journal", "journal", "checkpoint", "checkpoint"):
        experiment = Experiment(learner=learner_settings({"durability": durability}))
        with RunDirectory.prepare(tmp_path / "run", resume=bool(found)) as directory:
            directory.start_life(experiment, manifest())
            found.append(directory.journaled)
    assert found == [False, True, True, False]


def test_lives_do_not_share_a_number_if_the_file_is_lost(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunDirectory.prepare(run, resume=False) as directory:
        assert directory.start_life(Experiment(), manifest()) == 1
    (run / "journal").mkdir()
    (run / "journal" / "000000000007-000004.log").touch()
    (run / "epoch").unlink()
    with RunDirectory.prepare(run, resume=True) as directory:
        assert directory.start_life(Experiment(), manifest()) == 5


def test_the_edition_is_that_of_the_runs_first_life(tmp_path: Path) -> None:
    assert edition_of(None) == edition_of(tmp_path / "absent") == DEFAULTS_EDITION
    begun(tmp_path)  # its table names none
    assert edition_of(tmp_path) == 1
    named = msgspec.msgpack.encode({"defaults": 2})
    kept = msgspec.structs.replace(manifest(), actor_table=named, actor_digest=manifests.digest_of(named))
    (tmp_path / "manifest.json").write_bytes(manifests.encode(kept))
    assert edition_of(tmp_path) == 2
    (tmp_path / "manifest.json").write_text("no manifest")
    assert edition_of(tmp_path) == DEFAULTS_EDITION, "what is wrong is told later"
