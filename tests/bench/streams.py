"""What each codec costs and keeps of Pong gradients: ``python -m tests.bench.streams [SECONDS]`` writes STREAMS.md.

Gradients of the untrained A3C and Nature networks on a rollout of random play, preconditioned as actors do. For each
codec: bytes of a payload, milliseconds of choosing and encoding and of decoding on one core, and the relative error of
one payload without a residual before it. Sizes without `+zstd` and times hold for any gradient. The errors and what
`+zstd` saves are those of this moment: the first preconditioned updates are nearly all of one size or zero, so the
largest coordinates hold little of them, and they pack better than any later ones.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from actor.algorithms.gradients import gradient, minibatches
from actor.compression.compressor import Compressor
from actor.compression.preconditioner import Momentum, Preconditioner
from actor.compression.selection import make_selection
from actor.config import ActorSettings, read_settings
from learner import config
from learner.launch.experiment_file import load
from protocol.codecs.registry import CODECS, Floats, Sparse, codec
from protocol.layout import Layout
from protocol.shipped import named
from tests.bench.machine import description
from tests.bench.rates.actor_bare import Bare

NETWORKS = ("a3c", "nature")
DENSITIES = (0.01, 0.001)  # of sparse codecs
RANKS = (1, 4)
MESSAGE_BYTES = 120  # about what frames and the header of a gradient add; WIRE.md, section 2


@dataclass(frozen=True, slots=True)
class Way:
    """A codec and how much of a vector it takes."""

    name: str
    density: float = 1.0
    rank: int = 1

    def __str__(self) -> str:
        if codec(self.name).sparse:
            return f"{self.name}, {self.density:.1%}"
        return f"{self.name}, rank {self.rank}" if codec(self.name).selection == "rank" else self.name


def ways() -> list[Way]:
    """Every codec, the sparse ones at each density and low rank at each rank."""
    found = []
    for name, each in CODECS.items():
        if each.sparse:
            found += [Way(name, density=density) for density in DENSITIES]
        elif each.selection == "rank":
            found += [Way(name, rank=rank) for rank in RANKS]
        else:
            found.append(Way(name))
    return found


def gradients(network: str) -> tuple[list[Floats], Layout]:
    """One rollout's minibatch gradients, preconditioned."""
    settings = _settings(network)
    bare = Bare(settings)
    length, momentum = bare.flat.layout().length, Momentum(settings.beta1)
    preconditioner = Preconditioner(length, momentum, settings.beta2, settings.epsilon)
    shuffle = np.random.default_rng(0)
    made = []
    for minibatch in minibatches(bare.rollout, bare.targets, settings, shuffle):
        vector, _, _ = gradient(bare.flat, bare.policy, bare.method, minibatch, settings.max_gradient_norm)
        made.append(preconditioner.update(vector).copy())
    return made[1:], bare.flat.layout()  # the first step of any moment is a sign


def _settings(network: str) -> ActorSettings:
    experiment = load(named("pong"), [f"actor.network={network}", "actor.minibatches=9"], {})
    return read_settings(config.actor_table(experiment))


def measure(way: Way, vectors: list[Floats], layout: Layout, seconds: float) -> tuple[float, float, float, float]:
    """Bytes, ms to choose and encode, ms to decode, relative L2 error: medians."""
    shapes = [entry.shape for entry in layout.entries]
    selection = make_selection(codec(way.name), shapes, way.density, 0, way.rank, 0)
    made = Compressor(layout.length, way.name, selection, 0.0)  # a decay of 0: nothing is carried over
    rows: list[tuple[float, float, float, float]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(rows) < len(vectors):
        vector = vectors[len(rows) % len(vectors)]
        start = time.perf_counter()
        encoded = made.compress(vector)
        encoded_at = time.perf_counter()
        decoded = codec(way.name).decode(encoded.buffer, layout.length, encoded.count)
        ended = time.perf_counter()
        dense = decoded.dense() if isinstance(decoded, Sparse) else decoded
        error = float(np.linalg.norm(dense - vector) / np.linalg.norm(vector))
        rows.append((float(len(encoded.buffer)), 1e3 * (encoded_at - start), 1e3 * (ended - encoded_at), error))
    columns = [median(column) for column in zip(*rows, strict=True)]
    return columns[0], columns[1], columns[2], columns[3]


def table(network: str, seconds: float) -> list[str]:
    """The lines of one network."""
    vectors, layout = gradients(network)
    lines = [f"## {network}, {layout.length:,} parameters", ""]
    lines += ["| codec | bytes | times fewer than f32 | encode, ms | decode, ms | relative error |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for way in ways():
        size, encode_ms, decode_ms, error = measure(way, vectors, layout, seconds)
        fewer = (4 * layout.length + MESSAGE_BYTES) / (size + MESSAGE_BYTES)
        lines.append(f"| {way} | {size:,.0f} | {fewer:,.1f} | {encode_ms:.2f} | {decode_ms:.2f} | {error:.3f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def main() -> None:
    """Measures both networks."""
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    words = " ".join((__doc__ or "").split("\n\n")[1].split())
    lines = ["# Codecs on Pong's first gradients", "", words, "", f"Machine: {description()}", ""]
    for network in NETWORKS:
        lines += table(network, seconds)
    (Path(__file__).parent / "STREAMS.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
