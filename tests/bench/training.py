"""Time to solve a task, Farflung and Stable-Baselines3 in turns, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.farflung import train
from tests.bench.machine import ask
from tests.bench.store import Record, Store


@dataclass(frozen=True, slots=True)
class Task:
    """One comparison.

    seeds, peer_seeds: how many, from 0. peer_limit: environment steps, as its settings anneal by. bar: how many times
    faster than the peer's our median must be.
    """

    part: str
    env: str
    target: float
    arguments: tuple[str, ...]
    seeds: int
    peer_seeds: int
    peer_limit: int
    bar: float


TASKS = (
    Task(
        part="cartpole",
        env="CartPole-v1",
        target=475.0,
        arguments=("--env", "CartPole-v1", "--actors", "2", "--until-return", "475"),
        seeds=10,
        peer_seeds=5,
        peer_limit=300_000,
        bar=3.0,
    ),
    Task(
        part="lunarlander",
        env="LunarLander-v3",
        target=200.0,
        arguments=("lunarlander",),
        seeds=5,
        peer_seeds=1,  # nine minutes each
        peer_limit=1_000_000,
        bar=10.0,
    ),
)
QUICK_STEPS = 20_000  # enough to see that everything runs


def measure(task: Task, store: Store, *, quick: bool, peer_seeds: int | None) -> None:
    """Every seed that is not measured yet."""
    require_peer()
    seeds = 1 if quick else task.seeds
    peers = 1 if quick else task.peer_seeds if peer_seeds is None else peer_seeds
    for seed in range(max(seeds, peers)):
        if seed < seeds:
            key = {"system": "Farflung", "env": task.env, "seed": seed}
            store.once(key, lambda seed=seed: _farflung(task, seed, quick))  # type: ignore[misc]
        if seed < peers:
            key = {"system": "Stable-Baselines3 PPO", "env": task.env, "seed": seed}
            store.once(key, lambda seed=seed: _peer(task, seed, quick))  # type: ignore[misc]


def require_peer() -> None:
    """Ends with a sentence that helps where Stable-Baselines3 is missing."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise SystemExit('the comparison needs Stable-Baselines3: pip install -c constraints.txt -e ".[dev,compare]"')


def _farflung(task: Task, seed: int, quick: bool) -> Record:
    limit = ("--until-steps", str(QUICK_STEPS)) if quick else ()
    folder = Path(tempfile.mkdtemp(prefix="farflung-bench-"))
    try:
        trained = train([*task.arguments, *limit, "--seed", str(seed)], folder / "run")
    finally:
        shutil.rmtree(folder)
    result = trained.result
    kept = ("solved", "wall_s", "env_steps", "return_mean_100", "compression", "bytes_per_gradient", "parameters")
    more = ("version", "received_bytes", "sent_bytes", "lag_mean_updates", "rulings")
    return {name: result[name] for name in (*kept, *more)} | {"total_s": trained.total_s, "curve": trained.curve}


def _peer(task: Task, seed: int, quick: bool) -> Record:
    began = time.perf_counter()
    limit = QUICK_STEPS if quick else task.peer_limit
    answer = ask(["tests.bench.peer", "ppo", task.env, str(seed), str(limit)])
    return answer | {"total_s": time.perf_counter() - began}
