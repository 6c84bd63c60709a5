"""Pong's training throughput: the whole system, the bare sum of its parts, and a peer, in turns. Knows processes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from tests.bench.machine import ask
from tests.bench.rates import share
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
    alone = ask(["tests.bench.rates.actor_bare", "pong", str(bare_s)], 0)["bare"]
    parts = share.bare("pong", bare_s)
    both, run = parts["both_bare"], share.whole("pong", seconds)
    peer = ask(["tests.learning.peer_pixels", str(steps)])["steps_per_s"]
    shares = {"share": run / both, "alone": alone, "share_of_alone": run / (2.0 * alone)}
    return parts | shares | {"whole": run, "peer": peer, "times": run / peer}


def holds(records: Sequence[Record]) -> bool:
    """Whether the medians keep both bars, on no fewer rounds than there are."""
    if len(records) < ROUNDS:
        return False
    share, times = (median(record[field] for record in records) for field in ("share", "times"))
    return bool(share >= SHARE_BAR and times >= PEER_BAR)
