"""Time to solve a task, Farflung and its peers in turns, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.farflung import train
from tests.bench.machine import ask
from tests.bench.memory import Memory
from tests.bench.peers.recipe import written
from tests.bench.peers.shipped import shipped
from tests.bench.store import Record, Store

FARFLUNG, LIBRARY = "Farflung", "Stable-Baselines3 PPO"
LOOPS = {  # module and simulators of each
    "loop: JAX, Gymnasium": ("loop_jax", "gymnasium"),
    "loop: JAX, EnvPool": ("loop_jax", "envpool"),
    "loop: torch, Gymnasium": ("loop_torch", "gymnasium"),
}
PEERS = ("stable_baselines3", "jax", "envpool")  # what the comparison imports beside Farflung's own


@dataclass(frozen=True, slots=True)
class Task:
    """One comparison.

    part: also the shipped experiment that the loops take their recipe from. limit: environment steps that end a loop.
    seeds, peer_seeds: how many, from 0; peer_seeds and peer_limit are the library's, whose settings anneal by it. bar:
    how many times faster than the library's our median must be.
    """

    part: str
    env: str
    target: float
    arguments: tuple[str, ...]
    limit: int
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
        limit=1_000_000,
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
        limit=3_000_000,
        seeds=5,
        peer_seeds=1,  # nine minutes each
        peer_limit=1_000_000,
        bar=10.0,
    ),
)
QUICK_STEPS = 20_000  # enough to see that everything runs


def measure(task: Task, store: Store, *, quick: bool, peer_seeds: int | None) -> None:
    """Every seed that is not measured yet."""
    require_peers()
    runs = {FARFLUNG: _farflung, **dict.fromkeys(LOOPS, _loop), LIBRARY: _library}
    for seed, system in turns(task, quick, peer_seeds):
        key = {"system": system, "env": task.env, "seed": seed}
        store.once(key, lambda seed=seed, system=system: measured(lambda: runs[system](task, system, seed, quick)))  # type: ignore[misc]


def turns(task: Task, quick: bool, peer_seeds: int | None) -> Iterator[tuple[int, str]]:
    """(seed, system) in the order that they run in."""
    seeds = 1 if quick else task.seeds
    peers = 1 if quick else task.peer_seeds if peer_seeds is None else peer_seeds
    for seed in range(max(seeds, peers)):
        if seed < seeds:
            yield from ((seed, system) for system in (FARFLUNG, *LOOPS))
        if seed < peers:
            yield seed, LIBRARY


def require_peers() -> None:
    """Ends with a sentence that helps where one is missing."""
    if missing := [name for name in PEERS if importlib.util.find_spec(name) is None]:
        how = 'pip install -c constraints.txt -e ".[dev,compare]"'
        raise SystemExit(f"the comparison needs {', '.join(missing)}: {how}")


def measured(run: Callable[[], Record]) -> Record:
    """A run with the memory of its processes."""
    with Memory() as memory:
        record = run()
    return record | {"peak_bytes": memory.peak_bytes}


def _farflung(task: Task, _: str, seed: int, quick: bool) -> Record:
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


def _loop(task: Task, system: str, seed: int, quick: bool) -> Record:
    module, simulators = LOOPS[system]
    limit = QUICK_STEPS if quick else task.limit
    return _timed([f"tests.bench.peers.{module}", written(shipped(task.part)), str(seed), str(limit), simulators])


def _library(task: Task, _: str, seed: int, quick: bool) -> Record:
    limit = QUICK_STEPS if quick else task.peer_limit
    return _timed(["tests.bench.peers.sb3", "ppo", task.env, str(seed), str(limit)])


def _timed(arguments: list[str]) -> dict[str, Any]:
    """What a peer answers. total_s: from starting the command to its exit."""
    began = time.perf_counter()
    answer = ask(arguments)
    return answer | {"total_s": time.perf_counter() - began}
