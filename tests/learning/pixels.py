"""Pong's training throughput: the whole system, the bare sum of its parts, and a peer, in turns. Knows processes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.bench.farflung import progress, train
from tests.bench.machine import ask, ask_at_once, mean
from tests.bench.rates.actor_rate import slope
from tests.bench.store import Record, Store

ROUNDS, SECONDS, BARE_S, PEER_STEPS = 3, 60.0, 12.0, 15_000
QUICK_ROUNDS, QUICK_S, QUICK_BARE_S, QUICK_PEER_STEPS = 1, 15.0, 2.0, 2_000
PEER_BAR, SHARE_BAR = 4.0, 0.8


def measure(store: Store, *, quick: bool) -> None:
    """Every round that is not measured yet."""
    for number in range(QUICK_ROUNDS if quick else ROUNDS):
        store.once({"round": number}, lambda: _round(quick))


def _round(quick: bool) -> Record:
    """The bare parts on one core, then on each core at once, as the actors run: memory and caches are shared.

    both_bare: what the cores could do, the sum of those that ran at once. alone: of one that has the machine to itself.
    """
    seconds, bare_s, steps = (QUICK_S, QUICK_BARE_S, QUICK_PEER_STEPS) if quick else (SECONDS, BARE_S, PEER_STEPS)
    bare = ["tests.bench.rates.actor_bare", "pong", str(bare_s)]
    alone = ask(bare, 0)["bare"]
    first, second = ask_at_once([bare, bare])
    whole = _whole(seconds)
    peer = ask(["tests.learning.peer_pixels", str(steps)])["steps_per_s"]
    both = first["bare"] + second["bare"]
    shares = {"both_bare": both, "share": whole / both, "alone": alone, "share_of_alone": whole / (2.0 * alone)}
    return mean(first, second) | shares | {"whole": whole, "peer": peer, "times": whole / peer}


def _whole(seconds: float) -> float:
    """Agent steps/s of ``learner run pong`` with its two actors."""
    with tempfile.TemporaryDirectory(prefix="farflung-bench-") as folder:
        train(["pong", "--set", "run.until_return=1e9"], Path(folder) / "run", seconds)
        return slope(progress(Path(folder) / "run"))


def holds(records: Sequence[Record]) -> bool:
    """Whether the medians keep both bars, on no fewer rounds than there are."""
    if len(records) < ROUNDS:
        return False
    share, times = (median(record[field] for record in records) for field in ("share", "times"))
    return bool(share >= SHARE_BAR and times >= PEER_BAR)
