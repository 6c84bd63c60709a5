"""The command's flags, through the real parser; what a person gets wrong is one line and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import safetensors

from actor import cli


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

    service.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "actor.service", service)
    monkeypatch.setattr("actor.service", service, raising=False)
    return noted


def test_run_hands_everything_over(monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]]) -> None:
    flags = "--learner ipc:///x --name n --allow-module a --allow-module b --metrics [::1]:0 --with-parent"
    assert called(monkeypatch, "run", *flags.split()) == 1
    assert starts == [("ipc:///x", "n", ("a", "b"), True, ("::1", 0))]


def test_run_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch, starts: list[tuple[object, ...]]) -> None:
    called(monkeypatch, "run", "--learner", "ipc:///x")
    assert str(os.getpid()) in str(starts[0][1])
    assert starts[0][2:] == ((), False, None)


def test_threads_are_limited_unless_a_person_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cli.one_thread()
    assert (os.environ["OMP_NUM_THREADS"], os.environ.pop("MKL_NUM_THREADS")) == ("3", "1")


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
    with safetensors.safe_open(out, framework="numpy") as made:
        assert made.metadata()["env"] == "Acrobot-v1"


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
        (["evaluate", "absent"], "manifest.json: No such file"),
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
    from actor import evaluate
    from actor.evaluate import Score

    score = Score("E-v0", 7, 20, 475.25, 3.0, 1.5, 470.0, 480.0, 33.0)
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: score)
    assert called(monkeypatch, "evaluate", "somewhere") == 0
    assert "mean 475.25 ± 1.50 (95 %)" in capsys.readouterr().out
    assert called(monkeypatch, "evaluate", "somewhere", "--json") == 0
    assert json.loads(capsys.readouterr().out)["mean"] == 475.25


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
from actor.cli import app
try:
    app(["run", "--help"])
except SystemExit:
    pass
heavy = {"numpy", "torch", "gymnasium", "zmq", "rich", "prometheus_client"}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert "--learner" in done.stdout
    assert "--with-parent" not in done.stdout


def assert_one_line(capsys: pytest.CaptureFixture[str], words: str) -> None:
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
