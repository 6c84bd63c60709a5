"""Keeps what of each gradient was not sent for next time. Pure; its state is explicit. numpy only.

Precondition, then select: the Adam direction of each gradient is added to a residual; a part of the residual is sent
(``selection.py`` says which) and what was sent is taken off, to the bit (Stich et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from actor.compression.preconditioner import Preconditioner
from actor.compression.selection import Selection
from protocol.codecs.registry import Array, Encoded, Floats, Sparse, codec
from protocol.codecs.vectors import finite


class Compressor:
    """Gradients in, payloads out; what a payload does not carry waits in ``residual``.

    residual: float32 [P]; ``compress`` leaves fl(before - decoded) where it sent something, and the rest untouched
    selection: what is sent of it, fit for the codec
    residual_decay: multiplies the residual at every message, before what that is made of is added; 1 forgets nothing
    preconditioner: None where the learner runs the optimizer
    masks_momentum: whether the preconditioner drops the momentum of the coordinates that were sent
    """

    def __init__(
        self,
        length: int,
        codec_name: str,
        selection: Selection,
        residual_decay: float,
        preconditioner: Preconditioner | None = None,
        *,
        masks_momentum: bool = False,
    ) -> None:
        self.set_codec(codec_name, selection)
        self.residual: Floats = np.zeros(length, np.float32)
        self._decay = np.float32(residual_decay)
        self._preconditioner, self._masks_momentum = preconditioner, masks_momentum
        self._empty = True  # the residual is zero all over
        self._arrived: Floats | None = None  # the newest update, until the next overwrites it

    def set_codec(self, codec_name: str, selection: Selection) -> None:
        """From the next gradient on; what was held back until now goes with it."""
        self.codec, self._selection = codec(codec_name), selection

    def record_lags(self, lags_updates: Sequence[int]) -> None:
        """Fits momentum to the staleness of the gradients that were answered since the last call."""
        if self._preconditioner is not None:
            self._preconditioner.momentum.record_lags(lags_updates)

    @property
    def beta1(self) -> float:
        """Of the next update; 0 where the learner runs the optimizer."""
        return 0.0 if self._preconditioner is None else self._preconditioner.momentum.beta1

    def compress(self, gradient: Floats, step_size: float = 1.0) -> Encoded:
        """gradient: float32 [P]. step_size: multiplies the preconditioned update, and nothing where there is none.

        Raises ValueError, with no state changed, where the gradient holds NaN or infinity.
        """
        return self.send(self.precondition(gradient, step_size))

    def precondition(self, gradient: Floats, step_size: float = 1.0) -> Floats:
        """The update of a gradient, float32 [P], which the next call overwrites. Arguments, errors: as ``compress``."""
        if not finite(gradient):
            raise ValueError("a gradient with NaN or infinity")
        if self._preconditioner is None:
            return gradient
        update = self._preconditioner.update(gradient)
        if step_size != 1.0:
            update *= np.float32(step_size)
        return update

    def send(self, update: Floats) -> Encoded:
        """What is sent of an update, or of a sum of them, and of what was held back before. update: float32 [P]."""
        self._arrived = update
        if self.codec.exact and self._empty:
            return self.codec.encode(update)  # nothing is held back, and nothing will be
        self._accumulate(update)
        encoded = self.codec.encode(self._selection.select(self.residual))
        self._subtract(encoded.decoded)
        return encoded

    def hold(self, update: Floats) -> None:
        """Keeps an update, float32 [P], for later."""
        self._accumulate(update)
        self._empty = False

    def restore(self, decoded: Array) -> None:
        """Put back what ``compress`` sent and the learner did not apply."""
        if isinstance(decoded, Sparse):
            self.residual[decoded.indices] += decoded.values
        else:
            self.residual += decoded
        self._empty = False

    def compress_residual(self, codec_name: str, selection: Selection) -> Encoded | None:
        """What ``selection`` takes of all that is held back, where no gradient follows; None where that is nothing."""
        if self._empty or not self.residual.any():
            return None
        encoded = codec(codec_name).encode(selection.select(self.residual))
        if isinstance(encoded.decoded, Sparse):
            self.residual[encoded.decoded.indices] -= encoded.decoded.values
        else:
            self.residual -= encoded.decoded
        return encoded

    @property
    def residual_age(self) -> float:
        """How many messages what is held back has waited, on average: what is held over what comes in with each, by
        magnitude (Little 1961). 0 before the first message and where it was of nothing.
        """
        arriving = 0.0 if self._arrived is None else float(np.abs(self._arrived).sum(dtype=np.float64))
        return float(np.abs(self.residual).sum(dtype=np.float64)) / arriving if arriving else 0.0

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

    def _subtract(self, sent: Array) -> None:
        self._empty = self.codec.exact
        if isinstance(sent, Sparse):
            self.residual[sent.indices] -= sent.values
            if self._masks_momentum and self._preconditioner is not None:
                self._preconditioner.forget(sent.indices)
        elif self.codec.exact:
            self.residual.fill(0.0)
        else:
            self.residual -= sent
