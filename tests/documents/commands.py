"""Whether a command that a document shows could be typed. Knows both command lines, make's targets and the tree.

Nothing is run but ``make -n`` and ``bash -n``. Flags and arguments are parsed by the real parsers, settings are
resolved by the real configuration, and modules and paths are looked up.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from actor.cli import app as actor_app
from actor.config import read_settings
from learner.cli import app as learner_app
from learner.config import actor_table
from learner.launch.experiment_file import load
from protocol.errors import UserError
from protocol.shipped import experiment_file

ROOT = Path(__file__).resolve().parents[2]
APPS: dict[str, Any] = {"learner": typer.main.get_command(learner_app), "actor": typer.main.get_command(actor_app)}
# Programs that no test may start, and why. Of what they are given only paths in the tree are looked up.
NOT_HERE = {
    "amtool": "Alertmanager's own; tests/deploy/test_rules.py starts it where it is installed",
    "cd": "only changes where the next command runs",
    "docker": "needs a container engine; make test-deploy runs the same compose file",
    "kubectl": "needs a cluster; tests/deploy renders the overlays",
    "pip": "installs from a package index",
    "pre-commit": "writes a hook into the repository",
    "systemctl": "needs systemd as process 1; .ci/systemd boots one and follows the document",
    "python3": "makes a virtual environment, as make setup does",
}
# Experiments that a document leaves to the reader, and what stands for them here.
OF_EXAMPLES = {
    name: str(ROOT / "docs/examples" / name)
    for name in ("corridor.toml", "icy.toml", "residual.toml", "kl_penalty.toml")
}
EXPERIMENTS = {"my.toml": "lunarlander", **OF_EXAMPLES}
PLACEHOLDERS = {"N": "8", "S": "1", "X": "1", "F": "30", "V": "1"}
INCOMPLETE = ("requires an argument", "requires 2 arguments", "Missing argument", "Missing option", "Missing command")
OURS = re.compile(r"(?:learner|actor|protocol|tests|deploy|docs|\.ci)/[\w./-]*\w")
PATH = re.compile(rf"(?<![\w./-]){OURS.pattern}")


def faults(command: str, folder: Path = ROOT, *, partial: bool = False) -> list[str]:
    """What is wrong with a command; empty if it could be typed. partial: arguments may be missing, as in a sentence.

    folder: where paths in it count from.
    """
    environ, words = _words(command)
    if not words:
        return ["there is no command in it"]
    program, arguments = Path(words[0]).name, words[1:]
    if program in APPS:
        return _ours(program, arguments, environ, partial)
    if program == "make":
        return _make(arguments)
    if program == "python":
        return _module(arguments)
    if words[0].endswith(".sh"):
        return _script(folder / words[0])
    if program in NOT_HERE:
        return [f"there is no {word}" for word in arguments if _lost(word, folder)]
    return [f"nobody here knows the program {program}; NOT_HERE lists those that no test may start"]


def used(command: str) -> str:
    """The program that a command starts."""
    return Path(_words(command)[1][0]).name


def option_exists(flag: str) -> bool:
    """Whether some command of ours has this flag."""
    return any(flag in parameter.opts for _, command in every_command() for parameter in command.params)


def every_command() -> Iterator[tuple[str, Any]]:
    """(words, parser) of every command of both programs, groups included."""
    todo = list(APPS.items())
    while todo:
        words, command = todo.pop()
        yield words, command
        todo += [(f"{words} {name}", inner) for name, inner in getattr(command, "commands", {}).items()]


def _words(command: str) -> tuple[dict[str, str], list[str]]:
    """Variables set before a command, and its words."""
    words = shlex.split(command)
    environ: dict[str, str] = {}
    while words and (found := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
        environ[found[1]] = found[2]
        words.pop(0)
    return environ, words


def _ours(program: str, arguments: list[str], environ: Mapping[str, str], partial: bool) -> list[str]:
    command, name = APPS[program], program
    arguments = [PLACEHOLDERS.get(argument, argument) for argument in arguments]
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name not in command.commands:
            return [f"there is no command {program} {name}"]
        command = command.commands[name]
    if hasattr(command, "commands"):
        return [
            f"{program} has no {flag}" for flag in arguments if not any(flag in each.opts for each in command.params)
        ]
    try:
        given = command.make_context(name, arguments).params
    except Exception as error:
        said: str = error.format_message() if hasattr(error, "format_message") else repr(error)
        return [] if partial and any(part in said for part in INCOMPLETE) else [said]
    return _settings(given, environ) if (program, name) == ("learner", "run") else []


def _settings(given: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """What the configuration says of a ``learner run``."""
    named = given["experiment"] or ("cartpole" if given["env"] is None else None)
    flags = {"run.actors": given["actors"], "run.seed": given["seed"], "actor.env": given["env"]}
    overrides = [f"{key}={value}" for key, value in flags.items() if value is not None]
    try:
        file = None if named is None else experiment_file(EXPERIMENTS.get(named, named))
        resolved = load(file, [*overrides, *given["settings"]], environ)
        read_settings(actor_table(resolved))
    except UserError as error:
        return [str(error)]
    return []


def _make(arguments: list[str]) -> list[str]:
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stderr.strip()]


def _module(arguments: list[str]) -> list[str]:
    """``python -m MODULE ...``; the arguments are the module's own business."""
    if arguments[:1] != ["-m"] or len(arguments) < 2:
        return ["only python -m MODULE is known"]
    return [] if importlib.util.find_spec(arguments[1]) else [f"there is no module {arguments[1]}"]


def _script(path: Path) -> list[str]:
    if not path.is_file():
        return [f"there is no {path}"]
    done = subprocess.run([shutil.which("bash") or "sh", "-n", path], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stderr.strip()]


def _lost(word: str, folder: Path) -> bool:
    return OURS.fullmatch(word) is not None and not (folder / word).exists()
