"""What a network's outputs mean as a policy: draws, probabilities and their gradients. Pure. Knows numbers.

outputs: float32 [N, K], from the network. actions: [N, width], int64 or, for a Box, float32. Gradients are written out
instead of recorded in a graph: for a minibatch of a few hundred samples the graph cost as much as the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actor.networks.policy import Array
from actor.spaces import Actions

Floats = NDArray[np.float32]
HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)
SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
# Chebyshev series of P in erfc(y) = t exp(P(t) - y²), t = 2/(2 + y), y >= 0: Press et al. 2007, section 6.2.2, with as
# many terms as an error of 1e-9 needs.
ERFC_SERIES = (
    *(-0.65132685989, 0.64196979236, 0.01947647320, -0.00956151479, -0.00094659534, 0.00036683950, 0.00004252332),
    *(-2.027857811e-5, -1.624290005e-6, 1.303655835e-6, 1.562644e-8, -8.523810e-8, 6.52905e-9, 5.05934e-9),
)
LOG_DEVIATIONS = (-5.0, 2.0)  # outside, a Gaussian is a point or a shrug: it acts as at the limit, and is let back in


class Likelihood(Protocol):
    """Some actions under some outputs. log_probs, entropies: float32 [N], nats."""

    log_probs: Array

    @property
    def entropies(self) -> Array: ...

    @property
    def information(self) -> float:
        """Fisher information of the actions about the outputs, as a share of the most there can be: 1 for choices that
        are all as likely and for normal numbers (in deviations from the mean) far inside their bounds, 0 where each
        action is certain. Half of it times a squared step of the outputs is about the KL divergence of that step.
        """

    def output_gradients(self, term_gradients: Array, entropy_weight: float) -> Array:
        """By outputs, [N, K]: of -mean(terms) - entropy_weight · mean(entropies), where
        term_gradients [N] = d term / d log π.
        """


class Distribution(Protocol):
    """A family of policies over one action space."""

    actions: Actions

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> Floats:
        """What T steps of B draws need of chance, float32 [T, B, ...], drawn at once."""

    def draw(self, outputs: Floats, noise: Floats) -> NDArray[Any]:
        """A sample for each row, [N, width]. noise: float32 [N, ...]."""

    def best(self, outputs: Floats) -> NDArray[Any]:
        """The most probable action of each row, [N, width]."""

    def likelihood(self, outputs: Array, actions: Array) -> Likelihood:
        """How probable these actions are."""


def distribution(actions: Actions) -> Distribution:
    """The family for these actions."""
    return Gaussian(actions) if actions.kind == "box" else Categorical(actions)


class Categorical:
    """Independent choices, sizes[i] values each; logits side by side."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self._parts = list(_runs(actions.sizes))

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> Floats:
        """Standard Gumbel noise [T, B, K]: the argmax of logits + noise is a sample of their softmax."""
        noise = generator.standard_exponential((steps, count, self.actions.outputs), np.float32)
        np.log(np.maximum(noise, np.finfo(np.float32).tiny, out=noise), out=noise)
        return np.negative(noise, out=noise)

    def draw(self, outputs: Floats, noise: Floats) -> NDArray[np.int64]:
        """Distribution.draw."""
        return self.best(outputs + noise)

    def best(self, outputs: Floats) -> NDArray[np.int64]:
        """Distribution.best."""
        if len(self._parts) == 1:
            only: NDArray[np.int64] = outputs.argmax(1)[:, None]
            return only
        return np.stack([outputs[:, part].argmax(1) for part in self._parts], 1)

    def likelihood(self, outputs: Array, actions: Array) -> Likelihood:
        """Distribution.likelihood."""
        return CategoricalLikelihood(outputs, actions, self._parts)


