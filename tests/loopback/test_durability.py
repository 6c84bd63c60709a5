"""A learner that is killed at any point of its disk comes back with every update that it had told anybody of."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from learner.durability.journal import bases
from tests.failpoints import WHILE
from tests.loopback.system import ENDLESS, Daemon, Launcher, Said

JOURNALED = (
    *ENDLESS,
    *("--actors", 2, "--set", "learner.durability=journal", "--set", "learner.checkpoint_interval_s=0.3"),
)
RARELY = ("--set", "learner.checkpoint_interval_s=60")  # else the write that fails may be a mark, not a record


def learner(launch: Launcher, failpoint: str | None, *arguments: object, **environment: str) -> Daemon:
    """``learner run`` on CartPole with a disk that fails as told."""
    more = {"TMPDIR": str(launch.folder), **environment}  # a killed learner cannot clear up
    return launch.learner("--run-dir", "run", *JOURNALED, *arguments, failpoint=failpoint, **more)


def replayed(launch: Launcher, *, gap: bool = False) -> dict[str, object]:
    """What ``learner replay --verify`` says in the end. A life may have died before its first checkpoint."""
    command = launch.command("learner", "replay", "run", "--verify")
    code = command.wait()
    assert code == (0 if command.events[-1]["compared"] and not gap else 3), command.story()
    assert any(said["event"] == "gap" for said in command.events) == gap
    return command.events[-1]


@pytest.mark.parametrize("failpoint", ["journal.sync@40=kill", "journal.write@60=half", "checkpoint.rename@2=kill"])
def test_a_learner_killed_at_a_point_of_its_disk_goes_on_to_the_bit(launch: Launcher, failpoint: str) -> None:
    first = learner(launch, failpoint)
    assert first.wait() == -signal.SIGKILL
    told = max((int(said["version"]) for said in first.said("progress")), default=0)
    found = replayed(launch)
    second = learner(launch, None, "--resume")
    started = second.event("started")
    assert started["version"] == found["version"]
    assert started["version"] >= told
    second.event("progress", lambda said: said["version"] > started["version"])
    second.signal(signal.SIGTERM)
    assert second.wait() == 0, second.story()
    again = replayed(launch)
    result = json.loads((launch.folder / "run" / "result.json").read_text())
    assert again["version"] == result["version"] > started["version"]
    assert next(iter(bases(launch.folder / "run" / "journal"))) == 0
    assert again["updates"] == again["version"]  # from θ₀ on, through both lives


def test_a_full_disk_is_told_and_mended(launch: Launcher) -> None:
    full: Path = launch.folder / "full"
    full.touch()
    goes_on = ("--set", "learner.on_journal_failure=continue")
    daemon = learner(launch, "journal.write@30=full", *RARELY, *goes_on, **{WHILE: str(full)})
    failed = daemon.event("journal_failed")
    assert failed["detail"] == "No space left on device"
    daemon.event("progress", lambda said: said["version"] > failed["version"] + 20)
    full.unlink()
    restored = daemon.event("journal_restored")
    daemon.event("progress", lambda said: said["version"] > restored["version"])
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.story()
    result = json.loads((launch.folder / "run" / "result.json").read_text())
    assert result["faults"]["journal_failed"] == 1
    assert replayed(launch, gap=True)["version"] == result["version"]


def test_a_full_disk_ends_a_run_that_promised_its_journal_and_costs_nothing(launch: Launcher) -> None:
    full: Path = launch.folder / "full"
    full.touch()
    daemon = learner(launch, "journal.write@30=full", *RARELY, **{WHILE: str(full)})
    assert daemon.wait() == 75, daemon.story()
    (failed,) = daemon.said("journal_failed")
    assert failed["detail"] == "No space left on device"
    result = json.loads((launch.folder / "run" / "result.json").read_text())
    assert (result["exit_code"], result["journal_failure"]) == (75, failed["detail"])
    assert replayed(launch)["version"] == result["version"] < failed["version"]
    assert not daemon.lines
    again = learner(launch, None, "--continue")
    assert again.event("started")["version"] == result["version"]
    again.event("progress", lambda said: said["version"] > failed["version"])
    again.signal(signal.SIGTERM)
    assert again.wait() == 0, again.story()


def test_a_result_that_finds_no_room_is_told(launch: Launcher) -> None:
    daemon = learner(launch, "run.write@4=full")  # behind the manifest, the experiment and the epoch
    daemon.event("progress", lambda said: said["version"] > 0)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 1, daemon.story()
    assert daemon.said("result_failed")[0]["detail"] == "No space left on device"
    assert daemon.said("finished")[0]["version"] > 0
    assert not daemon.lines


def test_a_learner_killed_in_its_first_minute_loses_ten_seconds_at_most(launch: Launcher) -> None:
    """As it ships: without a journal, between two checkpoints, by a signal that nobody can catch."""
    more = {"TMPDIR": str(launch.folder)}
    first = launch.learner("--run-dir", "run", *ENDLESS, "--actors", 2, **more)
    saved = first.event("checkpoint_written", lambda said: said["version"] > 0)
    before = max(float(said["wall_s"]) for said in first.said("progress"))
    first.event("progress", lambda said: said["wall_s"] >= before + 3.0)
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    reached = [said for said in recorded(launch.folder / "run") if said["event"] == "progress"]
    second = launch.learner("--run-dir", "run", "--resume", **more)
    started = second.event("started")
    assert started["version"] >= saved["version"]
    kept_s = max(said["wall_s"] for said in reached if said["version"] <= started["version"])
    assert 2.0 < reached[-1]["wall_s"] - kept_s <= 10.0
    second.event("progress", lambda said: said["version"] > started["version"])
    second.signal(signal.SIGTERM)
    assert second.wait() == 0, second.story()


def recorded(run: Path) -> list[Said]:
    """What progress.jsonl holds; of a learner that was killed the last line may be torn."""
    lines = (run / "progress.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
