"""A run's lines for sinks, and modules that look like wandb and mlflow to who calls them."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from learner.monitoring.sinks.sink import Sink, SinkFollower
from tests.learner.courses import BEGAN_UNIX_S, moment

CONFIG = {"run": {"seed": 7}, "actor": {"env": "CartPole-v1", "env_options": {"a b!": 1}}}
STARTED = {"event": "started", "run": "test-7", "env_steps": 2000, "version": 40}
RESULT = {"event": "finished", "exit_code": 0, "solved": True, "return_mean_100": 480.5, "version": 60, "rulings": {}}
SCORE = {"event": "evaluated", "actor": "judge", "version": 40, "mean": 33.0, "unix_s": BEGAN_UNIX_S + 9}
LINES = [STARTED, moment(2), {"event": "progress", "actor": "liar"}, moment(3), SCORE, RESULT]


def follow(sink: Sink) -> None:
    """A life of three lines, of which one is a score."""
    follower = SinkFollower(sink, CONFIG, lambda: 100.0)
    for line in LINES:
        follower(line)


class Recorder:
    """Any object: what is called on it is noted as (name, arguments, options)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            return self.answers.get(name)

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, options) for called, arguments, options in self.calls if called == name]


def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, Recorder, dict[str, Any]]:
    """The module, the run that it makes, and the run's summary."""
    module, run, summary = Recorder(), Recorder(), dict[str, Any]()
    run.summary = summary  # type: ignore[attr-defined]
    module.answers["init"] = run
    settings = SimpleNamespace(mode="online", base_url="http://api.acme")
    installed = ModuleType("wandb")
    installed.__dict__.update(
        init=module.init,
        Settings=SimpleNamespace,
        setup=lambda: SimpleNamespace(settings=settings),
        teardown=module.teardown,
    )
    module.answers["settings"] = settings
    monkeypatch.setitem(sys.modules, "wandb", installed)
    return module, run, summary


def fake_mlflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Its client."""
    client, module, entities = Recorder(), ModuleType("mlflow"), ModuleType("mlflow.entities")
    client.answers |= {"create_experiment": "e1", "create_run": SimpleNamespace(info=SimpleNamespace(run_id="r1"))}
    module.__dict__["MlflowClient"] = lambda tracking_uri: client
    entities.__dict__.update(
        Metric=lambda *fields: fields,
        Param=lambda key, value: (key, value),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return client
