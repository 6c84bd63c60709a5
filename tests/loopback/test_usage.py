"""What a person can get wrong: one line that names it, exit code 2 (75: try later), and nothing is left behind."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback.conftest import Finished, Waiting
from tests.loopback.system import Daemon, Launcher, processes

Prepare = Callable[[Path], object]


def refused(daemon: Daemon, code: int = 2) -> str:
    """The one line of a command that refused."""
    assert daemon.process.returncode == code, daemon.story()
    assert len(daemon.lines) == 1, daemon.story()
    assert daemon.lines[0].startswith("error: ")
    return daemon.lines[0]


def written(name: str, text: str) -> Prepare:
    return lambda folder: (folder / name).write_text(text)


def nothing(_: Path) -> None:
    pass


WRONG: dict[str, tuple[Prepare, list[str], list[str]]] = {
    "environment": (nothing, ["--env", "CartPol-v1"], ["CartPol-v1", "did you mean CartPole-v1?"]),
    "learner_key": (nothing, ["--set", "learner.credits=3"], ["learner.credits", "did you mean learner.credit?"]),
    "actor_key": (
        nothing,
        ["--set", "actor.rolout_steps=3"],
        ["actor.rolout_steps", "did you mean actor.rollout_steps?"],
    ),
    "table": (nothing, ["--set", "lerner.credit=3"], ["lerner.credit", "did you mean learner.credit?"]),
    "learner_value": (nothing, ["--set", "learner.credit=0"], ["learner.credit = 0", ">= 1"]),
    "two_values": (nothing, ["--set", "learner.silence_s=1"], ["learner.silence_s", "above learner.heartbeat_s"]),
    "no_equals": (nothing, ["--set", "learner.credit"], ["table.key=value"]),
    "no_file": (nothing, ["absent.toml"], ["absent.toml", "No such file"]),
    "no_toml": (written("a.toml", "[run\nseed = 1"), ["a.toml"], ["a.toml", "line 1"]),
    "no_table": (written("a.toml", "seed = 1"), ["a.toml"], ["seed", "did you mean run.seed?"]),
    "no_experiment": (nothing, ["cartpoll"], ["cartpoll", "did you mean cartpole?"]),
    "module": (nothing, ["--env", "json:Tiny-v0"], ["json", "--allow-module json"]),
    "exposed": (nothing, ["--bind", "tcp://0.0.0.0:0"], ["tcp://0.0.0.0", "--insecure"]),
    "no_address": (nothing, ["--bind", "localhost:1"], ["localhost:1", "tcp://HOST:PORT"]),
    "no_page": (nothing, ["--http", "here"], ["--http", "HOST:PORT"]),
    "not_empty": (written("run/notes", ""), ["--run-dir", "run"], ["run", "--resume"]),
    "nothing_to_resume": (nothing, ["cartpole", "--run-dir", "run", "--resume"], ["no run to resume"]),
    "resume_what": (nothing, ["--resume"], ["--run-dir"]),
}


@pytest.mark.parametrize(("prepare", "arguments", "named"), WRONG.values(), ids=WRONG)
def test_the_line_names_what_is_wrong(
    launch: Launcher, prepare: Prepare, arguments: list[str], named: list[str]
) -> None:
    (launch.folder / "run").mkdir()
    prepare(launch.folder)
    learner = launch.learner("--actors", 0, *arguments)
    learner.wait()
    line = refused(learner)
    assert [part for part in named if part not in line] == [], line
    assert processes(launch.mark) == []


def test_a_port_in_use_is_named_and_the_run_directory_stays_usable(launch: Launcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments in (["--bind", f"tcp://{place}"], ["--http", place]):
            learner = launch.learner("--actors", 0, "--run-dir", "run", *arguments)
            learner.wait()
            line = refused(learner, 75)
            assert place in line
            assert "in use" in line
    assert not (launch.folder / "run" / "manifest.json").exists()


def test_a_resumed_run_must_be_the_same_experiment(finished: Finished) -> None:
    learner = finished.launcher.learner("--env", "Acrobot-v1", "--run-dir", finished.run_dir, "--resume")
    learner.wait()
    assert "another experiment. The environment is CartPole-v1" in refused(learner)


def test_a_run_directory_has_one_learner(waiting: Waiting) -> None:
    second = waiting.launcher.learner("--run-dir", "run", "--resume")
    second.wait()
    assert "another learner is using it" in refused(second, 75)


@pytest.mark.parametrize("address", ["tcp://localhost", "tcp://*:5555", "http://localhost:1"])
def test_an_actor_needs_a_whole_address(launch: Launcher, address: str) -> None:
    assert address in refused(launch.command("actor", "run", "--learner", address))
