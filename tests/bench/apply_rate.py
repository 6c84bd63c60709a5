"""What it costs to judge, apply and log sparse updates: ``python -m tests.bench.apply_rate [SECONDS]``.

``Parameters`` as the math thread uses them, batches of eight, each a record: by number of parameters at equal k, by
staleness rule and by lag. Prints gradients per second.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from learner.config import LearnerSettings
from learner.norms import Screen
from learner.optimizer import make_optimizer
from learner.parameters import Job, Parameters
from learner.staleness import Rule, Scaling
from protocol.layout import Entry, Layout
from tests.bench.payloads import make_payloads

COUNT, BATCH = 1_700, 8  # coordinates of an update, and updates of a batch
LENGTHS = (100_000, 1_700_000, 10_000_000)
RULES: tuple[Scaling, ...] = ("accept", "compensate")
LAGS = (0, 2, 16)


def rate(length: int, scaling: Scaling, lag: int, seconds: float) -> float:
    """Gradients per second."""
    payloads = make_payloads("topk_i8", length, COUNT / length)
    theta = np.zeros(length, np.float32)
    optimizer = make_optimizer(LearnerSettings(), theta)
    layout = Layout((Entry("theta", (length,)),))
    parameters = Parameters(theta, 0, optimizer, Rule(scaling=scaling), Screen(1e9), layout)
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        jobs = []
        for version in range(parameters.version, parameters.version + BATCH):
            payload = payloads[version % len(payloads)]
            base = max(0, version - lag)
            jobs.append(Job(1, version, base, "topk_i8", length, payload.count, payload.buffer, None, 0.0))
        parameters.apply(jobs, 1e-3)
        parameters.record(1)
    return parameters.version / spent


def main() -> None:
    """Every combination."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    for length in LENGTHS:
        for scaling in RULES:
            for lag in LAGS:
                found = rate(length, scaling, lag, seconds)
                print(f"{length:>10,} parameters, {scaling}, lag {lag}: {found:,.0f} gradients/s", flush=True)


if __name__ == "__main__":
    main()
