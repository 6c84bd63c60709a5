"""Gradients per second that a real learner applies, fed by another process, beside decoding and applying them bare.

``learner run`` with a network of the size wanted, its own sockets, ledger, admission, verdicts and weight stream; the
bare loop decodes the same payloads and steps the same optimizer. The system places learner and feeder.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machine import ask, mean
from tests.bench.rates.live import Learner
from tests.bench.store import Record, Store

SESSIONS, CREDIT = 4, 16  # 64 gradients under way, as of a fleet
ROUNDS, SECONDS = 5, 5.0
QUICK_ROUNDS, QUICK_S = 1, 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. hidden: width of both hidden layers, which sets P. judged: held to the bar of 0.8."""

    name: str
    hidden: int
    optimizer: str
    codec: str
    density: float
    judged: bool

    @property
    def parameters(self) -> int:
        """P of CartPole's two trunks: 4 numbers in, 2 logits and 1 value out."""
        return 2 * (4 * self.hidden + self.hidden + self.hidden**2 + self.hidden) + 3 * self.hidden + 3


CASES = (
    Case("10 k, i8, Adam", 67, "adam", "i8", 1.0, True),
    Case("1.7 M, i8, Adam", 920, "adam", "i8", 1.0, True),
    Case("10 k, topk_i8 5 %, preconditioned", 67, "preconditioned", "topk_i8", 0.05, True),
    Case("1.7 M, topk_i8 1 %, preconditioned", 920, "preconditioned", "topk_i8", 0.01, True),
)


def measure(store: Store, *, quick: bool) -> None:
    """All cases, real and bare in turns."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_S) if quick else (ROUNDS, SECONDS)
    for number in range(rounds):
        for case in CASES:
            key = {"case": case.name, "round": number}
            store.once(key, lambda case=case: _round(case, seconds))  # type: ignore[misc]


def _round(case: Case, seconds: float) -> Record:
    """Bare before and after, so that a machine that changes its pace does it to both."""
    before = _bare(case, seconds / 2)
    real = _real(case, seconds)
    return real | mean(before, _bare(case, seconds / 2)) | {"judged": case.judged}


def _bare(case: Case, seconds: float) -> Record:
    load = [case.optimizer, case.codec, str(case.density), str(case.parameters), str(seconds)]
    return ask(["tests.bench.rates.payloads", *load])


def _real(case: Case, seconds: float) -> Record:
    settings = (
        f"actor.hidden=[{case.hidden}, {case.hidden}]",
        f"actor.codec={case.codec}",
        f"learner.optimizer={case.optimizer}",
        f"learner.credit={CREDIT}",
    )
    with tempfile.TemporaryDirectory(prefix="farflung-bench-") as folder:
        with Learner(["cartpole"], settings, Path(folder)) as learner:
            load = [learner.address, case.codec, str(case.density), str(SESSIONS), str(seconds)]
            fed = ask(["tests.bench.rates.feeder", *load])
        result = learner.result()
    assert fed["parameters"] == case.parameters
    return fed | {"batch_math_us": 1e6 * result["math_s"] / max(1, result["version"])}
