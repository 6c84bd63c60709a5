"""A whole run over real sockets: what it leaves on disk, how it exits, and that its policy can be scored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actor.config import read_settings
from learner.config import actor_table
from learner.launch.experiment_file import load
from protocol.shipped import named
from tests.loopback.conftest import Finished
from tests.loopback.system import Launcher, processes

TINY = '''
"""An environment of five steps, each worth one."""
import gymnasium, numpy

class Tiny(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return numpy.zeros(2, numpy.float32), {}

    def step(self, action):
        self.steps += 1
        return numpy.zeros(2, numpy.float32), 1.0, self.steps == 5, False, {}

gymnasium.register("Tiny-v0", entry_point="tiny_simulators:Tiny")
'''

KEYS = {
    "env", "seed", "solved", "return_mean_100", "env_steps", "version", "parameters", "wall_s", "total_s",
    "received_bytes", "sent_bytes", "lag_mean_updates", "lag_max_updates", "versions", "host", "epoch", "rulings",
}  # fmt: skip


@pytest.fixture(scope="module")
def result(finished: Finished) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished.run_dir / "result.json").read_text())
    return found


def test_a_run_that_ends_at_its_limit_before_its_target_exits_with_3(finished: Finished) -> None:
    assert finished.exit_code == 3, finished.learner.story()
    assert finished.learner.event("draining")["why"] == "step limit reached"
    assert finished.learner.lines == []


def test_no_process_is_left_and_none_had_to_be_killed(finished: Finished) -> None:
    assert finished.left == []
    assert finished.learner.said("actors_killed") == []


def test_the_result_has_every_key_and_says_what_was_announced(finished: Finished, result: dict[str, Any]) -> None:
    assert result.keys() >= KEYS
    assert finished.learner.event("finished") == {"event": "finished", **result}
    assert (result["env"], result["solved"], result["epoch"], result["actors"]) == ("CartPole-v1", False, 1, 2)
    assert result["env_steps"] >= 3000
    assert 0.0 < result["wall_s"] < result["total_s"]


def test_each_gradient_was_applied_once_or_came_too_late(result: dict[str, Any]) -> None:
    assert result["rulings"].keys() <= {"applied", "draining"}
    assert result["rulings"]["applied"] == result["version"] > 0
    assert result["faults"] == {}


def test_all_that_came_up_takes_a_two_hundredth_of_the_gradients_dense_bytes(result: dict[str, Any]) -> None:
    """Heartbeats and reports included. A message carries the updates of a rollout."""
    settings = read_settings(actor_table(load(named("cartpole"), [], {})))
    dense_bytes = result["version"] * settings.passes * settings.minibatches * result["dense_bytes_per_gradient"]
    assert dense_bytes >= 200 * result["received_bytes"]
    assert result["received_bytes"] >= result["gradient_received_bytes"]


def test_the_run_directory_holds_the_last_version_and_the_story(finished: Finished, result: dict[str, Any]) -> None:
    checkpoint = finished.learner.event("checkpoint_written", lambda said: said["version"] == result["version"])
    assert checkpoint["path"].startswith(str(finished.run_dir / "checkpoints"))
    lines = [json.loads(line) for line in (finished.run_dir / "progress.jsonl").read_text().splitlines()]
    assert {"started", "actor_joined", "progress", "finished"} <= {line["event"] for line in lines}


def test_evaluate_scores_the_newest_checkpoint(finished: Finished, result: dict[str, Any]) -> None:
    scored = finished.launcher.command("actor", "evaluate", finished.run_dir, "--episodes", 5)
    assert scored.process.returncode == 0, scored.story()
    (line,) = scored.lines
    assert "5 episodes  mean " in line
    assert f"version {result['updates']}" in line


def test_what_an_actor_imports_is_allowed_where_it_runs(launch: Launcher) -> None:
    """The learner's machine allows the module. One actor's does not, and it leaves; the other's does, and solves it."""
    (launch.folder / "tiny_simulators.py").write_text(TINY)
    link = f"ipc://{launch.folder}/link"
    small = ("--set", "actor.envs=4", "--set", "actor.rollout_steps=16", "--until-return", 5)
    tiny = ("--env", "tiny_simulators:Tiny-v0", "--allow-module", "tiny_simulators")
    learner = launch.learner("--actors", 0, "--bind", link, *tiny, *small, "--run-dir", launch.folder / "run")
    learner.event("started")

    wary = launch.actor(link, "wary")
    assert wary.wait() == 2
    assert "--allow-module tiny_simulators" in wary.event("worker_failed")["detail"]
    assert learner.event("actor_left")["why"] == "left"

    willing = launch.actor(link, "willing", "--allow-module", "tiny_simulators")
    assert learner.wait() == 0, learner.story()
    assert learner.event("finished")["solved"] is True
    assert learner.event("finished")["return_mean_100"] == 5.0
    assert willing.wait() == 0
    assert willing.event("dismissed")["why"] == "the run is over"
    assert processes(launch.mark) == []
