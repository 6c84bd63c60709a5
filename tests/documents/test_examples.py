"""What documents show is what happens. Runs the installed commands; knows the examples and the loopback launcher."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from protocol.transport.keys import write_pair
from protocol.transport.learner_sockets import new_pair
from tests.documents.markdown import Dialogue, dialogues, fences, prints
from tests.documents.pages import PAGES, ROOT, text_of
from tests.loopback.system import Launcher

EXAMPLES = ROOT / "docs/examples"
SHOWN = [  # page, language and a file that one of the page's blocks of this language shows
    ("docs/tutorial.md", "python", "corridor.py"),
    ("docs/tutorial.md", "toml", "corridor.toml"),
    ("docs/actions.md", "python", "masked.py"),
    ("docs/curricula.md", "python", "wrappers.py"),
    ("docs/networks.md", "python", "residual.py"),
    ("docs/networks.md", "toml", "residual.toml"),
    ("docs/algorithms.md", "python", "kl_penalty.py"),
    ("docs/algorithms.md", "toml", "kl_penalty.toml"),
    ("docs/algorithms.md", "python", "autograd_loss.py"),
    ("docs/watching.md", "python", "measured.py"),
    ("protocol/WIRE.md", "python", "minimal_actor.py"),
]
ORDER = (  # later ones go on with runs/first
    "docs/quickstart.md",
    "docs/fine-tuning.md",
    "docs/comparing.md",
    "docs/tutorial.md",
    "docs/curricula.md",
    "docs/networks.md",
    "docs/algorithms.md",
    "docs/watching.md",
    "docs/troubleshooting.md",
    "docs/actions.md",
)
DEADLINE_S = 60.0
DRIVER = """
import json, sys, numpy
sys.path.insert(0, {folder!r})
from minimal_actor import minimal_actor
print(json.dumps(minimal_actor(sys.argv[1], lambda theta, _: (numpy.full(len(theta), 1e-4, numpy.float32), 10))))
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with what the console blocks take for granted."""
    for example in EXAMPLES.iterdir():
        if example.is_file():
            shutil.copy(example, tmp_path)
    (tmp_path / "stacked.toml").write_text(toml_of("docs/curricula.md", 0))
    (tmp_path / "needy.py").write_text("import helper\n")
    write_pair(tmp_path / "open.key", new_pair("open", new_pair("learner").public))
    (tmp_path / "open.key").chmod(0o644)
    return tmp_path


def toml_of(page: str, number: int) -> str:
    """A block of a page."""
    return [fence.text for fence in fences(text_of(page)) if fence.language == "toml"][number]


def said(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and everything printed by a command of ours, as a person would type it in this folder."""
    program, *arguments = shlex.split(command)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FARFLUNG_", "PYTHONPATH"))}
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stdout


def consoles(page: str) -> list[Dialogue]:
    return [each for fence in fences(text_of(page)) if fence.language == "console" for each in dialogues(fence)]


@pytest.mark.parametrize(("page", "language", "name"), SHOWN)
def test_a_page_shows_the_file_as_it_is(page: str, language: str, name: str) -> None:
    blocks = [fence.text for fence in fences(text_of(page)) if fence.language == language]
    assert (EXAMPLES / name).read_text(encoding="utf-8") in blocks


@pytest.mark.timeout(600)  # some thirty commands, one after the other
def test_every_console_block_prints_what_it_shows(workshop: Path) -> None:
    assert [page for page in PAGES if consoles(page) and page not in ORDER] == []
    wrong = []
    for page in ORDER:
        for each in consoles(page):
            _, printed = said(each.command, workshop)
            if not prints(each.printed, printed):
                wrong.append(f"{page}:{each.line}: {each.command}\nprints\n{printed}")
    assert not wrong, "\n".join(wrong)


def test_the_environment_of_ones_own_is_learnt(workshop: Path) -> None:
    command = "learner run --env corridor:Corridor-v0 --allow-module corridor --until-return 0.4"
    assert command in text_of("README.md")
    assert command in text_of("docs/tutorial.md")
    code, printed = said(f"{command} --until-steps 200000 --http off --json --run-dir run", workshop)
    result = json.loads((workshop / "run/result.json").read_text())
    assert code == 0, printed
    assert result["solved"]
    assert result["env_steps"] >= 1000


def test_the_network_of_ones_own_learns(workshop: Path) -> None:
    command = "learner run residual.toml --allow-module residual"
    assert command in text_of("docs/networks.md")
    code, printed = said(f"{command} --until-return 100 --http off --json --run-dir run", workshop)
    assert code == 0, printed
    assert json.loads((workshop / "run/result.json").read_text())["solved"]


def test_the_game_of_the_tutorial_has_its_rules() -> None:
    spec = importlib.util.spec_from_file_location("tictactoe", EXAMPLES / "tictactoe.py")
    assert spec is not None
    assert spec.loader is not None
    game = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(game)
    env = gymnasium.make("TicTacToe-v0")  # with Gymnasium's own checks of what steps return
    ends = {-1.0: 0, 0.0: 0, 1.0: 0}
    for seed in range(200):
        seen, info = env.reset(seed=seed)
        while True:
            assert seen.sum() in (0.0, -1.0)  # it is our move
            np.testing.assert_array_equal(info["action_mask"], seen == 0.0)
            seen, reward, over, _, info = env.step(int(np.flatnonzero(seen == 0.0)[0]))
            if over:
                break
            assert reward == 0.0
        ends[float(reward)] += 1
    assert min(ends.values()) > 0
    env.reset(seed=0)
    env.step(4)
    assert env.step(4)[1:3] == (-1.0, True)


def test_the_game_of_the_tutorial_is_learnt(workshop: Path) -> None:
    command = "learner run --env tictactoe:TicTacToe-v0 --allow-module tictactoe --until-return"
    assert command in text_of("docs/tutorial.md")
    code, printed = said(f"{command} 0.5 --until-steps 200000 --http off --json --run-dir run", workshop)
    assert code == 0, printed
    assert json.loads((workshop / "run/result.json").read_text())["solved"]


def test_the_curriculum_of_its_page_is_the_file_s_and_is_learnt(workshop: Path) -> None:
    assert toml_of("docs/curricula.md", 2) == (EXAMPLES / "icy.toml").read_text()
    command = "learner run icy.toml --allow-module icy"
    assert command in text_of("docs/curricula.md")
    code, printed = said(f"{command} --http off --json --run-dir run", workshop)
    assert code == 0, printed
    told = [json.loads(line) for line in (workshop / "run/progress.jsonl").read_text().splitlines()]
    assert [each["stage"] for each in told if each["event"] == "stage_began"] == [1, 2]
    result = json.loads((workshop / "run/result.json").read_text())
    assert result["solved"]
    assert result["env_steps"] >= 20_000


def test_the_wrappers_of_their_page_can_be_made(workshop: Path) -> None:
    code, printed = said("actor init stacked.toml --allow-module icy --allow-module wrappers", workshop)
    assert code == 0, printed
    assert "for icy:Icy-v0" in printed


def test_the_actor_of_the_specification_trains(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        learner = launcher.learner("--actors", 0, "--bind", "tcp://127.0.0.1:0", "--until-steps", 500)
        address = learner.event("started")["bound"][0]
        done = subprocess.run(
            [sys.executable, "-c", DRIVER.format(folder=str(EXAMPLES)), address],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert learner.wait() == 3, learner.story()
        assert json.loads(done.stdout)[1:] == [True, "the run is over"], done.stderr
        result = learner.event("finished")
        assert result["env_steps"] >= 500
        assert result["rulings"]["applied"] >= 40
        assert result["faults"] == {}
