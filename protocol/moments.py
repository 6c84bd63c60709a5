"""Running mean and spread of what actors normalise, and their bytes on the wire. Pure. Knows numbers, not environments.

A row holds the observation's numbers, then, where returns are normalised, one more: the running discounted return.
Actors send the moments of one rollout, the learner merges them, snapshots carry the whole back (WIRE.md, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.buffers import MAX_MOMENTS_BYTES, Buffer, size_of
from protocol.errors import PayloadFault, Reason

MOMENT_BYTES = 16  # of one number: its mean and its m2
MAX_OBSERVATION = MAX_MOMENTS_BYTES // MOMENT_BYTES  # numbers in one row; an image has one, for all its pixels
MAX_ROWS = (1 << 53) - 1  # what a header's counter holds
MERGED, FRESH = 4.0, 2.0  # of the mean square: fresh rows have room, and so has whatever is merged of them
MAX_MEAN_SQUARE = float(np.finfo(np.float32).max) ** 2  # of observations, which are float32


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Statistics of ``count`` rows of D numbers: "observations", as the wire calls whatever is in them.

    count: rows seen, >= 0
    mean: float64 [D], their mean
    m2: float64 [D], the sum of squared deviations from it, >= 0
    """

    count: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    @classmethod
    def empty(cls, size: int) -> Moments:
        """Of no observations of ``size`` numbers."""
        return cls(0, np.zeros(size), np.zeros(size))

    @property
    def size(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def mean_square(self) -> NDArray[np.float64]:
        """Of each number over all rows, float64 [D]. A merge's lies between those of its operands."""
        with np.errstate(over="ignore"):
            return self.m2 / max(1, self.count) + np.square(self.mean)

    def merge(self, other: Moments) -> Moments:
        """Of both sets of rows together: Chan, Golub and LeVeque 1983, equation 2.1. Neither operand changes.

        Beyond MAX_ROWS the mean and the variance go on as if there had been as many, so that a snapshot can say it.
        """
        if not other.count:
            return self
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + np.square(delta) * (self.count * (other.count / count))
        if count <= MAX_ROWS:
            return Moments(count, mean, m2)
        return Moments(MAX_ROWS, mean, m2 * (MAX_ROWS / count))

    def scale(self, epsilon: float = 1e-8) -> NDArray[np.float32]:
        """1 / sqrt(variance + epsilon), float32 [D]: what a normaliser multiplies by. All ones before any row."""
        if not self.count:
            return np.ones(self.size, np.float32)
        return (1.0 / np.sqrt(self.m2 / self.count + epsilon)).astype(np.float32)

    def to_buffer(self) -> bytes:
        """mean, then m2, little-endian float64; the count travels in the header."""
        return self.mean.astype("<f8", copy=False).tobytes() + self.m2.astype("<f8", copy=False).tobytes()

    @classmethod
    def from_buffer(cls, buffer: Buffer, count: int, size: int | None = None, slack: float = MERGED) -> Moments:
        """What ``to_buffer`` wrote, in owned arrays. size: D where the reader already knows it. slack: for rounding.

        Raises PayloadFault: malformed_payload for another size or numbers that no float32 rows have; not_finite.
        """
        given = size_of(buffer)
        if given % 16 or not 0 < given <= MAX_MOMENTS_BYTES or (size is not None and given != 16 * size):
            raise PayloadFault(Reason.MALFORMED_PAYLOAD, f"moments of {given} bytes, expected 16 per number")
        mean, m2 = np.frombuffer(buffer, "<f8").astype(np.float64).reshape(2, -1)
        if not (np.isfinite(mean).all() and np.isfinite(m2).all()):
            raise PayloadFault(Reason.NOT_FINITE, "moments hold NaN or infinity")
        moments = cls(count, mean, m2)
        if count < 1 or (m2 < 0).any() or (moments.mean_square > slack * MAX_MEAN_SQUARE).any():
            raise PayloadFault(Reason.MALFORMED_PAYLOAD, f"moments that no {count} rows of float32 have")
        return moments
