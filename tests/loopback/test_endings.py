"""How daemons end, and what the other side makes of it: signals, kill -9, and a learner that comes back."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from learner.durability import checkpoint as disk
from learner.durability.checkpoint import TEMPORARY
from tests.loopback.system import ENDLESS, Launcher, await_end, free_ports, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds child processes in /proc")

QUICK = (*ENDLESS, "--set", "learner.heartbeat_s=0.2", "--set", "learner.silence_s=2")


def test_actors_wait_come_are_missed_and_leave(launch: Launcher) -> None:
    """One that came before the learner, one that is killed, one that is asked to go; the learner trains on."""
    link = f"ipc://{launch.folder}/link"
    early = launch.actor(link, "early")
    assert early.event("waiting_for_learner")["learner"] == link

    learner = launch.learner("--actors", 0, "--bind", link, "--bind", "tcp://127.0.0.1:0", *QUICK)
    over_tcp = learner.event("started")["bound"][1]
    early.event("welcomed")
    doomed = launch.actor(over_tcp, "doomed")
    learner.event("actor_joined", lambda said: said["actor"] == "doomed")
    learner.event("progress", lambda said: said["version"] > 0)

    doomed.kill()
    left = learner.event("actor_left", lambda said: said["actor"] == "doomed")
    assert left["why"] == "silent"
    since = len(learner.events)
    seen = learner.event("progress", after=since)
    learner.event("progress", lambda said: said["version"] > seen["version"], after=since)

    early.signal(signal.SIGTERM)
    assert early.wait() == 0, early.story()
    assert learner.event("actor_left", lambda said: said["actor"] == "early", after=since)["why"] == "left"
    learner.signal(signal.SIGTERM)
    assert learner.wait() == 0
    assert learner.lines == []


def test_an_actor_may_be_asked_to_go_while_it_imports(launch: Launcher) -> None:
    link = f"ipc://{launch.folder}/link"
    learner = launch.learner("--actors", 0, "--bind", link, *QUICK)
    learner.event("started")
    hasty = launch.actor(link, "hasty")
    hasty.event("welcomed")
    hasty.signal(signal.SIGTERM)
    assert hasty.wait() == 0, hasty.story()
    assert hasty.lines == []
    assert learner.event("actor_left", lambda said: said["actor"] == "hasty")["why"] == "left"


def test_a_learner_that_was_killed_comes_back_and_goes_on(launch: Launcher) -> None:
    run_dir, port = launch.folder / "run", free_ports()
    address = f"tcp://127.0.0.1:{port}"
    common = ("--bind", address, "--run-dir", run_dir, "--set", "learner.checkpoint_interval_s=0.5", *QUICK)
    scratch = {"TMPDIR": str(launch.folder)}  # a killed learner cannot clear up
    learner = launch.learner("--actors", 1, *common, **scratch)
    learner.event("started")
    remote = launch.actor(address, "remote")
    learner.event("actor_joined", lambda said: said["actor"] == "remote")
    learner.event("actor_joined", lambda said: said["actor"] == "local-0")
    joined = len(learner.events)
    progressed = learner.event("progress", lambda said: said["version"] > 0, after=joined)
    learner.event("checkpoint_written", lambda said: said["version"] >= progressed["version"], after=joined)

    local = processes(launch.mark, "local-0")
    assert len(local) == 1
    learner.kill()
    await_end(local)  # it sees by itself that its learner is gone
    kept = disk.newest(run_dir / "checkpoints").checkpoint
    assert kept is not None

    again = launch.learner("--actors", 0, *common, "--resume", **scratch)
    started = again.event("started")
    assert (started["epoch"], started["version"]) == (2, kept.version)
    assert remote.event("welcomed", lambda said: said["epoch"] == 2)["run"] == started["run"]
    again.event("progress", lambda said: said["version"] > kept.version + 10)
    again.signal(signal.SIGTERM)
    assert again.wait() == 0, again.story()

    result = json.loads((run_dir / "result.json").read_text())
    assert result["epoch"] == 2
    assert result["env_steps"] > kept.counters["env_steps"]
    assert result["actors"] >= kept.counters["sessions_granted"] + 1
    assert result["version"] == result["rulings"]["applied"] > kept.version
    newest = disk.newest(run_dir / "checkpoints").checkpoint
    assert newest is not None
    assert (newest.version, newest.epoch) == (result["version"], 2)
    remote.event("dismissed")  # and would come back
    remote.signal(signal.SIGTERM)
    assert remote.wait() == 0


def test_a_local_actor_that_dies_is_started_again_and_one_that_hangs_holds_nothing_up(launch: Launcher) -> None:
    learner = launch.learner("--actors", 1, "--run-dir", "run", *QUICK)
    learner.event("progress", lambda said: said["version"] > 0)
    (local,) = processes(launch.mark, "local-0")
    os.kill(local, signal.SIGKILL)
    exited = learner.event("actor_exited")
    assert (exited["actor"], exited["restarting"]) == ("local-0", True)
    since = len(learner.events)
    learner.event("actor_joined", after=since)
    seen = learner.event("progress", after=since)
    learner.event("progress", lambda said: said["version"] > seen["version"], after=since)

    (local,) = processes(launch.mark, "local-0")
    os.kill(local, signal.SIGSTOP)
    learner.signal(signal.SIGINT)
    assert learner.wait() == 0, learner.story()
    assert learner.event("draining")["why"] == "SIGINT"
    finished = learner.event("finished")
    learner.event("checkpoint_written", lambda said: said["version"] == finished["version"])
    assert learner.event("actors_killed")["count"] == 1
    assert processes(launch.mark) == []
    assert learner.lines == []


def test_a_second_interrupt_waits_for_nothing(launch: Launcher) -> None:
    """The last checkpoint cannot be written: its file is a pipe that nobody reads, as a disk that hangs."""
    run_dir = launch.folder / "run"
    learner = launch.learner("--actors", 1, "--run-dir", run_dir, "--set", "learner.drain_s=3600", *ENDLESS)
    learner.event("progress", lambda said: said["version"] > 0)
    os.mkfifo(run_dir / "checkpoints" / TEMPORARY)
    learner.signal(signal.SIGINT)
    learner.event("draining")
    learner.signal(signal.SIGTERM)
    assert learner.wait() == 1, learner.story()
    assert learner.event("stopped_at_once")["why"] == "a second signal, SIGTERM"
    assert learner.said("checkpoint_written") == []
    assert processes(launch.mark) == []
