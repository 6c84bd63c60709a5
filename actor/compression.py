"""Chooses what of a gradient to send, and keeps the rest for next time. Pure; its state is explicit. numpy only.

Precondition, then select: the Adam direction of each gradient is added to a residual; the largest coordinates of the
residual are sent and what was sent is taken off, to the bit (WIRE.md, section 4; Stich et al. 2018 for the residual).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocol.codecs import Array, Encoded, Floats, Indices, Sparse, codec

_SAMPLED_ABOVE = 4096  # below this many coordinates a whole partition is cheaper than a sample and its candidates
_SAMPLE = 2048  # coordinates looked at, or one in 64 of a long vector: the estimate is within a few percent
_SAMPLE_SHARE = 64


class Preconditioner:
    """The Adam direction m̂ / (sqrt(v̂) + ε) of each gradient (Kingma and Ba 2015, algorithm 1), without a rate.

    m and v are kept as plain sums, m_t = β1 m_{t-1} + g_t; the factors (1 - β) and the bias corrections are two
    numbers at the end, which saves two passes. With β1 = 0 there is no first moment.
    """

    def __init__(self, length: int, beta1: float, beta2: float, epsilon: float) -> None:
        self.steps = 0
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._first = np.zeros(length if beta1 else 0, np.float32)
        self._second = np.zeros(length, np.float32)
        self._scratch = np.empty(length, np.float32)

    def update(self, gradient: Floats) -> Floats:
        """gradient: float32 [P], finite. Gives float32 [P], which the next call overwrites."""
        self.steps += 1
        scratch = self._scratch
        np.multiply(gradient, gradient, out=scratch)
        self._second *= np.float32(self._beta2)
        self._second += scratch
        np.sqrt(self._second, out=scratch)
        first, correction = self._momentum(gradient)
        root = math.sqrt((1.0 - self._beta2) / (1.0 - self._beta2**self.steps))
        scratch *= np.float32(root / correction)
        scratch += np.float32(self._epsilon / correction)
        return np.divide(first, scratch, out=scratch)

    def _momentum(self, gradient: Floats) -> tuple[Floats, float]:
        """The sum m, and the factor that makes it m̂."""
        if not self._beta1:
            return gradient, 1.0
        self._first *= np.float32(self._beta1)
        self._first += gradient
        return self._first, (1.0 - self._beta1) / (1.0 - self._beta1**self.steps)


class Compressor:
    """Gradients in, payloads out; what a payload does not carry waits in ``residual``.

    residual: float32 [P]; ``compress`` leaves fl(before - decoded) where it sent something, and the rest untouched
    density: share of P that a sparse codec sends, at least one coordinate; zeros are never sent
    residual_decay: multiplies the residual at every gradient, before that is added; 1 forgets nothing
    preconditioner: None where the learner runs the optimizer
    """

    def __init__(
        self,
        length: int,
        codec_name: str,
        density: float,
        residual_decay: float,
        preconditioner: Preconditioner | None = None,
    ) -> None:
        self.codec = codec(codec_name)
        self.length = length
        self.residual: Floats = np.zeros(length, np.float32)
        self._kept = max(1, round(density * length))
        self._decay = np.float32(residual_decay)
        self._preconditioner = preconditioner
        self._magnitudes = np.empty(length if self.codec.sparse else 0, np.float32)
        self._empty = True  # the residual is zero all over

    def compress(self, gradient: Floats, length: float = 1.0) -> Encoded:
        """gradient: float32 [P]. length: multiplies the preconditioned update, so it is only heard where there is one.

        Raises ValueError, with no state changed, where the gradient holds NaN or infinity.
        """
        if not _finite(gradient):
            raise ValueError("a gradient with NaN or infinity")
        update = gradient
        if self._preconditioner is not None:
            update = self._preconditioner.update(gradient)
            if length != 1.0:
                update *= np.float32(length)
        self._accumulate(update)
        return self._send_some() if self.codec.sparse else self._send_all()

    def restore(self, decoded: Array) -> None:
        """Put back what ``compress`` sent and the learner did not apply."""
        if isinstance(decoded, Sparse):
            self.residual[decoded.indices] += decoded.values
        else:
            self.residual += decoded
        self._empty = False

    @property
    def residual_norm(self) -> float:
        """L2 norm of what is held back."""
        return math.sqrt(float(np.dot(self.residual, self.residual)))

    def _accumulate(self, update: Floats) -> None:
        if self._empty:
            self.residual[...] = update  # adding to zero would lose the sign of a zero
            return
        if self._decay != 1.0:
            self.residual *= self._decay
        self.residual += update

    def _send_all(self) -> Encoded:
        encoded = self.codec.encode(self.residual)
        assert not isinstance(encoded.decoded, Sparse)
        if self.codec.exact:
            self.residual.fill(0.0)
        else:
            self.residual -= encoded.decoded
        self._empty = self.codec.exact
        return encoded

    def _send_some(self) -> Encoded:
        indices = largest(self.residual, self._kept, self._magnitudes)
        values = self.residual[indices]
        encoded = self.codec.encode(Sparse(self.length, indices, values))
        assert isinstance(encoded.decoded, Sparse)
        values -= encoded.decoded.values
        self.residual[indices] = values
        self._empty = False
        return encoded


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


def _finite(vector: Floats) -> bool:
    """One pass where all is well; squares of finite numbers may overflow, so only then look at each."""
    return math.isfinite(float(np.vdot(vector, vector))) or bool(np.isfinite(vector).all())
