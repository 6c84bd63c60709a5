"""Real runs from a program: how they are followed, how they end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import farflung
from tests.loopback.system import DEADLINE_S, MARK, ROOT, await_end, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds child processes in /proc")

SMALL = {"actor.envs": 2, "actor.hidden": (8,), "actor.vectorization": "sync"}
ENDLESS: dict[str, Any] = {"until_return": 501.0, "until_steps": 1_000_000_000}
ENVIRONMENT = """
import gymnasium
gymnasium.register("Mine-v0", entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=50)
"""
PROGRAM = """
import farflung, os, signal
training = farflung.train("CartPole-v1", until_return=501, until_steps=10**9, run_dir="run", actors=1)
next(event for event in training if event["event"] == "actor_joined")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """What all that is started carries; a working directory of one's own. Nothing may be left."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FARFLUNG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(MARK, mark := uuid.uuid4().hex)
    yield mark
    left = processes(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def test_a_run_is_followed_to_its_end_within_a_running_loop(mark: str, capfd: pytest.CaptureFixture[str]) -> None:
    """As in a notebook; the program's own streams and signals are left alone."""
    before = signal.getsignal(signal.SIGINT)

    async def main() -> farflung.Training:
        with farflung.train("CartPole-v1", actors=1, until_steps=300, seed=3, settings=SMALL) as training:
            seen.extend(event["event"] for event in training)
        return training

    seen: list[str] = []
    training = asyncio.run(main())
    assert {"started", "actor_joined", "welcomed", "checkpoint_written", "finished"} <= set(seen)
    assert seen[0] == "started"
    assert re.fullmatch(r"runs/CartPole-v1-3-\d{8}-\d{6}", training.run_dir.relative_to(Path.cwd()).as_posix())
    assert training.result["env_steps"] >= 300
    assert (training.result["seed"], training.result["exit_code"]) == (3, 3)
    assert training.wait() == training.result
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr() == ("", "")


def test_whoever_listens_may_end_the_run_and_its_checkpoint_can_be_loaded(mark: str) -> None:
    Path("my_envs.py").write_text(ENVIRONMENT)
    heard = []

    def hear(event: farflung.Event) -> object:
        heard.append(event["event"])
        return not (event["event"] == "progress" and event["version"] > 0)

    mine: dict[str, Any] = {"env": "my_envs:Mine-v0", "allow_modules": "my_envs"}
    training = farflung.train(**mine, **ENDLESS, actors=1, run_dir="run", settings=SMALL, on_event=hear)
    result = training.wait()
    assert {"draining", "checkpoint_written"} <= set(heard)
    assert result["checkpoint_version"] == result["version"] > 0
    policy = farflung.load_policy("run", allow_modules=["my_envs"])
    assert (policy.version, policy.env) == (result["version"], "my_envs:Mine-v0")
    assert policy.act(policy.observation_space.sample()) in (0, 1)


def test_ctrl_c_in_the_program_ends_the_run_with_a_checkpoint(mark: str) -> None:
    runs = []

    def interrupted() -> None:
        with farflung.train("CartPole-v1", **ENDLESS, actors=1, run_dir="run", settings=SMALL) as training:
            runs.append(training)
            next(event for event in training if event["event"] == "progress" and event["version"] > 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert processes(mark) == []
    assert runs[0].result["checkpoint_version"] == runs[0].result["version"] > 0


def test_nothing_outlives_a_program_that_was_killed(mark: str, tmp_path: Path) -> None:
    program = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, timeout=DEADLINE_S, check=False)
    assert program.returncode == -signal.SIGKILL
    await_end(processes(mark))
    assert '"why":"the program that started it is gone"' in (tmp_path / "run/progress.jsonl").read_text()
    assert (tmp_path / "run/result.json").exists()


def test_what_a_learner_alone_has_is_enough_to_start_one(mark: str) -> None:
    """Neither simulators nor torch are imported, and there may be none."""
    heavy = "import sys, farflung; print({'numpy', 'gymnasium', 'torch', 'zmq'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"
    assert [name for name in farflung.__all__ if not hasattr(farflung, name)] == []
    assert not hasattr(farflung, "tarin")


def test_what_is_wrong_is_said_as_the_command_says_it(mark: str) -> None:
    said = subprocess.run(
        [sys.executable, "-P", "-m", "learner", "run", "--set", "actor.discout=0.5"],
        capture_output=True,
        text=True,
        check=False,
    )
    with pytest.raises(farflung.UserError) as raised:
        farflung.train("CartPole-v1", settings={"actor.discout": 0.5})
    assert said.stderr == f"error: {raised.value}\n"
    with pytest.raises(farflung.UserError, match="environment's id"):
        farflung.train(object())  # type: ignore[arg-type]
