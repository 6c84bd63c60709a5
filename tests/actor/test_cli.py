"""The command's flags, through the real parser; what a person gets wrong is one line and exit code 2."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors

from actor import cli
from actor.environments.vector import SEEDS
from actor.evaluation import evaluate, watch
from actor.evaluation.evaluate import ScoreTally
from actor.evaluation.play import Score
from actor.evaluation.watch import ViewingOptions, WatchedEpisode
from actor.events import ConnectionSettings
from protocol.manifest import digest_of
from protocol.transport.keys import actor_pair
from protocol.transport.learner_sockets import new_pair

SCORE = Score("E-v0", 7, 20, 475.25, 3.0, 1.5, 470.0, 480.0, 33.0, 5)

NONE: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command changes of its process is put back."""
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in held.items():
        signal.signal(number, handler)


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of ``actor ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["actor", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What a service in place of ours was started with."""
    noted: list[tuple[object, ...]] = []
    service = type(sys)("actor.service")

    def run(*arguments: object) -> int:
        noted.append(arguments)
        return 1

    service.run = service.serve_player = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "actor.service", service)
    monkeypatch.setattr("actor.service", service, raising=False)
    return noted


def test_run_hands_everything_over(monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]]) -> None:
    flags = (
        "--learner ipc:///x --name n --allow-module a --allow-module b --metrics [::1]:0 --uplink-kbps 64 --with-parent"
    )
    flags += " --key k --give-up-after 60"
    assert called(monkeypatch, "run", *flags.split()) == 1
    assert starts == [("ipc:///x", "n", frozenset({"a", "b"}), True, ("::1", 0), 64.0, Path("k"), 60.0)]


def test_run_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]]) -> None:
    called(monkeypatch, "run", "--learner", "ipc:///x")
    assert str(os.getpid()) in str(starts[0][1])
    assert starts[0][2:] == (NONE, False, None, None, None, math.inf)


@pytest.mark.parametrize("budget", ["0", "-3", "inf", "nan", "fast"])
def test_a_budget_is_a_rate_or_auto(
    monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]], budget: str
) -> None:
    assert called(monkeypatch, "run", "--learner", "ipc:///x", f"--uplink-kbps={budget}") == 2
    assert starts == []
    called(monkeypatch, "run", "--learner", "ipc:///x", "--uplink-kbps", "auto")
    assert starts[0][5] == "auto"


def test_threads_are_limited_unless_a_person_did(
    monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]]
) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "3"})
    called(monkeypatch, "run", "--learner", "ipc:///x")
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"], len(starts)) == ("3", "1", 1)


def test_init_from_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table, out = tmp_path / "table", tmp_path / "theta"
    table.write_bytes(msgspec.msgpack.encode({"env": "CartPole-v1", "hidden": [4]}))
    assert called(monkeypatch, "init", "--table", str(table), "--seed", "3", "--out", str(out)) == 0
    with safetensors.safe_open(out, framework="numpy") as file:
        assert file.metadata()["env"] == "CartPole-v1"


def test_init_from_an_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, out = tmp_path / "mine.toml", tmp_path / "theta"
    file.write_text('[run]\nseed = 1\n[actor]\nenv = "Acrobot-v1"\nhidden = [4]\n')
    assert called(monkeypatch, "init", str(file), "--out", str(out)) == 0
    table = msgspec.msgpack.encode({"defaults": 3, "env": "Acrobot-v1", "hidden": [4]}, order="deterministic")
    with safetensors.safe_open(out, framework="numpy") as made:
        told = made.metadata()
    assert (told["env"], told["seed"], told["actor_digest"]) == ("Acrobot-v1", "1", digest_of(table).hex())
    assert called(monkeypatch, "init", str(file), "--seed", "2", "--out", str(out)) == 0
    with safetensors.safe_open(out, framework="numpy") as made:
        assert made.metadata()["seed"] == "2"


@pytest.mark.parametrize("run", ["run = 1", "actor = 1", "[run]\nseed = 'x'"])
def test_a_seed_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, run: str
) -> None:
    (tmp_path / "mine.toml").write_text(run)
    assert called(monkeypatch, "init", str(tmp_path / "mine.toml")) == 2
    assert_one_line(capsys, "run.seed a whole number")


@pytest.mark.parametrize(
    ("table", "words"),
    [({"env": "CartPole-v9"}, "CartPole-v9"), ({"lamda": 1}, "lamda"), ({"env": "evil:Env-v0"}, "--allow-module evil")],
)
def test_a_setting_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    table: dict[str, object],
    words: str,
) -> None:
    file = tmp_path / "table"
    file.write_bytes(msgspec.msgpack.encode(table))
    assert called(monkeypatch, "init", "--table", str(file), "--out", str(tmp_path / "out")) == 2
    assert_one_line(capsys, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init"], "either an EXPERIMENT or --table"),
        (["init", "absent.toml"], "absent.toml: No such file"),
        (["evaluate", "absent"], "this is no run's directory"),
        (["evaluate"], "either a RUN_DIR or --learner"),
        (["evaluate", "absent", "--learner", "ipc:///x"], "either a RUN_DIR or --learner"),
        (["evaluate", "--learner", "ipc:///x", "--best"], "--best belongs to a RUN_DIR"),
        (["evaluate", "--learner", "http://x"], "http://x"),
        (["evaluate", "absent", "--once"], "--once belongs to --learner"),
        (["watch"], "either a RUN_DIR or --learner"),
        (["watch", "--learner", "ipc:///x", "--best"], "--best belongs to a RUN_DIR"),
        (["watch", "absent", "--out", "a.mp4"], "this is no run's directory"),
        (["watch", "--learner", "ipc:///x", "--out", "a.gif"], "ends in .mp4"),
        (["watch", "--learner", "ipc:///x", "--name", "n" * 65], "1 to 64 characters, not 65"),
        (["run", "--learner", "ipc:///x", "--metrics", "9401"], "expected HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert called(monkeypatch, *arguments) == 2
    assert_one_line(capsys, words)


def test_a_file_that_is_no_toml(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[actor\n")
    assert called(monkeypatch, "init", str(file)) == 2
    assert_one_line(capsys, "broken.toml")


def test_evaluate_prints_a_line_or_an_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def evaluated(*arguments: object, **named: object) -> Score:
        calls.append((*arguments, named))
        return SCORE

    monkeypatch.setattr(evaluate, "evaluate", evaluated)
    assert called(monkeypatch, "evaluate", "somewhere") == 0
    assert "mean 475.25 ± 1.50 (95 %)" in capsys.readouterr().out
    flags = "somewhere --json --best --episodes 3 --seed 4 --max-steps 9 --stochastic"
    assert called(monkeypatch, "evaluate", *flags.split()) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == 475.25
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # a signal after the score does not change the code
    assert calls == [
        (Path("somewhere"), 100, 0, 100_000, NONE, {"best": False, "stochastic": False}),
        (Path("somewhere"), 3, 4, 9, NONE, {"best": True, "stochastic": True}),
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_evaluate_follows_a_learner_and_sums_up(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    starts: list[tuple[object, ...]],
    as_json: bool,
) -> None:
    def followed(serve: Callable[[object], int], *arguments: Any, stochastic: bool) -> tuple[int, ScoreTally]:
        assert not stochastic
        assert serve("a factory") == 1
        assert arguments[:-1] == (3, 4, 9, frozenset({"m"}), True)
        tally = ScoreTally()
        for score in (SCORE, dataclasses.replace(SCORE, mean=480.0, ci95=math.inf)):
            tally.add(score)
            arguments[-1](score)
        return 0, tally

    monkeypatch.setattr(evaluate, "follow", followed)
    flags = "--learner ipc:///x --key a.key --name judge --episodes 3 --seed 4 --max-steps 9 --allow-module m --once"
    flags += " --give-up-after 9"
    assert called(monkeypatch, "evaluate", *flags.split(), *["--json"] * as_json) == 0
    assert starts == [(ConnectionSettings("ipc:///x", "judge", Path("a.key"), 9.0), "a factory")]
    first, second, last = capsys.readouterr().out.splitlines()
    if not as_json:
        assert first == str(SCORE)
        assert last == f"best of 2 evaluations: {second}"
        return
    assert json.loads(first) == {"event": "evaluated", **dataclasses.asdict(SCORE)}
    assert json.loads(second)["ci95"] is None  # JSON has no infinity
    finished = json.loads(last)
    assert (finished["event"], finished["evaluations"], finished["best"]["mean"]) == ("finished", 2, 480.0)


def test_watch_hands_everything_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def watched(run_dir: Path, viewing: ViewingOptions, best: bool, report: Callable[[WatchedEpisode], None]) -> None:
        calls.append((run_dir, viewing, best))
        report(WatchedEpisode(1, 10.0, 5, 12))

    monkeypatch.setattr(watch, "watch", watched)
    flags = "somewhere --best --out a.mp4 --episodes 2 --seed 4 --max-steps 9 --fps 20 --allow-module m"
    assert called(monkeypatch, "watch", *flags.split()) == 0
    assert calls == [
        (Path("somewhere"), ViewingOptions(2, 4, 9, 20.0, frozenset({"m"}), Path("a.mp4").absolute()), True)
    ]
    assert capsys.readouterr().out == "episode 1  return 10.00  length 5  version 12\n"


def test_watch_follows_a_learner(monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]]) -> None:
    def followed(serve: Callable[[object], int], viewing: ViewingOptions, report: object) -> tuple[int, None]:
        assert viewing == ViewingOptions(1, 0, 100_000, None, frozenset())
        return serve("a factory"), None

    monkeypatch.setattr(watch, "follow", followed)
    assert called(monkeypatch, "watch", "--learner", "ipc:///x") == 1
    ((connection, _),) = starts
    assert isinstance(connection, ConnectionSettings)
    assert (connection.learner, connection.key) == ("ipc:///x", None)
    assert connection.name.startswith("watcher-")


def test_a_key_is_for_a_live_learner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert called(monkeypatch, "evaluate", str(tmp_path), "--key", "a.key") == 2
    assert "--key belongs to --learner" in capsys.readouterr().err


def test_a_key_that_is_made_here_tells_its_public_half_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    learner, out = new_pair("learner").public, tmp_path / "rack.key"
    made = ("key", "rack", "--out", str(out), "--learner-key")
    assert called(monkeypatch, *made, learner) == 0
    pair = actor_pair(out)
    assert (capsys.readouterr().out.strip(), pair.name, pair.learner) == (pair.public, "rack", learner)
    assert called(monkeypatch, *made, learner) == 2  # never written over
    assert called(monkeypatch, *made, "short") == 2
    assert actor_pair(out) == pair


@pytest.mark.parametrize("command", ["evaluate", "watch"])
@pytest.mark.parametrize("flag", [("--seed", str(SEEDS + 1)), ("--seed", "-1"), ("--max-steps", "0")])
def test_seeds_and_limits_have_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, flag: tuple[str, str]
) -> None:
    assert called(monkeypatch, command, "absent", *flag) == 2
    assert flag[0] in capsys.readouterr().err
    assert cli.MAX_SEED == SEEDS


@pytest.mark.parametrize("command", ["run", "evaluate", "watch"])
def test_help_loads_nothing_heavy(command: str) -> None:
    script = """
import sys
from actor.cli import app
try:
    app([COMMAND, "--help"])
except SystemExit:
    pass
heavy = {"numpy", "torch", "gymnasium", "zmq", "rich", "prometheus_client"}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or None)
"""
    script = f"COMMAND = {command!r}\n{script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert "--learner" in done.stdout
    assert "--with-parent" not in done.stdout


def assert_one_line(capsys: pytest.CaptureFixture[str], words: str) -> None:
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("actor 0.")


def test_init_and_check_take_shipped_names_and_say_what_they_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "theta"
    assert called(monkeypatch, "check", "acrobot") == 0
    assert capsys.readouterr().out == "ok: Acrobot-v1 is registered, and all settings of [actor] fit\n"
    assert called(monkeypatch, "init", "acrobot", "--out", str(out)) == 0
    assert capsys.readouterr().out.startswith(f"wrote {out}: ")
    with safetensors.safe_open(out, framework="numpy") as made:
        assert made.metadata()["env"] == "Acrobot-v1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "acrobat"], "did you mean acrobot?"),
        (["check", "acrobat"], "did you mean acrobot?"),
        (["run", "--learner", "ipc:///x", "--allow-module", "learner"], "--allow-module learner"),
        (["evaluate", "x", "--allow-module", "protocol"], "--allow-module protocol"),
        (["watch", "x", "--allow-module", "actor"], "--allow-module actor"),
        (["init", "acrobot", "--allow-module", "actor.envs"], "--allow-module actor"),
        (["evaluate", "x", "--give-up-after", "3"], "--give-up-after belongs to --learner"),
        (["evaluate", __file__], "it is a file"),
        (["watch", "absent"], "it is not there"),
        (["run", "--learner", "ipc:///x", "--name", "\udcff"], "expected text in UTF-8"),
    ],
)
def test_other_mistakes_are_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert called(monkeypatch, *arguments) == 2
    assert_one_line(capsys, words)


def test_a_check_imports_no_torch(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[actor]\nenv = "CartPol-v1"\nmemory = "lstm"\n')
    script = (
        "import sys, actor.cli as c; sys.argv[1:] = sys.argv[2:]\ntry: c.main()\nfinally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "", "init", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert "did you mean CartPole-v1?" in done.stderr
