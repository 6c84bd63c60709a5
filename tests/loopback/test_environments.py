"""Environments that take liberties with the actor's process, in real daemons: a run begins, is heard, and ends."""

from __future__ import annotations

import json
import re
import signal
import sys
from urllib.request import urlopen

import pytest

from tests.loopback.system import DEADLINE_S, ENDLESS, Launcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ends what it leaves behind by /proc")

LEFT_OUT = "info['metrics']['odd'] is str, not a number"
ODD = """
import os, signal, subprocess, sys, threading
import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Free(CartPoleEnv):
    def __init__(self, **options):
        super().__init__(**options)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "600"], start_new_session=True)  # holds all our pipes
        threading.Thread(target=threading.Event().wait).start()
        os.chdir("/")
        self.taken = 0

    def reset(self, **options):
        print("a new episode")
        return super().reset(**options)

    def step(self, action):
        self.taken += 1
        seen, reward, *rest = super().step(action)
        return seen, float("nan") if self.taken == 50 else reward, *rest

class Leaving(CartPoleEnv):
    def step(self, action):
        sys.exit("licence expired")

class Measuring(CartPoleEnv):
    second = False

    def step(self, action):
        seen, reward, over, cut, info = super().step(action)
        self.second = not self.second
        info["metrics"] = {"reward 1": reward, "every second": self.second, "odd": "text"}
        return seen, reward, over, cut, info

def hear(event):
    if event["event"] == "progress":
        raise ValueError("no paper left")
    with open("heard", "a") as file:
        print(event["event"], file=file)

gymnasium.register("Measuring-v0", Measuring, max_episode_steps=40)
gymnasium.register("Free-v0", Free, max_episode_steps=40)
gymnasium.register("Leaving-v0", Leaving)
"""


def test_one_that_takes_every_liberty_is_heard_and_does_not_stop_the_end(launch: Launcher) -> None:
    (launch.folder / "odd.py").write_text(ODD)
    run_dir = launch.folder / "run"
    odd = ("--env", "odd:Free-v0", "--allow-module", "odd", "--set", "actor.envs=2")
    learner = launch.learner("--actors", 1, "--until-steps", 3000, "--run-dir", run_dir, *odd)
    assert learner.event("actor_said", lambda said: said["text"] == "a new episode")["actor"] == "local-0"
    told = learner.event("actor_fault")
    assert (told["actor"], told["kind"]) == ("local-0", "reward_not_finite")
    assert told["detail"].startswith("odd:Free-v0: the reward is nan, in step 5")
    assert learner.wait() == 0, learner.story()
    assert not learner.said("actors_killed")
    assert json.loads((run_dir / "result.json").read_text())["actor_faults"] == {"reward_not_finite": 2}


def test_one_that_ends_the_interpreter_ends_its_actor_with_the_reason(launch: Launcher) -> None:
    (launch.folder / "odd.py").write_text(ODD)
    link = f"ipc://{launch.folder}/link"
    odd = ("--env", "odd:Leaving-v0", "--allow-module", "odd", "--until-steps", 3000)
    learner = launch.learner("--actors", 0, "--bind", link, *odd)
    learner.event("started")
    actor = launch.actor(link, "doomed", "--allow-module", "odd")
    assert actor.wait() == 1, actor.story()
    (failed,) = actor.said("worker_failed")
    assert re.fullmatch(r"SystemExit: licence expired \(odd.py, line \d+\)", failed["detail"])
    assert 'sys.exit("licence expired")' in failed["traceback"]
    assert learner.event("actor_left")["actor"] == "doomed"
    learner.signal(signal.SIGTERM)
    assert learner.wait() == 0


@pytest.mark.parametrize("vectorization", ["sync", "processes"])
def test_what_one_measures_is_seen_while_it_trains_and_recorded(launch: Launcher, vectorization: str) -> None:
    (launch.folder / "odd.py").write_text(ODD)
    run_dir = launch.folder / "run"
    odd = ("--env", "odd:Measuring-v0", "--allow-module", "odd", "--set", "learner.on_event=odd:hear")
    small = ("--set", "actor.envs=2", "--set", f"actor.vectorization={vectorization}", "--http", "127.0.0.1:0")
    learner = launch.learner("--actors", 2, "--run-dir", run_dir, *odd, *small, *ENDLESS)
    url = learner.event("started")["http"]
    seen = learner.event("progress", lambda said: bool(said["metrics"]) and said["explained_variance"] is not None)
    assert seen["metrics"]["reward 1"] == 1.0
    assert 0.4 < seen["metrics"]["every second"] < 0.6
    with urlopen(f"{url}/metrics", timeout=DEADLINE_S) as page:
        assert b'farflung_learner_environment_metric{metric="reward 1"} 1.0' in page.read()
    with urlopen(f"{url}/status", timeout=DEADLINE_S) as page:
        assert json.load(page)["metrics"]["reward 1"] == 1.0
    told = learner.event("actor_fault")
    assert (told["kind"], told["detail"]) == ("metric_left_out", f"odd:Measuring-v0: {LEFT_OUT}")
    learner.signal(signal.SIGTERM)
    assert learner.wait() == 0, learner.story()

    lines = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
    recorded = [line["metrics"] for line in lines if line["event"] == "progress" and line["metrics"]]
    assert {line["reward 1"] for line in recorded} == {1.0}
    assert learner.event("sink_failed")["detail"] == "ValueError: no paper left"
    closed = learner.event("sink_closed")
    assert (closed["sink"], closed["lost"], closed["unfinished"]) == ("learner.on_event odd:hear", 0, False)
    assert closed["failed"] == sum(line["event"] == "progress" for line in lines)
    heard = (launch.folder / "heard").read_text().split()
    assert "started" in heard
    assert heard[-1] == "finished"
