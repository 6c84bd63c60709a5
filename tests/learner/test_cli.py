"""The command's flags as Options, through the real parser; what a person gets wrong is one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from learner import cli
from learner.config import Experiment, RunSettings
from learner.launch.experiment_file import load
from learner.launch.options import Options
from protocol.annealing import Piecewise
from protocol.errors import UserError
from protocol.shipped import named


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


class Asked:
    """Runs the command with a service that only notes its options and exits with ``code``, or raises ``trouble``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.options: list[Options] = []
        self.code = 0
        self.trouble: UserError | None = None
        bootstrap = type(sys)("learner.daemon")
        bootstrap.run = self._run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "learner.daemon", bootstrap)
        monkeypatch.setattr("learner.daemon", bootstrap, raising=False)
        for name in [name for name in os.environ if name.startswith("FARFLUNG_")]:
            monkeypatch.delenv(name)

    def _run(self, options: Options) -> int:
        self.options.append(options)
        if self.trouble is not None:
            raise self.trouble
        return self.code

    def __call__(self, *arguments: str) -> int:
        """The exit code."""
        self._monkeypatch.setattr(sys, "argv", ["learner", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return int(exit_.value.code or 0)

    def experiment(self, *arguments: str) -> Experiment:
        assert self("run", *arguments) == 0
        return self.options[-1].experiment


def test_nothing_at_all_trains_cartpole_until_solved(asked: Asked) -> None:
    experiment = asked.experiment()
    assert experiment.actor["env"] == "CartPole-v1"
    assert experiment.run.until_return == 475
    options = asked.options[0]
    assert (options.bind, options.http, options.resume) == ((), "127.0.0.1:0", False)
    assert options.run_dir.parent == Path("runs")
    assert options.run_dir.name.startswith("CartPole-v1-0-")


def test_every_flag_arrives(asked: Asked, tmp_path: Path) -> None:
    flags = {
        "--env": "CartPole-v1",
        "--actors": "3",
        "--seed": "5",
        "--bind": "tcp://127.0.0.1:0",
        "--http": "off",
        "--until-return": "12.5",
        "--until-steps": "900",
        "--run-dir": str(tmp_path / "here"),
        "--initial": "theta",
    }
    repeated = ["--set", "learner.credit=4", "--set", "actor.envs=8", "--allow-module", "a.b", "--allow-module", "c"]
    given = [part for flag in flags.items() for part in flag]
    assert asked("run", "acrobot", *given, *repeated, "--insecure", "--json") == 0
    options = asked.options[0]
    run = options.experiment.run
    assert (run.actors, run.until_return, run.until_steps, run.seed) == (3, 12.5, 900, 5)
    assert options.experiment.learner.credit == 4
    assert options.experiment.actor["envs"] == 8
    assert options.experiment.actor["env"] == "CartPole-v1"
    assert options.allow_modules == ("a.b", "c")
    assert (options.bind, options.http) == (("tcp://127.0.0.1:0",), None)
    assert (options.insecure, options.json, options.run_dir) == (True, True, tmp_path / "here")
    assert (options.resume, options.proceed, options.initial) == (False, False, Path("theta"))


def test_an_environment_alone_takes_its_shipped_experiment(asked: Asked) -> None:
    assert asked.experiment("--env", "LunarLander-v3") == load(named("lunarlander"), (), {})


def test_an_environment_without_one_takes_defaults_and_no_target(asked: Asked) -> None:
    experiment = asked.experiment("--env", "MountainCar-v0")
    assert experiment.actor == {"defaults": 3, "env": "MountainCar-v0"}
    assert experiment.run == RunSettings()


def test_plain_takes_no_shipped_experiment(asked: Asked) -> None:
    experiment = asked.experiment("--env", "CartPole-v1", "--plain")
    assert experiment.actor == {"defaults": 3, "env": "CartPole-v1"}
    assert experiment.run == RunSettings()


@pytest.mark.parametrize(
    "given",
    [
        ("--plain",),
        ("cartpole", "--env", "CartPole-v1", "--plain"),
        ("--env", "CartPole-v1", "--plain", "--resume", "--run-dir", "run"),
    ],
)
def test_plain_is_of_an_environment_in_a_new_run(
    asked: Asked, given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("run", *given) == 2
    assert capsys.readouterr().err == (
        "error: --plain is of --env ID in a new run: it takes defaults alone, and no experiment\n"
    )


KL = "actor.kl_target = 0.005: only actor.algorithm = 'a3c' reads it"
STANDS = "it stands in the shipped experiment cartpole"
INSTEAD = "--set actor.kl_target=ITS_DEFAULT undoes that, and --env CartPole-v1 --plain takes defaults alone"


@pytest.mark.parametrize(
    ("given", "refusal", "told"),
    [
        (("--env", "CartPole-v1"), KL, f"; {STANDS}, which --env CartPole-v1 chose: {INSTEAD}"),
        (("--env", "CartPole-v1"), f"local-0: {KL}", f"; {STANDS}, which --env CartPole-v1 chose: {INSTEAD}"),
        (("cartpole",), KL, f"; {STANDS}: {INSTEAD}"),
        ((), KL, f"; {STANDS}, which runs where nothing is named: {INSTEAD}"),
        (("--set", "actor.kl_target=0.005"), KL, ""),
        ((), "actor.clip = 3: a share", ""),
        ((), "the disk is full", ""),
        (("--env", "CartPole-v1", "--plain"), KL, ""),
    ],
)
def test_a_refused_setting_that_nobody_wrote_is_told_where_it_stands(
    asked: Asked, given: tuple[str, ...], refusal: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.trouble = UserError(refusal)
    assert asked("run", *given) == 2
    assert capsys.readouterr().err == f"error: {refusal}{told}\n"


def test_points_for_the_rate_take_the_place_of_what_a_shipped_experiment_says_of_it(asked: Asked) -> None:
    found = asked.experiment("cartpole", "--set", "learner.anneal_points=[[0,0.1],[20000,1.0]]")
    assert found.learner.anneal == Piecewise(anneal_points=((0, 0.1), (20_000, 1.0)))


@pytest.mark.parametrize("flag", ["--resume", "--continue"])
def test_a_run_goes_on_with_the_experiment_that_an_earlier_version_kept(
    asked: Asked, tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text('[learner]\noptimizer = "addition"\nstaleness_rule = "accept"\nfull_lag_updates = 9\n')
    learner = asked.experiment("--run-dir", str(tmp_path), flag).learner
    assert (learner.optimizer.name, learner.staleness_rule.name) == ("preconditioned", "none")
    assert asked("run", str(tmp_path / "." / "experiment.toml")) == 2
    assert "learner.optimizer = 'addition': this is called 'preconditioned' now" in capsys.readouterr().err


def test_an_experiment_is_a_file_or_a_name(asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[run]\nseed = 9\n")
    assert asked.experiment(str(file)).run.seed == 9
    assert asked.experiment("acrobot").actor["env"] == "Acrobot-v1"


def test_flags_win_over_the_environment_and_it_over_the_file(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARFLUNG_RUN__SEED", "3")
    assert asked.experiment("cartpole").run.seed == 3
    assert asked.experiment("cartpole", "--seed", "4").run.seed == 4


def test_resume_goes_on_with_the_run_s_own_experiment(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("[run]\nseed = 11\n")
    assert asked.experiment("--resume", "--run-dir", str(tmp_path)).run.seed == 11
    assert asked.options[0].resume


def test_continue_takes_what_it_is_given_or_what_is_there(asked: Asked, tmp_path: Path) -> None:
    again = ("--continue", "--run-dir", str(tmp_path))
    assert asked.experiment(*again).actor["env"] == "CartPole-v1"
    assert (asked.options[0].resume, asked.options[0].proceed) == (False, True)
    (tmp_path / "experiment.toml").write_text("[run]\nseed = 11\n")
    assert asked.experiment(*again).run.seed == 11
    assert asked.experiment("acrobot", *again).run.seed == 0


def test_a_run_of_a_shipped_experiment_goes_on_as_it_began(
    asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A later version may ship another experiment under the same name."""
    again = ("--continue", "--run-dir", str(tmp_path))
    (tmp_path / "experiment.toml").write_text('[run]\nseed = 11\n[actor]\nenv = "Acrobot-v1"\nreward_scale = 0.05\n')
    experiment = asked.experiment("acrobot", *again)
    assert (experiment.run.seed, experiment.actor["reward_scale"]) == (11, 0.05)
    assert "note: the run goes on as it began" in capsys.readouterr().err
    assert asked.experiment("cartpole", *again).actor["env"] == "CartPole-v1"  # another one, which is refused later
    assert asked.experiment("acrobot", "--run-dir", str(tmp_path)).run.seed == 0
    assert "reward_scale" not in asked.experiment(str(named("acrobot")), *again).actor  # a file of one's own counts


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_service_s_code_is_the_command_s(asked: Asked, code: int) -> None:
    asked.code = code
    assert asked("run") == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "lunarlandr"], "did you mean lunarlander?"),
        (["run", "missing.toml"], "missing.toml"),
        (["run", "--set", "learner.credits=1"], "did you mean learner.credit?"),
        (["run", "--set", "nonsense"], "table.key=value"),
        (["run", "--actors", "-1"], "run.actors"),
        (["run", "--http", "9400"], "expected HOST:PORT"),
        (["run", "--resume"], "--resume needs --run-dir"),
        (["run", "--continue"], "--continue needs --run-dir"),
        (["run", "--resume", "--continue", "--run-dir", "x"], "--resume and --continue"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    asked: Asked, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert asked(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
    assert not asked.options


@pytest.mark.parametrize("arguments", [["run", "--actors", "many"], ["run", "--sead", "1"], ["walk"]])
def test_usage_is_code_2_too(asked: Asked, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert asked(*arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_what_may_pass_is_code_75(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    asked.trouble = UserError("the disk is full", passing=True)
    assert asked("run") == 75
    assert capsys.readouterr().err == "error: the disk is full\n"


def test_ctrl_c_before_anything_began(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert asked("run") == 130


def test_a_run_directory_s_name_holds_nothing_odd() -> None:
    experiment = Experiment(run=RunSettings(seed=2), actor={"env": "my.envs:ALE/Pong-v5"})
    assert cli.default_run_dir(experiment, "T") == Path("runs/my.envs-ALE-Pong-v5-2-T")
    named_run = Experiment(run=RunSettings(name="first"))
    assert cli.default_run_dir(named_run, "T") == Path("runs/first-T")


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
from learner.cli import app
try:
    app(["run", "--help"])
except SystemExit:
    pass
heavy = {"numpy", "torch", "aiohttp", "gymnasium", "zmq", "rich", "prometheus_client", "safetensors"}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert "--until-return" in done.stdout


@pytest.mark.parametrize("path", sorted(named("cartpole").parent.glob("*.toml")), ids=lambda path: path.stem)
def test_each_shipped_experiment_is_sound(path: Path) -> None:
    experiment = load(path, (), {})
    assert experiment.run.until_return is not None or path.stem == "atari"  # scores differ from game to game
    assert experiment.run.until_steps is not None
    raw = tomllib.loads(path.read_text())
    assert {"run", "actor"} <= raw.keys() <= {"run", "learner", "actor"}


def test_a_target_is_left_behind_aloud(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked.experiment("pong", "--env", "ALE/Breakout-v5").run.until_return is None
    told = capsys.readouterr().err
    assert told.startswith("note: ")
    assert "ALE/Pong-v5" in told
    assert "run.until_return = 18" in told


@pytest.mark.parametrize("argument", ["--version", "--show-completion"])
def test_what_a_shell_asks(
    asked: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    """Completion is for the shell that asks, which in a test may be any or none."""
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert asked(argument) == 0
    assert "learner" in capsys.readouterr().out
