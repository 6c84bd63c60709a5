"""A run that begins with another's weights, with real daemons: as good at once, and replayed to the bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.system import ENDLESS, Launcher
from tests.loopback.test_usage import refused

NORMALIZED = ("--set", "actor.normalize_observations=true")
LONGER = ("--set", "actor.env_options.sutton_barto_reward=true")  # the same numbers, paid otherwise
GOOD = 150.0  # mean return, several times that of θ₀


def score(launch: Launcher, run_dir: Path) -> dict[str, Any]:
    """What the newest checkpoint gets in twenty episodes that begin the same each time."""
    judged = launch.command("actor", "evaluate", run_dir, "--episodes", 20, "--seed", 3, "--json")
    assert judged.wait() == 0, judged.story()
    said: dict[str, Any] = judged.events[-1]
    return said


@pytest.fixture
def learnt(launch: Launcher) -> Path:
    """A run that has learnt something of CartPole, with statistics."""
    words = (*NORMALIZED, "--until-return", GOOD, "--until-steps", 200_000)
    learner = launch.learner("--run-dir", "old", *words)
    assert learner.wait() == 0, learner.story()
    return launch.folder / "old"


def test_it_is_as_good_at_once_and_is_replayed_to_the_bit(launch: Launcher, learnt: Path) -> None:
    waiting = launch.learner("--run-dir", "new", "--initial", "old", "--actors", 0, *NORMALIZED, *ENDLESS)
    waiting.event("started")
    told = waiting.event("initial_weights")
    assert (told["copied_layers"], told["left_layers"]) == (12, 0)
    assert told["statistics"].startswith("taken: ")
    waiting.signal(signal.SIGTERM)
    assert waiting.wait() == 0, waiting.story()
    before, after = score(launch, learnt), score(launch, launch.folder / "new")
    assert after["version"] == 0
    assert after["mean"] == before["mean"] > 50.0
    assert {name: after[name] for name in after if name != "version"} == {
        name: before[name] for name in before if name != "version"
    }

    words = ("--run-dir", "tuned", "--initial", "old", *NORMALIZED, *LONGER, "--until-steps", 3000)
    tuned = launch.learner(*words, "--set", "learner.durability=journal", "--set", "learner.checkpoint_interval_s=0.3")
    assert tuned.wait() == 3, tuned.story()
    replay = launch.command("learner", "replay", "tuned", "--verify")
    assert replay.wait() == 0, replay.story()
    assert replay.event("replayed")["compared"] >= 1
    assert replay.event("replayed")["updates"] == tuned.event("finished")["version"] > 0
    path = json.loads((launch.folder / "tuned" / "result.json").read_text())["initial_weights"]
    assert Path(path).parent == learnt / "checkpoints"


def test_what_does_not_fit_leaves_no_directory(launch: Launcher) -> None:
    source = launch.learner("--run-dir", "old", "--until-steps", 200)
    assert source.wait() == 3, source.story()
    words = ("--env", "Acrobot-v1", "--run-dir", "new", "--initial", "old", "--http", "off")
    assert "policy.weight0 is [64, 6] here and [64, 4] there" in refused(launch.command("learner", "run", *words))
    assert not (launch.folder / "new").exists()
