"""How much of a message is noise, from how far messages of different senders agree. Pure; runs on the math thread.

For two independent messages u and u' that were computed near the same θ, E[u · u'] = |signal|², and E|u|² is that and
the noise. So one message's noise scale, in messages, is (E|u|² - E[u · u']) / E[u · u']: so many have to be averaged
until what is left of the noise is as large as the signal (McCandlish et al. 2018, "An Empirical Model of Large-Batch
Training", appendix A, the simple noise scale). Both means are running ones, taken apart, since a mean of ratios is
another number.

What is measured is messages as senders make them. They are not gradients:

* The largest coordinates, with error feedback (top-k). A coordinate is sent every few messages, with all that came
  together meanwhile. So |u|² counts sums, and whose turn it is looks like noise, which over many messages it is not.
  Where all coordinates hold as much signal the estimate never falls below about 1 / density, 20 messages with a density
  of 5 %. Where few of them hold most, as in networks, it is a few messages too high. A noise scale of some hundred
  messages it finds. A residual that fades never sends some of the signal and some of the noise: up to a third off,
  either way (tests/learner/optim/test_noise_scale.py).
* Momentum. One sender's messages resemble each other, so averaging those takes away less than this promises.
* Staleness. Two messages are a few versions apart, and their signals differ by what θ moved: a little too high.

Work is bounded by count. A message that comes alone is looked at, for then the math thread has time; of those that come
together one in EVERY. A look costs O(k log k), and a lone sender one copy every APART versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from learner.events import NoiseEstimate
from learner.progress import MEMORY, FadingMean
from protocol.codecs.registry import Array, Floats, Sparse

EVERY = 16  # messages, where they wait for each other: a look costs half of what applying one does, so a thirtieth
APART = 32  # versions at most between the two of a pair; learner.credit_lag lets weights lack as many
LEAST_PAIRS = 32  # before these the mean of u · u' is mostly chance
SURE = 2.0  # standard errors that the signal has to be above zero


@dataclass(frozen=True, slots=True)
class _Held:
    """A message that waits for one of another session. value: nobody writes to it. square: |u|². version: of θ when it
    was applied.
    """

    session: int
    value: Array
    square: float
    version: int


class NoiseScale:
    """Of the messages of one life of the learner."""

    def __init__(self) -> None:
        self._squares, self._products, self._product_squares = FadingMean(), FadingMean(), FadingMean()
        self._held: _Held | None = None
        self._passed, self._every = 0, 1  # messages since the last that was looked at, and how many have to

    def begin_batch(self, messages: int) -> None:
        """So many come together, and may be observed."""
        self._every = 1 if messages == 1 else EVERY

    def observe(self, session: int, value: Array, version: int) -> None:
        """A message is applied to this version. value: float32 [P] or Sparse of k, finite; may be written to later."""
        self._passed += 1
        held = self._held
        if held is not None and version - held.version > APART:
            held = None
        if held is not None and (held.session == session or self._passed < self._every):
            return
        numbers = value.values if isinstance(value, Sparse) else value
        with np.errstate(over="ignore", invalid="ignore"):  # of float32, above a norm of 1e19
            square = float(np.dot(numbers, numbers))
            product = 0.0 if held is None else dot(held.value, value)
        if held is not None and math.isfinite(held.square + square + product):
            self._squares.add((held.square + square) / 2)
            self._products.add(product)
            self._product_squares.add(product * product)
        self._passed = 0
        self._held = _Held(session, value if isinstance(value, Sparse) else value.copy(), square, version)

    def estimate(self) -> NoiseEstimate | None:
        """None before there were LEAST_PAIRS, or where nothing but zeros came."""
        pairs, square = self._products.count, self._squares.value
        if pairs < LEAST_PAIRS or not square > 0.0:
            return None
        signal = self._products.value
        spread = max(0.0, self._product_squares.value - signal * signal)
        error = math.sqrt(spread / min(pairs, 2 * MEMORY))  # a fading mean of MEMORY is worth twice as many
        told = signal > SURE * error
        likely = min(square, signal if told else max(signal, 0.0) + SURE * error)
        return NoiseEstimate((square - likely) / likely, told) if likely > 0.0 else None


def dot(one: Array, other: Array) -> float:
    """u · u' of any two values of one length, over the coordinates that both carry. O(k log k') for k <= k'."""
    if isinstance(one, Sparse):
        return _shared(one, other) if isinstance(other, Sparse) else float(np.dot(one.values, other[one.indices]))
    return float(np.dot(one[other.indices], other.values)) if isinstance(other, Sparse) else float(np.dot(one, other))


def _shared(one: Sparse, other: Sparse) -> float:
    """Their indices ascend."""
    few, many = (one, other) if len(one.indices) <= len(other.indices) else (other, one)
    if not len(many.indices):
        return 0.0
    places = np.minimum(np.searchsorted(many.indices, few.indices), len(many.indices) - 1)
    both = many.indices[places] == few.indices
    values: Floats = many.values[places]
    return float(np.dot(values[both], few.values[both]))