def _runs(sizes: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


class CategoricalLikelihood:
    """Likelihood of independent choices."""

    def __init__(self, outputs: Array, actions: NDArray[np.int64], parts: list[slice]) -> None:
        self._choices = [_Choice(outputs[:, part], actions[:, i]) for i, part in enumerate(parts)]
        self.log_probs: Array = _sum([choice.log_probs for choice in self._choices])

    @property
    def entropies(self) -> Array:
        """Likelihood.entropies."""
        return _sum([choice.entropies for choice in self._choices])

    @property
    def information(self) -> float:
        """Likelihood.information: the trace of diag(π) - π πᵀ, which is 1 - 1/n for n choices that are as likely."""
        most = sum(1.0 - 1.0 / choice.probs.shape[1] for choice in self._choices)
        found = sum(1.0 - float(np.square(choice.probs).sum(1).mean()) for choice in self._choices)
        return found / most if most else 0.0

    def output_gradients(self, term_gradients: Array, entropy_weight: float) -> Array:
        """Likelihood.output_gradients, each part by itself."""
        count = len(term_gradients)
        scaled = (term_gradients / count)[:, None]
        parts = [choice.output_gradients(scaled, entropy_weight / count) for choice in self._choices]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)


def _sum(arrays: list[Array]) -> Array:
    total: Array = arrays[0] if len(arrays) == 1 else np.sum(arrays, 0)
    return total


class _Choice:
    """One of the choices. probs: float32 [N, size]; log_probs: float32 [N], of the action that was taken."""

    def __init__(self, logits: Array, actions: NDArray[np.int64]) -> None:
        self._log_all = logits - logits.max(1, keepdims=True)
        self.probs = np.exp(self._log_all)
        sums = self.probs.sum(1, keepdims=True)
        self.probs /= sums
        self._log_all -= np.log(sums)
        self._taken = np.arange(0, logits.size, logits.shape[1]) + actions  # places in the flat array
        self.log_probs = self._log_all.take(self._taken)

    @property
    def entropies(self) -> Array:
        entropies: Array = -np.einsum("nk,nk->n", self.probs, self._log_all)
        return entropies

    def output_gradients(self, column: Array, entropy_weight: float) -> Array:
        """d log π(a) / d z_j = 1[j = a] - π_j, and d H / d z_j = -π_j (log π_j + H). column: [N, 1], terms'."""
        factors = column
        if entropy_weight:
            factors = (self._log_all + self.entropies[:, None]) * entropy_weight
            factors += column
        gradients: Array = self.probs * factors
        gradients.flat[self._taken] -= column[:, 0]
        return gradients


class Gaussian:
    """Independent normal numbers, cut off at the bounds of the space; means, then log-deviations.

    A draw beyond a bound becomes the bound, so there the action has a probability, that of the whole tail, and inside
    it has a density. This is the exact likelihood of what the simulator was told (Fujita and Maeda 2018, clipped
    action policy gradient, equation 8); the density of the draw itself would have the same mean slope and more noise.
    """

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self._low, self._high = np.array(actions.low, np.float32), np.array(actions.high, np.float32)

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> Floats:
        """Standard normal noise, float32 [T, B, width]."""
        return generator.standard_normal((steps, count, self.actions.width), np.float32)

    def draw(self, outputs: Floats, noise: Floats) -> Floats:
        """Distribution.draw."""
        width = self.actions.width
        drawn = np.exp(np.clip(outputs[:, width:], *LOG_DEVIATIONS)) * noise
        drawn += outputs[:, :width]
        return self._within(drawn)

    def best(self, outputs: Floats) -> Floats:
        """The mean, where it is within the bounds."""
        return self._within(outputs[:, : self.actions.width].copy())

    def _within(self, drawn: Floats) -> Floats:
        np.maximum(drawn, self._low, out=drawn)
        return np.minimum(drawn, self._high, out=drawn)

    def likelihood(self, outputs: Array, actions: Array) -> Likelihood:
        """Distribution.likelihood."""
        return CensoredNormalLikelihood(outputs, actions, self._low, self._high)


