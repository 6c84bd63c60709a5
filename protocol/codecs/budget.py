"""What so many bytes can say of a vector: all of it, or the coordinates that are largest. Pure. Knows codecs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.codecs.vectors import Floats, Indices

THIN = "topk_i8"  # what carries some coordinates
LEVEL_BYTES = 1.02  # of THIN's coordinates: a level and a share of a scale; a gap comes besides
LEAST_COORDINATES = 64  # or an eighth of a short vector
_SAMPLED_ABOVE = 4096  # below this many coordinates a whole partition is cheaper than a sample and its candidates
_SAMPLE = 2048  # coordinates looked at, or one in 64 of a long vector: the estimate is within a few percent
_SAMPLE_SHARE = 64


@dataclass(frozen=True, slots=True)
class Fit:
    """A codec and, for a sparse one, its density."""

    codec: str
    density: float = 1.0


def fit(allowed_bytes: float, length: int) -> Fit:
    """The most of ``length`` coordinates that so many bytes can say: all as they are, all in 8 bits, or the largest."""
    if allowed_bytes >= 4 * length:
        return Fit("f32")
    if allowed_bytes >= LEVEL_BYTES * length:
        return Fit("i8")
    least = min(LEAST_COORDINATES, max(1, length // 8))
    allowed_bytes = max(allowed_bytes, least * LEVEL_BYTES)
    count = allowed_bytes / _coordinate_bytes(allowed_bytes / (2.0 * length))
    return Fit(THIN, max(count, least) / length)


def _coordinate_bytes(density: float) -> float:
    """Of THIN at about this density: random gaps of one byte and an escape for each 255, or of two (WIRE.md, 4)."""
    narrow = math.exp(-255.0 * density)
    return LEVEL_BYTES + min(1.0 + narrow / (1.0 - narrow), 2.0)


def largest(vector: Floats, k: int, scratch: Floats) -> Indices:
    """Indices of the k coordinates of largest magnitude, int32 [<= k], increasing; of equals the first; no zeros.

    vector, scratch: float32 [P]; scratch is overwritten. Exact: a sample gives a threshold that a few more than k
    pass, and only those are partitioned. Where fewer than k pass, the whole vector is.
    """
    magnitudes = np.abs(vector, out=scratch)
    if k >= len(vector):
        return np.flatnonzero(magnitudes).astype(np.int32)
    if len(vector) > _SAMPLED_ABOVE:
        threshold = _sampled_threshold(magnitudes, k)
        candidates = np.flatnonzero(magnitudes >= threshold) if threshold > 0.0 else _NONE
        if len(candidates) >= k:
            return candidates[_top(magnitudes[candidates], k)].astype(np.int32)
    return _top(magnitudes, k).astype(np.int32)


_NONE = np.empty(0, np.intp)


def _sampled_threshold(magnitudes: Floats, k: int) -> float:
    """A magnitude that somewhat more than k coordinates reach, as far as an even sample can tell."""
    stride = max(3, len(magnitudes) // max(_SAMPLE, len(magnitudes) // _SAMPLE_SHARE)) | 1  # odd: no row length divides
    sample = magnitudes[::stride].copy()
    expected = k / stride
    rank = int(expected + 3.0 * math.sqrt(expected)) + 2
    if rank >= len(sample):
        return 0.0
    sample.partition(len(sample) - rank)
    return float(sample[len(sample) - rank])


def _top(magnitudes: Floats, k: int) -> NDArray[np.intp]:
    """Positions of the k largest, increasing; of those equal to the smallest, the first. Zeros are left out."""
    threshold = np.partition(magnitudes, len(magnitudes) - k)[len(magnitudes) - k]
    if threshold == 0.0:
        return np.flatnonzero(magnitudes)
    chosen = np.flatnonzero(magnitudes >= threshold)
    if len(chosen) == k:
        return chosen
    ties = np.flatnonzero(magnitudes[chosen] == threshold)
    return np.delete(chosen, ties[len(ties) - (len(chosen) - k) :])
