"""One training run through the real command, timed from outside. Knows processes and run directories; no sockets."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.launch.experiment_file import load
from protocol.shipped import named
from tests.bench.machine import start

WINDOW = 100  # episodes; means of fewer are not drawn

Point = tuple[int, float, float]  # environment steps, seconds, mean return of 100 episodes


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run. result: its result.json. total_s: from starting the command to its exit."""

    exit_code: int
    result: dict[str, Any]
    total_s: float
    curve: list[Point]


def annealing(experiment: str) -> list[str]:
    """What a shipped experiment says of annealing, TABLE.KEY=VALUE: a limit of steps would be its end as well."""
    steps, floor = load(named(experiment), [], {}).learner.annealing
    return [f"learner.anneal_steps={steps}", f"learner.anneal_floor={floor}"] if steps else []


def train(arguments: Sequence[str], run_dir: Path, limit_s: float | None = None) -> Trained:
    """Runs ``learner run ARGUMENTS`` to its end, or asks it to stop after ``limit_s`` seconds.

    Raises RuntimeError with its last words where it left no result.
    """
    command = ["learner", "run", *arguments, "--run-dir", str(run_dir), "--http", "off", "--json"]
    began = time.perf_counter()
    child = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = _last_words(child, limit_s)
    total_s = time.perf_counter() - began
    path = run_dir / "result.json"
    if not path.exists():
        raise RuntimeError(f"{' '.join(command)} exited with code {child.returncode}: {said[-2000:]}")
    result = json.loads(path.read_text(encoding="utf-8"))
    return Trained(child.returncode, result, total_s, curve(run_dir, result))


def _last_words(child: subprocess.Popen[str], limit_s: float | None) -> str:
    try:
        return child.communicate(timeout=limit_s)[0]
    except subprocess.TimeoutExpired:
        child.terminate()
        return child.communicate()[0]


def curve(run_dir: Path, result: dict[str, Any]) -> list[Point]:
    """The run's learning curve with its end."""
    points = [(p["env_steps"], p["wall_s"], p["return_mean"]) for p in progress(run_dir) if p["episodes"] >= WINDOW]
    if result["return_mean_100"] is not None:
        points.append((result["env_steps"], result["wall_s"], result["return_mean_100"]))
    return points


def progress(run_dir: Path) -> list[dict[str, Any]]:
    """The progress lines of a run, oldest first."""
    lines = (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == "progress"]
