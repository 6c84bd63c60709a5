"""A learner that something starts again and again with the same words, on a machine that makes no θ₀ of its own."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.loopback.system import Launcher, free_ports
from tests.loopback.test_usage import refused

SHIPPED = Path(__file__).resolve().parents[3] / "deploy" / "experiments" / "cartpole.toml"


@pytest.fixture
def theta(launch: Launcher) -> Path:
    """θ₀ of CartPole, as the machine with the simulators makes it."""
    path = launch.folder / "theta"
    assert launch.command("actor", "init", SHIPPED, "--out", path).wait() == 0
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="looks for what a killed learner left in its TMPDIR")
def test_the_same_words_begin_go_on_and_end(launch: Launcher, theta: Path) -> None:
    address = f"tcp://127.0.0.1:{free_ports()}"
    words = (SHIPPED, "--actors", 0, "--bind", address, "--run-dir", "run", "--continue", "--initial", theta)
    often = ("--set", "learner.checkpoint_interval_s=0.2")
    actor = launch.actor(address, "remote")

    first = launch.learner(*words, *often, "--until-return", 501, TMPDIR=str(launch.folder))
    assert first.event("started")["epoch"] == 1
    kept = first.event("checkpoint_written", lambda said: said["version"] > 0)
    first.kill()

    second = launch.learner(*words, *often, "--until-return", 501)
    started = second.event("started")
    assert started["epoch"] == 2
    assert started["version"] >= kept["version"]
    second.event("progress", lambda said: said["version"] > started["version"])
    second.signal(signal.SIGTERM)
    assert second.wait() == 0, second.story()

    third = launch.learner(*words, "--until-return", 20)
    assert third.wait() == 0, third.story()
    assert actor.wait() == 0, actor.story()
    held = {path.name: path.stat().st_mtime_ns for path in (launch.folder / "run").iterdir()}
    assert json.loads((launch.folder / "run" / "result.json").read_text())["solved"]

    again = launch.learner(*words, "--until-return", 20)
    assert again.wait() == 0, again.story()
    assert [said["event"] for said in again.events] == ["over"]
    assert {path.name: path.stat().st_mtime_ns for path in (launch.folder / "run").iterdir()} == held

    other = launch.command("learner", "run", "acrobot", *words[1:])
    assert "they are of CartPole-v1, and this experiment's environment is Acrobot-v1" in refused(other)


def test_a_run_whose_last_parameters_were_lost_goes_on(launch: Launcher) -> None:
    words = ("--actors", 1, "--run-dir", "run", "--continue", "--until-steps", 300)
    result = launch.folder / "run" / "result.json"
    first = launch.learner(*words, failpoint="checkpoint.write=full")
    assert first.wait() == 1, first.story()
    first.event("checkpoint_failed")
    ended = json.loads(result.read_text())
    assert (ended["exit_code"], ended["checkpoint_version"]) == (1, None)
    assert ended["env_steps"] >= 300

    second = launch.learner(*words)
    assert second.wait() == 3, second.story()
    assert second.event("started")["version"] == 0
    ended = json.loads(result.read_text())
    assert (ended["exit_code"], ended["checkpoint_version"], ended["epoch"]) == (3, ended["version"], 2)


def test_settings_of_the_learner_s_command_line_are_not_in_the_file(launch: Launcher, theta: Path) -> None:
    words = (SHIPPED, "--actors", 0, "--run-dir", "run", "--continue", "--initial", theta, "--http", "off")
    other = launch.command("learner", "run", *words, "--set", "actor.hidden=[8]")
    assert "they were made of another [actor] table" in refused(other)
    assert "follow from seed 0, and this run's is 4" in refused(launch.command("learner", "run", *words, "--seed", 4))
