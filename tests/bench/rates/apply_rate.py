"""What it costs to judge, apply and log updates: ``python -m tests.bench.rates.apply_rate [SECONDS]``.

``Parameters`` as the math thread uses them, batches of eight, each a record: by what arrives, by staleness rule and by
lag. Prints gradients per second of processor time, of some rounds the best: what else the machine does only takes away.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from learner.config import LearnerSettings
from learner.events import Job
from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import Rule, Scaling
from learner.stream.writer import StreamWriter
from protocol.layout import Entry, Layout
from tests.bench.rates.payloads import make_payloads

BATCH, ROUNDS, WARM = 8, 3, 1_100
LOADS = (  # parameters, codec, coordinates; the last two are what a sender may choose who wants to cost much
    (10_000, "topk_i8", 500),
    (100_000, "topk_i8", 1_700),
    (1_700_000, "topk_i8", 1_700),
    (1_700_000, "i8", 1_700_000),
    (10_000, "topk_i8", 0),
    (1_700_000, "topk_i8", 1),
)
CASES: tuple[tuple[Scaling, int], ...] = (
    ("none", 0),
    *(("compensate", lag) for lag in (0, 1, 16, 256, 1000)),
    *(("gap", lag) for lag in (0, 1, 1000)),
)


def rate(length: int, codec: str, count: int, scaling: Scaling, lag: int, seconds: float) -> float:
    """Gradients per second, of versions that all have ``lag`` versions before them, as far as ``seconds`` allow."""
    payloads = make_payloads(codec, length, count / length)
    theta = np.zeros(length, np.float32)
    optimizer = make_optimizer(LearnerSettings(), theta)
    layout = Layout((Entry("theta", (length,)),))
    parameters = Parameters(theta, 0, optimizer, Rule(scaling=scaling), NormCheck(1e9), layout)
    stream = StreamWriter(parameters, budgeted=False)

    def apply(lag: int) -> None:
        jobs = []
        for version in range(parameters.version, parameters.version + BATCH):
            payload, base = payloads[version % len(payloads)], max(0, version - lag)
            jobs.append(Job(1, version, base, codec, length, payload.count, payload.buffer, None, 0.0))
        stream.add(parameters.apply(jobs, 1e-3).applied)
        stream.record(1)

    began = time.process_time()
    while parameters.version < WARM and time.process_time() - began < seconds:
        apply(0)
    first, began = parameters.version, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        apply(lag)
    return (parameters.version - first) / spent


def main() -> None:
    """Every load under every rule and lag."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    for load in LOADS:
        rounds = [[rate(*load, *case, seconds) for case in CASES] for _ in range(ROUNDS)]
        for (scaling, lag), found in zip(CASES, map(max, zip(*rounds, strict=True)), strict=True):
            print(
                f"{load[0]:>9,} parameters, {load[1]} of {load[2]:,}, {scaling}, lag {lag}: {found:,.0f} /s", flush=True
            )


if __name__ == "__main__":
    main()
