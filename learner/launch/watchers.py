"""Who is to hear a run's lines: what was asked for is found, or refused before anything is started. Knows files.

Of other programs it looks whether they are installed, and imports none. A callable of the owner's own is imported.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.util import find_spec

from learner.launch.options import Options
from learner.launch.toml import dumps
from learner.monitoring.sinks.feed import Hear
from learner.monitoring.sinks.sink import Sink, SinkFollower
from protocol.errors import SettingError, UserError
from protocol.process.modules import allow, load

HOOKS = "farflung.hooks"  # entry points of installed packages
SETTING = "learner.on_event"


class ExtraMissing(UserError):
    """A program that a flag asks for is not installed. flag, package: which. extra: of Farflung, that brings it."""

    def __init__(self, flag: str, package: str) -> None:
        super().__init__(flag, package)
        self.flag, self.package = flag, package

    def __str__(self) -> str:
        return f"{self.flag} needs {self.package}, which is not installed: pip install 'farflung[{self.package}]'"


def watched(options: Options) -> list[str]:
    """Whose code is to run in this process, for people; found or not."""
    sinks = {"--tensorboard": options.tensorboard, "--wandb": options.wandb, "--mlflow": options.mlflow}
    hook = options.experiment.learner.on_event
    return [flag for flag, asked in sinks.items() if asked is not None] + ([f"{SETTING} {hook}"] if hook else [])


def find_watchers(options: Options, earlier_s: Callable[[], float]) -> list[tuple[str, Hear]]:
    """Names and what hears the lines. earlier_s: of training in earlier lives, asked when this one has begun.

    Raises UserError for what is not installed, not allowed, or not there.
    """
    found: list[tuple[str, Hear]] = []
    tables = tomllib.loads(dumps(options.experiment))
    for name, sink in _sinks(options):
        found.append((name, SinkFollower(sink, tables, earlier_s)))
    hook = options.experiment.learner.on_event
    if hook:
        found.append((f"{SETTING} {hook}", _hook(hook, options.allow_modules)))
    return found


def _sinks(options: Options) -> list[tuple[str, Sink]]:
    asked: list[tuple[str, Sink]] = []
    if options.tensorboard is not None:
        _require("--tensorboard", "tensorboard")
        folder = options.tensorboard / options.run_dir.resolve().name  # as `learner export` names it
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--tensorboard {options.tensorboard}: {error.strerror or error}") from None
        from learner.monitoring.sinks.tensorboard import TensorBoardSink

        asked.append(("tensorboard", TensorBoardSink(folder)))
    if options.wandb is not None:
        _require("--wandb", "wandb")
        from learner.monitoring.sinks.wandb import WandbSink

        asked.append(("wandb", WandbSink(options.wandb, options.run_dir)))
    if options.mlflow is not None:
        _require("--mlflow", "mlflow")
        from learner.monitoring.sinks.mlflow import MlflowSink

        asked.append(("mlflow", MlflowSink(options.mlflow)))
    return asked


def _require(flag: str, package: str) -> None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name, such as they leave behind themselves
        raise ExtraMissing(flag, package)


def _hook(value: str, modules: tuple[str, ...]) -> Hear:
    """The callable that ``learner.on_event`` names."""
    try:
        found: Hear = load(SETTING, value, allow(modules), HOOKS)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a module of a user's own may raise anything, or try to end the interpreter
        raise UserError(f"{SETTING} = {value!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise SettingError(SETTING, value, f"it is {type(found).__name__}, and nothing that can be called")
    return found