class CensoredNormalLikelihood:
    """Likelihood of normal numbers with their tails gathered at the bounds.

    Along one axis, z = (a - μ)/σ: inside log π = -z²/2 - log σ - log √2π; at the upper bound log Φ(-z), at the lower
    one log Φ(z). The slope of log Φ(x) is the inverse Mills ratio h(x) = φ(x)/Φ(x).
    """

    def __init__(self, outputs: Array, actions: Array, low: Array, high: Array) -> None:
        width = actions.shape[1]
        free = outputs[:, width:]
        self._log_deviations = np.minimum(np.maximum(free, LOG_DEVIATIONS[0]), LOG_DEVIATIONS[1])
        self._below, self._above = free < LOG_DEVIATIONS[0], free > LOG_DEVIATIONS[1]
        self._deviations = np.exp(self._log_deviations)
        self._z = (actions - outputs[:, :width]) / self._deviations
        logs = -0.5 * np.square(self._z) - self._log_deviations - HALF_LOG_TAU
        upper = actions >= high
        self._inside = ~(upper | (actions <= low))
        self._at = np.nonzero(~self._inside)
        self._side = np.where(upper[self._at], 1.0, -1.0)
        logs[self._at], self._mills = _tails(-self._side * self._z[self._at])
        self.log_probs: Array = logs.sum(1)

    @property
    def entropies(self) -> Array:
        """Of the normal numbers before the cut, which have a closed form and never reward leaving the bounds."""
        entropies: Array = (self._log_deviations + (0.5 + HALF_LOG_TAU)).sum(1)
        return entropies

    @property
    def information(self) -> float:
        """Likelihood.information: the mean of (σ · d log π / d μ)², where these actions were drawn from about π."""
        return float(np.square(self._force).mean())

    @property
    def _force(self) -> Array:
        """σ · d log π / d μ."""
        force = self._z.copy()
        force[self._at] = self._side * self._mills
        return force

    def output_gradients(self, term_gradients: Array, entropy_weight: float) -> Array:
        """Likelihood.output_gradients."""
        force = self._force
        spread = force * self._z - self._inside  # d log π / d log σ
        column = (term_gradients / -len(term_gradients))[:, None]
        by_mean = column * force / self._deviations
        by_spread = self._inward(column * spread - entropy_weight / len(term_gradients))
        return np.concatenate([by_mean, by_spread], 1)

    def _inward(self, gradients: Array) -> Array:
        """Without those that push a log-deviation further out; descent moves against a slope.

        The others stay although the clamp is flat: were all of them 0, a parameter past a limit would stay there.
        """
        gradients[(self._above & (gradients < 0.0)) | (self._below & (gradients > 0.0))] = 0.0
        return gradients


def _tails(x: Array) -> tuple[Array, Array]:
    """log Φ(x) and φ(x)/Φ(x), [M] each. Where Φ vanishes neither is computed from it."""
    y = np.abs(x) * math.sqrt(0.5)
    scaled, gauss = _scaled_erfc(y), np.exp(-np.square(y))
    rest = 1.0 - 0.5 * scaled * gauss  # Φ(|x|)
    log_probs = np.where(x < 0.0, np.log(0.5 * scaled) - np.square(y), np.log(rest))
    return log_probs, np.where(x < 0.0, SQRT_2_OVER_PI / scaled, 0.5 * SQRT_2_OVER_PI * gauss / rest)


def _scaled_erfc(y: Array) -> Array:
    """exp(y²) erfc(y), y >= 0, by Clenshaw's recurrence."""
    t = 2.0 / (2.0 + y)
    u = 4.0 * t - 2.0  # twice what t is between -1 and 1
    following, last = np.zeros_like(t), np.zeros_like(t)
    for coefficient in ERFC_SERIES[:0:-1]:
        following, last = u * following - last + coefficient, following
    return t * np.exp(0.5 * u * following - last + ERFC_SERIES[0])
