"""Real runs in the folder of somebody who has modules of ours by name, odd paths, closed streams and no patience."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback.system import DEADLINE_S, ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8 are Linux's")

ENVIRONMENT = """
import gymnasium
gymnasium.register("Mine-v0", entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=50)
"""
LOUD = "import pathlib\npathlib.Path(__file__).with_suffix('.was-run').touch()\nraise SystemExit('not ours')\n"
ODD = os.fsdecode(b"run\xff")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own: modules and packages with our names, of a library of ours, and an environment."""
    here = tmp_path_factory.mktemp("mine")
    for name in ("actor", "protocol", "torch", "numpy", "my_secrets"):
        (here / f"{name}.py").write_text(LOUD)
    (here / "learner").mkdir()
    (here / "learner" / "__init__.py").write_text(LOUD)
    (here / "my_envs.py").write_text(ENVIRONMENT)
    (here / ("x" * 150)).mkdir()
    return here


def started(folder: Path, *arguments: object, closed: str = "") -> subprocess.Popen[str]:
    """A command of ours as its installed script starts it, the working directory not on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARFLUNG_")}
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-P", "-m", *map(str, arguments)],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / ("x" * 150))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    with process:
        try:
            said, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    return process.returncode, said


def test_a_run_is_trained_evaluated_and_ends_as_it_was_decided(folder: Path) -> None:
    """With its standard input closed, a name that no text has, no room for sockets, and signals after the last word."""
    mine = ("--env", "my_envs:Mine-v0", "--allow-module", "my_envs")
    few = ("--set", "actor.envs=2", "--set", "actor.vectorization=processes")
    words = ("learner", "run", "--json", *mine, *few, "--actors", 1, "--until-steps", 300, "--until-return", 1000)
    learner = started(folder, *words, "--http", "off", "--run-dir", ODD, closed="<&-")
    assert learner.stdout is not None
    said = []
    with learner:
        for line in learner.stdout:
            said.append(json.loads(line))
            if said[-1]["event"] == "finished":
                break
        while learner.poll() is None:
            learner.send_signal(signal.SIGTERM)
        assert learner.returncode == 3, said
    assert next(each for each in said if each["event"] == "started")["run_dir"] == "run\\udcff"
    assert (folder / ODD / "result.json").exists()
    code, told = finish(started(folder, "actor", "evaluate", ODD, "--allow-module", "my_envs", "--episodes", 2))
    assert (code, told.partition("  ")[0]) == (0, "my_envs:Mine-v0")
    assert list(folder.rglob("*.was-run")) == []


def test_an_actor_without_a_learner_says_why_and_leaves(folder: Path) -> None:
    actor = started(folder, "actor", "run", "--learner", "tcp://127.0.0.1:1", "--give-up-after", 0.5, closed="<&- 3>&1")
    code, told = finish(actor)
    assert code == 75, told
    last = json.loads(told.splitlines()[-1])
    assert (last["event"], last["waited"].startswith("no learner for")) == ("gave_up", True)
    muted = started(folder, "actor", "run", "--learner", "tcp://127.0.0.1:1", "--give-up-after", 0.1, closed="2>&-")
    assert finish(muted) == (75, "")
