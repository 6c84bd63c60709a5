"""What a network of one's own costs an actor: ``python -m tests.bench.rates.own_network [SECONDS]``.

The same networks twice, built in and written anew as a user would: environment steps per second of processor time of
the actor's own worker at a channel that answers at once, in turns on one core. Prints a line of JSON for each.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from protocol.process.threads import limit_threads

SLICES = 12
MODULE = "tests.bench.rates.own_network"
# What both have: the experiment, settings of the built-in network, and the name of its twin.
TWINS: dict[str, tuple[str, Sequence[str], str]] = {
    "mlp with norms": ("cartpole", ("actor.layer_norm=true", "actor.shared_trunk=true"), "norms"),
    "mlp with a memory": ("cartpole", ("actor.memory=gru", "actor.minibatches=2"), "layers"),
    "convolutions": ("pong", ("actor.precision=fp32", "actor.network=a3c"), "convolutions"),
}


def norms(spec: Any) -> Any:
    """The hidden layers of ``actor.layer_norm``."""
    return _layers(spec, normed=True)


def layers(spec: Any) -> Any:
    """The same without norms."""
    return _layers(spec, normed=False)


def _layers(spec: Any, *, normed: bool) -> Any:
    from torch import nn

    parts: list[nn.Module] = []
    width = math.prod(spec.observation_shape)
    for _ in range(2):
        parts += [nn.Linear(width, 64), *([nn.LayerNorm(64)] if normed else []), nn.Tanh()]
        width = 64
    return nn.Sequential(*parts)


def convolutions(spec: Any) -> Any:
    """``actor.network = "a3c"`` as its paper has it, channels first."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(spec.observation_shape[0], 16, 8, 4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 9 * 9, 256),
        nn.ReLU(),
    )


def measure(name: str, seconds: float) -> dict[str, Any]:
    """Medians over slices in turns, so that a change of the machine's pace falls on both."""
    from learner.launch.experiment_file import load
    from protocol.shipped import named
    from tests.bench.rates.actor_bare import Alone

    shipped, built_in, twin = TWINS[name]
    kept = [setting for setting in built_in if not setting.startswith(("actor.layer", "actor.shared", "actor.network"))]
    kept = [setting for setting in kept if not setting.startswith("actor.precision")]
    alone = [
        Alone(load(named(shipped), built_in, {})),
        Alone(load(named(shipped), [*kept, f"actor.network={MODULE}:{twin}"], {}), frozenset({MODULE})),
    ]
    rates = [[_rate(one, seconds / SLICES / 2) for one in alone] for _ in range(SLICES)]
    ours, own = (median(column) for column in zip(*rates, strict=True))
    ratio = median(theirs / our for our, theirs in rates)
    return {"network": name, "built_in": round(ours), "own": round(own), "own_of_built_in": round(ratio, 3)}


def _rate(alone: Any, seconds: float) -> float:
    """Steps per second that this process was on a core."""
    wall, busy = time.perf_counter(), time.process_time()
    rate: float = alone.rate(seconds)
    return rate * (time.perf_counter() - wall) / (time.process_time() - busy)


if __name__ == "__main__":
    limit_threads(os.environ)  # before torch
    for each in TWINS:
        print(json.dumps(measure(each, float(sys.argv[1]) if len(sys.argv) > 1 else 40.0)), flush=True)
