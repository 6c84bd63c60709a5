"""Gradients to feed a learner with, and what it costs to apply them when nothing else happens.

``python -m tests.bench.rates.payloads OPTIMIZER CODEC DENSITY P SECONDS`` decodes and applies in a bare loop, with the
functions that the learner uses, and prints one JSON object.
"""

from __future__ import annotations

import itertools
import json
import sys
import time

import numpy as np

from actor.compression.selection import make_selection
from learner.config import LearnerSettings, learner_settings
from learner.optim.optimizers import make_optimizer
from protocol.codecs.registry import Encoded, Sparse, codec

DIFFERENT = 8  # payloads sent in turns, so that not one of them stays in a cache
SIZE = 1e-3  # of a coordinate: an L2 norm of about one at a million parameters


def make_payloads(name: str, length: int, density: float) -> list[Encoded]:
    """Encoded vectors of ``length``; sparse ones carry ``density`` of their coordinates."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(DIFFERENT):
        vector = (SIZE * generator.standard_normal(length)).astype(np.float32)
        if codec(name).selection == "largest":
            chosen = np.sort(generator.choice(length, round(density * length), replace=False)).astype(np.int32)
            made.append(codec(name).encode(Sparse(length, chosen, vector[chosen])))
        else:
            made.append(codec(name).encode(make_selection(codec(name), [(length,)], density, 0, 1, 0).select(vector)))
    return made


def bare_rate(settings: LearnerSettings, name: str, density: float, length: int, seconds: float) -> float:
    """Gradients per second of decoding and the optimizer, in one loop."""
    payloads = itertools.cycle(make_payloads(name, length, density))
    read = codec(name).decode
    optimizer = make_optimizer(settings, np.zeros(length, np.float32))
    for payload in itertools.islice(payloads, DIFFERENT):
        optimizer.step(read(payload.buffer, length, payload.count, optimizer.scratch), 1e-6, 1.0)
    steps, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        payload = next(payloads)
        optimizer.step(read(payload.buffer, length, payload.count, optimizer.scratch), 1e-6, 1.0)
        steps += 1
    return steps / spent


if __name__ == "__main__":
    _, optimizer_name, codec_name, share, size, duration_s = sys.argv
    chosen_settings = learner_settings({"optimizer": optimizer_name})
    rate = bare_rate(chosen_settings, codec_name, float(share), int(size), float(duration_s))
    print(json.dumps({"bare": rate}))
