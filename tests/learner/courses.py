"""Run directories as a learner leaves them, with made-up numbers, for tests that look back at them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from learner.config import Experiment, RunSettings
from learner.launch.toml import dumps
from learner.progress import LEARNT
from protocol import manifest as manifests
from tests.learner.books import manifest

BEGAN_UNIX_S = 1.7e9


def moment(index: int, **changes: object) -> dict[str, Any]:
    """The index-th progress line of a life: a second, 1000 steps, 50 episodes and 20 updates after the one before."""
    line: dict[str, Any] = {
        "event": "progress",
        "wall_s": float(index),
        "unix_s": BEGAN_UNIX_S + index,
        "env_steps": 1000 * index,
        "env_steps_per_s": 1000.0,
        "episodes": 50 * index,
        "version": 20 * index,
        "return_mean": 10.0 * index if index else None,
        "lag_count": 20 * index,
        "lag_sum_updates": 40 * index,
        "received_bytes": 500 * index,
        "sent_bytes": 300 * index,
        **dict.fromkeys(LEARNT, 0.5 * index if index else None),
        "metrics": {"success": 0.125 * index} if index else {},
    }
    return line | changes


def ended(index: int, **changes: object) -> dict[str, Any]:
    """The line that ends a life where the index-th progress line would be."""
    line = moment(index, event="finished", return_mean_100=10.0 * index, epoch=1)
    for name in ("return_mean", "lag_count", "lag_sum_updates", "env_steps_per_s", *LEARNT, "metrics"):
        del line[name]
    return line | changes


def life(length: int = 6) -> list[dict[str, Any]]:
    """A whole one."""
    return [{"event": "started", "wall_s": 0.0}, *map(moment, range(length)), ended(length)]


def text(*lines: dict[str, Any]) -> bytes:
    """A progress.jsonl."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def run_dir(path: Path, seed: int = 0, *, recorded: bytes | None = None, epoch: int = 1, **actor: object) -> Path:
    """A run that ended after six seconds. actor: settings of its actors. recorded: in place of a whole life."""
    path.mkdir(parents=True)
    run = RunSettings(seed=seed, until_return=55.0)
    experiment = Experiment(run=run, actor={"env": "CartPole-v1", **actor})
    (path / "experiment.toml").write_text(dumps(experiment))
    (path / "manifest.json").write_bytes(manifests.encode(manifest(seed=seed, created="2023-11-14T22:13:20Z")))
    (path / "epoch").write_text(f"{epoch}\n")
    (path / "progress.jsonl").write_bytes(text(*life()) if recorded is None else recorded)
    (path / "result.json").write_text(json.dumps({"epoch": 1}))
    return path
