"""Settings that change while a run goes on: by a schedule, and by a person between two lives."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.system import Launcher, Said
from tests.loopback.test_usage import refused

QUICK = ("--actors", 2, "--set", "actor.envs=4", "--set", "actor.rollout_steps=16", "--set", "actor.hidden=[8]")
WEIGHT = "gymnasium.wrappers:TransformReward"
CLIPPED = '{wrapper = "gymnasium.wrappers:ClipReward", options = {min_reward = 0.0, max_reward = 0.01}}'
HARDER = f"actor.curriculum=[{{env_steps = 12000, set = {{wrappers = [{CLIPPED}], discount = 0.9}}}}]"


def progress(run: Path) -> list[Said]:
    return [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]


def test_a_schedule_makes_the_environment_harder_and_only_its_last_task_is_judged(launch: Launcher) -> None:
    """An episode of CartPole has 8 to 500 steps: at first its returns are at least 8, and then at most 5."""
    words = (*QUICK, "--set", HARDER, "--set", "learner.learning_rate=1e-6", "--run-dir", "run")
    learner = launch.learner(*words, "--until-return", 8, "--until-steps", 13_000)
    learner.wait()
    began = learner.event("stage_began")
    assert (began["stage"], began["from_env_steps"], began["set"]["discount"]) == (1, 12_000, 0.9)
    entered = learner.said("stage_entered")
    assert {said["actor"] for said in entered} <= {"local-0", "local-1"}  # one may take all that is left
    assert entered
    assert learner.said("draining")[0]["why"] == "step limit reached", learner.story()  # and not at the easy returns
    said = [each for each in progress(launch.folder / "run") if each["event"] == "progress"]
    easy = [each["return_mean"] for each in said if each["env_steps"] < 12_000 and each["episodes"] >= 100]
    hard = [each["return_mean"] for each in said if each["env_steps"] >= 12_000 and each["return_mean"]]
    assert min(easy) >= 8.0
    assert hard
    assert max(hard) <= 5.0

    again = launch.learner("--resume", "--run-dir", "run", "--until-steps", 14_000)
    assert again.wait() == 3, again.story()
    assert {each["stage"] for each in again.said("stage_entered")} == {1}
    assert again.said("stage_began") == []  # the life before told it
    ended = again.event("finished")
    assert ended["return_mean_100"] is None or ended["return_mean_100"] <= 5.0

    played = launch.command("actor", "evaluate", "run", "--episodes", "4", "--json")
    assert played.wait() == 0, played.story()
    score: dict[str, Any] = json.loads(played.lines[-1]) if played.lines else played.events[-1]
    assert score["mean"] == pytest.approx(0.01 * score["length_mean"])


def test_a_run_goes_on_with_other_settings_which_it_tells_and_keeps(launch: Launcher) -> None:
    run = launch.folder / "run"
    words = (*QUICK, "--run-dir", "run", "--set", "learner.durability=journal")
    assert launch.learner(*words, "--until-steps", 300).wait() in (0, 3)
    made = (run / "manifest.json").read_bytes()

    changed = ("--set", "actor.discount=0.9", "--set", f"actor.wrappers=[{CLIPPED}]")
    second = launch.learner("--resume", "--run-dir", "run", *changed, "--until-steps", 600)
    assert second.wait() == 3, second.story()
    told = second.event("settings_changed")["changed"]
    assert told["actor.discount"] == [None, 0.9]
    assert told["actor.wrappers"][1][0]["wrapper"] == "gymnasium.wrappers:ClipReward"
    assert second.event("started")["version"] > 0

    third = launch.learner("--resume", "--run-dir", "run", "--until-steps", 900)
    assert third.wait() == 3, third.story()
    assert third.said("settings_changed") == []
    assert tomllib.loads((run / "experiment.toml").read_text())["actor"]["discount"] == 0.9
    assert [each["changed"] for each in progress(run) if each["event"] == "settings_changed"] == [told]
    assert (run / "manifest.json").read_bytes() == made

    replayed = launch.command("learner", "replay", "run", "--verify")
    assert replayed.wait() == 0, replayed.story()


def test_what_a_run_keeps_is_refused_by_name(launch: Launcher) -> None:
    words = ("--resume", "--run-dir", "run", "--actors", 0, "--until-steps", 900)
    assert launch.learner(*QUICK, "--run-dir", "run", "--until-steps", 200).wait() in (0, 3)
    before = {path.name: path.read_bytes() for path in (launch.folder / "run").glob("*.*")}
    stack = "{wrapper = 'gymnasium.wrappers:FrameStackObservation', options = {stack_size = 2}}"
    for setting, said in (
        ("actor.hidden=[9]", "actor.hidden is [8] in one and [9] in the other"),
        ("actor.normalize_returns=true", "actor.normalize_returns is false in one and true in the other"),
        (f"actor.wrappers=[{stack}]", "parameters in one and"),
        (f"actor.wrappers=[{stack}]", "The settings that differ: actor.wrappers is not set in one and"),
        (f'actor.wrappers=["{WEIGHT}"]', f"actor.wrappers = '{WEIGHT}': it cannot be made: TypeError"),
        ("actor.discount=3", "actor.discount = 3: expected a number"),
    ):
        assert said in refused(launch.command("learner", "run", *words, "--http", "off", "--set", setting))
    assert {path.name: path.read_bytes() for path in (launch.folder / "run").glob("*.*")} == before


def test_a_stage_whose_environment_is_another_is_refused_before_anything_begins(launch: Launcher) -> None:
    told = "actor.curriculum=[{env_steps = 100, set = {env = 'Acrobot-v1'}}]"
    learner = launch.command("learner", "run", *QUICK, "--http", "off", "--run-dir", "run", "--set", told)
    assert "actor.curriculum[0].set = {'env': 'Acrobot-v1'}: Acrobot-v1 is then another" in refused(learner)
    assert not (launch.folder / "run").exists()
