"""Adam's direction of each gradient, with momentum as staleness allows it. Pure; its state is explicit. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from protocol.codecs.registry import Floats, Indices

LAG_MEMORY = 50  # gradients, of the running mean of staleness: lag differs from one to the next


class Momentum:
    """β1 as staleness allows it: asynchrony is itself momentum (Mitliagkas et al. 2016, theorem 1).

    A gradient that is spread over 1 / (1 - β1) others, each late by L updates, works for (1 + L) / (1 - β1) of them;
    that is kept from going beyond ``most_lag``, so β1 <= 1 - (1 + L) / most_lag.

    beta1: at most. most_lag: updates; 0 for no bound.
    """

    def __init__(self, beta1: float, most_lag: float = 0.0) -> None:
        self.most = self.beta1 = beta1
        self._most_lag = most_lag
        self._lag, self._lags_seen = 0.0, 0  # updates, the mean of the first LAG_MEMORY and a running one from there on

    def record_lags(self, lags_updates: Sequence[int]) -> None:
        """lags_updates: of the gradients that were answered since the last call."""
        if not (self._most_lag and lags_updates):
            return
        for lag in lags_updates:
            self._lags_seen += 1
            self._lag += (lag - self._lag) / min(self._lags_seen, LAG_MEMORY)
        self.beta1 = min(self.most, max(0.0, 1.0 - (1.0 + self._lag) / self._most_lag))


class Preconditioner:
    """The Adam direction m̂ / (sqrt(v̂) + ε) of each gradient (Kingma and Ba 2015, algorithm 1), without a rate.

    m and v are kept as plain sums, m_t = β1 m_{t-1} + g_t; what their factors add up to, (1 - β1^t) / (1 - β1) where β1
    stays, is one number at the end, which saves two passes. Where β1 can only be 0 there is no first moment.
    """

    def __init__(self, length: int, momentum: Momentum, beta2: float, epsilon: float) -> None:
        self.steps = 0
        self.momentum = momentum
        self._beta2, self._epsilon = beta2, epsilon
        self._first = np.zeros(length if momentum.most else 0, np.float32)
        self._factors = 0.0  # of the gradients in the first moment, added up
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

    def forget(self, indices: Indices) -> None:
        """Drops the momentum of coordinates that were sent: momentum factor masking (Lin et al. 2018, section 3.2).

        Their next update is (1 - β1) of what it would be with β1 = 0: the bias correction counts all steps.
        """
        if self.momentum.most:
            self._first[indices] = 0.0

    def _momentum(self, gradient: Floats) -> tuple[Floats, float]:
        """The sum m, and the factor that makes it m̂."""
        if not self.momentum.most:
            return gradient, 1.0
        beta1 = self.momentum.beta1
        self._first *= np.float32(beta1)
        self._first += gradient
        self._factors = beta1 * self._factors + 1.0
        return self._first, 1.0 / self._factors
