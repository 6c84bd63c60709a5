"""Which part of a vector is sent: all of it, its largest coordinates, random ones, or factors of low rank. Pure.

One way for each ``Codec.selection``; what a selection remembers from vector to vector is in its object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from protocol.codecs.budget import largest
from protocol.codecs.registry import Array, Codec, Factors, Floats, Sparse
from protocol.codecs.sparse import SEEDS, random_indices

RANDOM_BRANCH, RANK_BRANCH = 4, 5  # of the session's seed; simulators, rollouts and methods have those below

Shape = tuple[int, ...]


class Selection(Protocol):
    """What is sent of a residual, float32 [P], which is not changed."""

    def select(self, residual: Floats) -> Array | Factors: ...


def make_selection(
    codec: Codec, shapes: Sequence[Shape], density: float, warmup: int, rank: int, seed: int
) -> Selection:
    """How this codec's values are chosen. shapes: of the layout's arrays, in order; the rest as in ActorSettings."""
    length = sum(map(math.prod, shapes))
    if codec.selection == "largest":
        return Largest(length, Density(length, density, warmup))
    if codec.selection == "random":
        return Random(Density(length, density, warmup), seed)
    if codec.selection == "rank":
        return PowerStep(shapes, rank, seed)
    return Everything()


class Everything:
    """The whole vector."""

    def select(self, residual: Floats) -> Floats:
        """Selection.select."""
        return residual


class Density:
    """How many coordinates go next: a share of P, at least one.

    The first ``warmup`` gradients, which change fastest, send more: from gradient to gradient the share falls
    geometrically to ``density`` (Lin et al. 2018, Deep Gradient Compression, section 3.3).

    share: ``density``; may be set between gradients.
    """

    def __init__(self, length: int, density: float, warmup: int) -> None:
        self.share = density
        self._length, self._warmup = length, warmup
        self._sent = 0

    def next(self) -> int:
        """Counts one gradient."""
        self._sent += 1
        share = math.pow(self.share, min(1.0, self._sent / (self._warmup + 1)))
        return max(1, round(share * self._length))


class Largest:
    """The coordinates of largest magnitude; zeros are never sent."""

    def __init__(self, length: int, density: Density) -> None:
        self._density, self._magnitudes = density, np.empty(length, np.float32)

    def select(self, residual: Floats) -> Sparse:
        """Selection.select."""
        indices = largest(residual, self._density.next(), self._magnitudes)
        return Sparse(len(residual), indices, residual[indices])


class Random:
    """Coordinates drawn from the next seed of a sequence, whatever they hold."""

    def __init__(self, density: Density, seed: int) -> None:
        self._density = density
        self._seeds = np.random.default_rng([seed, RANDOM_BRANCH])

    def select(self, residual: Floats) -> Sparse:
        """Selection.select."""
        seed = int(self._seeds.integers(SEEDS - 1, dtype=np.uint64, endpoint=True))
        indices = random_indices(seed, len(residual), self._density.next())
        return Sparse(len(residual), indices, residual[indices], seed)


class PowerStep:
    """One step of the power method for each matrix, from where the last one ended (Vogels et al. 2019, algorithm 1).

    An array of more than two dimensions is the matrix of its first by all others. What would be larger as factors is
    sent as it is.
    """

    def __init__(self, shapes: Sequence[Shape], rank: int, seed: int) -> None:
        generator = np.random.default_rng([seed, RANK_BRANCH])
        self._sizes = [(shape[0] if shape else 1, math.prod(shape[1:])) for shape in shapes]
        self._rights = [
            generator.standard_normal((columns, rank)).astype(np.float32)
            if rank * (rows + columns) < rows * columns
            else None
            for rows, columns in self._sizes
        ]

    def select(self, residual: Floats) -> Factors:
        """Selection.select."""
        runs: list[tuple[Floats, Floats] | Floats] = []
        start = 0
        for number, (rows, columns) in enumerate(self._sizes):
            run = residual[start : start + rows * columns]
            start += rows * columns
            right = self._rights[number]
            runs.append(run if right is None else self._factor(number, run.reshape(rows, columns), right))
        return Factors(len(residual), tuple(runs))

    def _factor(self, number: int, matrix: Floats, right: Floats) -> tuple[Floats, Floats]:
        left = np.linalg.qr(matrix @ right)[0]
        right = matrix.T @ left
        largest_number = np.abs(right).max()
        if largest_number > 0.0:  # a start of nothing would stay nothing, and one that is not rescaled becomes that
            self._rights[number] = right / largest_number
        return left, right
