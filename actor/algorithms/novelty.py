"""A reward for what was seldom seen, by counting. Pure. Knows arrays; no simulator, no network.

Strehl and Littman 2008 (MBIE-EB) and Bellemare et al. 2016, equation 3: a step earns β / √n, where n is how often what
it led to was seen before, this time included. What is made of choices alone, and an image, is told apart by its bytes;
other vectors by the signs of random projections, which hold what is near each other for the same (Tang et al. 2017,
"SimHash").
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.spaces import Spaces

CELLS = 1 << 20  # counters: four megabytes, whatever is seen; what shares one counts as the same
BITS = 20  # signs of a vector: as many cells


class Novelty:
    """Counts of one actor: what the others see it does not know. weight: β, in the units that rewards are learnt in."""

    def __init__(self, weight: float, spaces: Spaces) -> None:
        self.weight = weight
        self._counts = np.zeros(CELLS, np.uint32)
        chosen = sum(count for _, count in spaces.choices)
        self._projections: NDArray[np.float32] | None = None
        if spaces.observation_type == "float32" and chosen < spaces.observation_size:
            fixed = np.random.default_rng(0)  # the same cells in every actor and every life
            self._projections = fixed.standard_normal((spaces.observation_size, BITS), np.float32)

    def bonuses(self, observations: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """observations: [T, B, *input_shape], what each step led to, as the policy sees it. counted: bool [T, B],
        where that belongs to the same episode. Returns float32 [T, B], 0 where it does not.
        """
        found = np.zeros(counted.shape, np.float32)
        cells = self._cells(observations[counted])
        kinds, which, times = np.unique(cells, return_inverse=True, return_counts=True)
        before = self._counts[kinds]
        self._counts[kinds] = np.minimum(before.astype(np.uint64) + times, np.iinfo(np.uint32).max)
        order = np.argsort(which, kind="stable")  # of the rows with one cell each is one later than the last
        nth = np.empty(len(cells), np.int64)
        nth[order] = np.arange(len(cells)) - np.repeat(np.cumsum(times) - times, times)
        found[counted] = self.weight / np.sqrt(before[which] + nth + 1.0)
        return found

    def _cells(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """rows: [N, *input_shape]. Returns int64 [N], each below CELLS."""
        if self._projections is None:
            return np.array([zlib.crc32(row.tobytes()) % CELLS for row in rows], np.int64)
        signs = rows.reshape(len(rows), -1) @ self._projections > 0.0
        cells: NDArray[np.int64] = signs @ (1 << np.arange(BITS))
        return cells
