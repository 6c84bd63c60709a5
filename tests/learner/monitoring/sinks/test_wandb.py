"""Weights & Biases: what it is called with, and where it is installed, that an offline run holds it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from learner.monitoring.sinks import wandb as sinks
from learner.monitoring.sinks.wandb import WandbSink
from tests.learner.monitoring.sinks.fakes import CONFIG, fake_wandb, follow


def test_it_is_called_as_its_documents_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module, run, summary = fake_wandb(monkeypatch)
    asked: list[str] = []
    monkeypatch.setattr(sinks, "require_reachable", asked.append)
    follow(WandbSink("acme", tmp_path))
    ((_, begun),) = module.named("init")
    assert begun.pop("settings").console == "off"
    assert begun == {
        "project": "acme",
        "group": "test-7",
        "name": "test-7-from-2000",
        "config": CONFIG,
        "dir": str(tmp_path),
    }
    assert run.named("define_metric") == [(("*",), {"step_metric": "env_steps"})]
    logged = [arguments[0] for arguments, _ in run.named("log")]
    assert [each["env_steps"] for each in logged] == [2000, 3000, 2000]
    assert [each.get("metrics/success") for each in logged] == [0.25, 0.375, None]
    assert summary == {"event": "finished", "exit_code": 0, "solved": True, "return_mean_100": 480.5, "version": 60}
    assert run.named("finish") == [((), {"exit_code": 0})]
    assert module.named("teardown") == [((), {})]
    assert asked == ["http://api.acme"]


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_where_nobody_is_asked_nobody_has_to_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str) -> None:
    module, _, _ = fake_wandb(monkeypatch)
    module.answers["settings"].mode = mode
    asked: list[str] = []
    monkeypatch.setattr(sinks, "require_reachable", asked.append)
    follow(WandbSink("acme", tmp_path))
    assert asked == []


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
@pytest.mark.filterwarnings("ignore")
def test_offline_all_of_it_is_in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    follow(WandbSink("acme", tmp_path))
    (kept,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data = kept.read_bytes()
    assert b"rollout/ep_rew_mean" in data
    assert b"metrics/success" in data
