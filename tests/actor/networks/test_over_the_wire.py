"""A network of a user's own over real sockets: θ₀, training, checkpoints, evaluation, and an actor that lacks it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.documents.pages import ROOT
from tests.loopback.system import Launcher, processes

OWN = ("--set", "actor.network=residual:Residual", "--set", "actor.network_options={width = 16, blocks = 1}")
SMALL = ("--set", "actor.envs=4", "--set", "actor.rollout_steps=32", "--set", "actor.passes=2")
NAMES = ["first.weight", "first.bias"] + [
    f"blocks.0.{layer}.{part}" for layer in ("norm", "inner", "outer") for part in ("weight", "bias")
]


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts daemons in a folder with the example; nothing of them outlives the test."""
    with Launcher(tmp_path_factory.mktemp("x")) as launcher:  # short: the path of an ipc socket has 107 bytes
        shutil.copy(ROOT / "docs/examples/residual.py", launcher.folder)
        yield launcher


def test_a_network_of_ones_own_is_trained_by_those_who_allow_it(launch: Launcher) -> None:
    link, run_dir = f"ipc://{launch.folder}/link", launch.folder / "run"
    learner = launch.learner(
        "--actors", 0, "--bind", link, "--allow-module", "residual", *OWN, *SMALL,
        "--until-steps", 2000, "--run-dir", run_dir,
    )  # fmt: skip
    learner.event("started")

    wary = launch.actor(link, "wary")
    assert wary.wait() == 2
    assert "actor.network asks to import module 'residual'" in wary.event("worker_failed")["detail"]

    willing = launch.actor(link, "willing", "--allow-module", "residual")
    assert learner.wait() == 3, learner.story()
    assert willing.wait() == 0
    result = learner.event("finished")
    assert result["rulings"].keys() <= {"applied", "draining"}
    assert result["rulings"]["applied"] == result["version"] > 0

    layout = json.loads((run_dir / "manifest.json").read_text())["layout"]
    names = [name for name, _ in layout[0]]
    assert names[: len(NAMES)] == [f"encoder.network.{name}" for name in NAMES]
    assert names[len(NAMES) :] == ["policy.weight", "policy.bias", "value.weight", "value.bias"]

    refused = launch.command("actor", "evaluate", run_dir, "--episodes", 2)
    assert refused.process.returncode == 2
    assert "--allow-module residual would" in refused.story()
    scored = launch.command("actor", "evaluate", run_dir, "--episodes", 2, "--allow-module", "residual")
    assert scored.process.returncode == 0, scored.story()
    assert f"version {result['updates']}" in scored.lines[0]
    assert processes(launch.mark) == []


def test_what_does_not_fit_ends_a_run_before_it_begins(launch: Launcher) -> None:
    wrong = {
        "actor.network_options={wdith = 16}": "refused them: got an unexpected keyword argument 'wdith'",
        "actor.memory=lstm": "actor.memory = 'lstm': must be 'none': residual:TwoTowers gives outputs and values",
    }
    for setting, words in wrong.items():
        learner = launch.command(
            "learner", "run", "--allow-module", "residual", "--set", "actor.network=residual:TwoTowers",
            "--set", setting, "--http", "off",
        )  # fmt: skip
        assert learner.process.returncode == 2, learner.story()
        assert words in learner.story()
