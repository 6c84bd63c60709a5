"""Daemons whose output nobody reads: the pipe is full before they begin, and training goes on."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from tests.loopback.conftest import Waiting
from tests.loopback.system import DEADLINE_S, Launcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is left behind is found in /proc")


def test_a_learner_trains_into_a_full_pipe(launch: Launcher) -> None:
    run_dir = launch.folder / "run"
    limits = ("--actors", 1, "--until-steps", 2000, "--http", "off", "--run-dir", run_dir)
    learner = launch.unheard("learner", "run", "--json", *limits)
    assert learner.wait(DEADLINE_S) == 3
    assert json.loads((run_dir / "result.json").read_text())["env_steps"] >= 2000


def test_an_actor_trains_into_a_full_pipe(waiting: Waiting, launch: Launcher) -> None:
    """It has something to say before it takes its first step."""
    actor = launch.unheard("actor", "run", "--learner", waiting.address, "--name", "unheard")
    joined = waiting.learner.event("actor_joined", lambda said: said["actor"] == "unheard")
    seen = len(waiting.learner.events)
    before = waiting.learner.event("progress", after=seen)
    waiting.learner.event("progress", lambda said: said["version"] > before["version"], after=seen)
    actor.send_signal(signal.SIGTERM)
    assert actor.wait(DEADLINE_S) == 0
    left = waiting.learner.event("actor_left", lambda said: said["actor"] == joined["actor"], after=seen)
    assert left["why"] == "left"
