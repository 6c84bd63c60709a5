"""Pong from pixels with one coordinate in four hundred, beside dense. Knows processes and records.

Two actors in one process (``turns.py``, mixed), the A3C network. The budget is where dense is clearly learning and not
nearly done; the thin settings were chosen on seed 101.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from tests.bench.machine import ask
from tests.bench.store import Record, Store

STEPS, FIRST, SEEDS = 600_000, 11, 3
THIN: tuple[str, ...] = (
    "learner.optimizer=preconditioned",
    "learner.learning_rate=6e-4",
    "actor.codec=topk_i8",
    "actor.density=0.0025",
    "actor.residual_decay=0.99",
    "actor.beta1=0.5",
)
WAYS: dict[str, tuple[str, ...]] = {"f32, Adam at the learner": (), "topk_i8, 0.25 %": THIN}


def measure(store: Store, *, quick: bool) -> None:
    """Every way and seed that is not measured yet."""
    for seed in range(FIRST, FIRST + (1 if quick else SEEDS)):
        for way in WAYS:
            store.once({"way": way, "seed": seed}, lambda w=way, s=seed: _run(w, s, quick=quick))  # type: ignore[misc]


def _run(way: str, seed: int, *, quick: bool) -> Record:
    limits = (f"run.until_steps={5_000 if quick else STEPS}", "run.until_return=21")
    record = ask(["tests.learning.turns", "--lag", "1", "--mixed", "pong", str(seed), *limits, *WAYS[way]])
    return {name: record[name] for name in ("env_steps", "return_mean_100", "bytes_per_gradient", "dense_bytes")}


def returns(records: Sequence[Record], way: str) -> list[float]:
    """Mean return of the last 100 episodes, by seed."""
    found = sorted((record for record in records if record["way"] == way), key=lambda record: record["seed"])
    return [float(record["return_mean_100"]) for record in found]


def error(values: Sequence[float]) -> float:
    """Standard error of their mean."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def holds(records: Sequence[Record]) -> bool:
    """Whether the thin mean is not more than one standard error of dense below the dense mean."""
    dense, thin = (returns(records, way) for way in WAYS)
    enough = min(len(dense), len(thin)) >= SEEDS
    return enough and fmean(thin) >= fmean(dense) - error(dense)
