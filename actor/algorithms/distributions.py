"""What a network's outputs mean as a policy: draws, probabilities and their gradients. Pure. Knows numbers.

outputs: float32 [N, K], from the network. actions: [N, width], int64 or, with real numbers, float32. masks: bool
[N, L], which of the L logits may be chosen, at least one of each choice; None: all may. What may not has probability 0
and a gradient of 0, as if the network had no such output (Huang and Ontañón 2022, "A closer look at invalid action
masking"). Gradients are written out instead of recorded in a graph: for a minibatch of a few hundred samples the graph
cost as much as the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from actor.networks.policy import Array
from actor.spaces import Actions

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]
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

    def draw(self, outputs: Floats, noise: Floats, masks: Masks | None = None) -> NDArray[Any]:
        """A sample for each row, [N, width]. noise: float32 [N, ...]."""

    def best(self, outputs: Floats, masks: Masks | None = None) -> NDArray[Any]:
        """The most probable action of each row, [N, width]."""

    def likelihood(self, outputs: Array, actions: Array, masks: Masks | None = None) -> Likelihood:
        """How probable these actions are."""


def distribution(actions: Actions) -> Distribution:
    """The family for these actions."""
    if actions.kind == "mixed":
        return Mixed(actions)
    return Gaussian(actions) if actions.kind == "box" else Categorical(actions)


def masked(outputs: Array, masks: Masks | None) -> Array:
    """Outputs whose logits, or action values, that may not be chosen are -infinity: less than any that may."""
    return outputs if masks is None else np.where(masks, outputs, outputs.dtype.type(-np.inf))


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

    def draw(self, outputs: Floats, noise: Floats, masks: Masks | None = None) -> NDArray[np.int64]:
        """Distribution.draw."""
        return self.best(outputs + noise, masks)

    def best(self, outputs: Floats, masks: Masks | None = None) -> NDArray[np.int64]:
        """Distribution.best."""
        outputs = masked(outputs, masks)
        if len(self._parts) == 1:
            only: NDArray[np.int64] = outputs.argmax(1)[:, None]
            return only
        return np.stack([outputs[:, part].argmax(1) for part in self._parts], 1)

    def likelihood(self, outputs: Array, actions: Array, masks: Masks | None = None) -> CategoricalLikelihood:
        """Distribution.likelihood."""
        return CategoricalLikelihood(outputs, actions, self._parts, masks)


def _runs(sizes: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


class CategoricalLikelihood:
    """Likelihood of independent choices."""

    def __init__(
        self, outputs: Array, actions: NDArray[np.int64], parts: list[slice], masks: Masks | None = None
    ) -> None:
        self._choices = [
            _Choice(outputs[:, part], actions[:, i], None if masks is None else masks[:, part])
            for i, part in enumerate(parts)
        ]
        self.log_probs: Array = _sum([choice.log_probs for choice in self._choices])

    @property
    def entropies(self) -> Array:
        """Likelihood.entropies."""
        return _sum([choice.entropies for choice in self._choices])

    @property
    def information(self) -> float:
        """Likelihood.information: the trace of diag(π) - π πᵀ, which is 1 - 1/n for n choices that are as likely."""
        found, most = self.information_and_most
        return found / most if most else 0.0

    @property
    def information_and_most(self) -> tuple[float, float]:
        """The trace, and the most that it could be."""
        most = sum(choice.most_information for choice in self._choices)
        found = sum(1.0 - float(np.square(choice.probs).sum(1).mean()) for choice in self._choices)
        return found, most

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
    """One of the choices. probs: float32 [N, size]; log_probs: float32 [N], of the action that was taken.

    most_information: 1 - 1/n, n being how many values may be chosen; the mean over rows.
    """

    def __init__(self, logits: Array, actions: NDArray[np.int64], mask: Masks | None) -> None:
        logits = masked(logits, mask)
        self._log_all = logits - logits.max(1, keepdims=True)
        self.probs = np.exp(self._log_all)
        sums = self.probs.sum(1, keepdims=True)
        self.probs /= sums
        self._log_all -= np.log(sums)
        self._taken = np.arange(0, logits.size, logits.shape[1]) + actions  # places in the flat array
        self.log_probs = self._log_all.take(self._taken)
        self.most_information = 1.0 - 1.0 / logits.shape[1]
        if mask is not None:
            self._log_all[~mask] = 0.0  # times a probability of 0, where -infinity would make it NaN
            self.most_information = 1.0 - float((1.0 / mask.sum(1)).mean())

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

    def draw(self, outputs: Floats, noise: Floats, masks: Masks | None = None) -> Floats:
        """Distribution.draw."""
        width = self.actions.width
        drawn = np.exp(np.clip(outputs[:, width:], *LOG_DEVIATIONS)) * noise
        drawn += outputs[:, :width]
        return self._within(drawn)

    def best(self, outputs: Floats, masks: Masks | None = None) -> Floats:
        """The mean, where it is within the bounds."""
        return self._within(outputs[:, : self.actions.width].copy())

    def _within(self, drawn: Floats) -> Floats:
        np.maximum(drawn, self._low, out=drawn)
        return np.minimum(drawn, self._high, out=drawn)

    def likelihood(self, outputs: Array, actions: Array, masks: Masks | None = None) -> CensoredNormalLikelihood:
        """Distribution.likelihood."""
        return CensoredNormalLikelihood(outputs, actions, self._low, self._high)


class CensoredNormalLikelihood:
    """Likelihood of normal numbers with their tails gathered at the bounds.

    Along one axis, z = (a - μ)/σ: inside log π = -z²/2 - log σ - log √2π; at the upper bound log Φ(-z), at the lower
    one log Φ(z). The slope of log Φ(x) is the inverse Mills ratio h(x) = φ(x)/Φ(x).
    """

    def __init__(self, outputs: Array, actions: Array, low: Array, high: Array) -> None:
        self.axes = width = int(actions.shape[1])
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


class Mixed:
    """Choices and real numbers side by side, independent of each other: logits, then means, then log-deviations."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        chosen, self._logits = len(actions.choices), actions.logits
        self._choices = Categorical(replace(actions, kind="multi_discrete", sizes=actions.choices, low=(), high=()))
        self._reals = Gaussian(replace(actions, kind="box", sizes=actions.sizes[chosen:]))
        self._chosen = chosen

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> Floats:
        """That of the choices, then that of the real numbers."""
        families = self._choices, self._reals
        return np.concatenate([family.noise(generator, steps, count) for family in families], 2)

    def draw(self, outputs: Floats, noise: Floats, masks: Masks | None = None) -> Floats:
        """Distribution.draw."""
        logits = self._logits
        choices = self._choices.draw(outputs[:, :logits], noise[:, :logits], masks)
        return self._beside(choices, self._reals.draw(outputs[:, logits:], noise[:, logits:]))

    def best(self, outputs: Floats, masks: Masks | None = None) -> Floats:
        """Distribution.best."""
        choices = self._choices.best(outputs[:, : self._logits], masks)
        return self._beside(choices, self._reals.best(outputs[:, self._logits :]))

    @staticmethod
    def _beside(choices: NDArray[np.int64], reals: Floats) -> Floats:
        return np.concatenate([choices.astype(np.float32), reals], 1)

    def likelihood(self, outputs: Array, actions: Array, masks: Masks | None = None) -> Likelihood:
        """Distribution.likelihood."""
        logits, chosen = self._logits, self._chosen
        choices = self._choices.likelihood(outputs[:, :logits], actions[:, :chosen].astype(np.int64), masks)
        return MixedLikelihood(choices, self._reals.likelihood(outputs[:, logits:], actions[:, chosen:]))


class MixedLikelihood:
    """Likelihood of choices and real numbers that are independent: logarithms, entropies and information add up."""

    def __init__(self, choices: CategoricalLikelihood, reals: CensoredNormalLikelihood) -> None:
        self._choices, self._reals = choices, reals
        self.log_probs: Array = choices.log_probs + reals.log_probs

    @property
    def entropies(self) -> Array:
        """Likelihood.entropies."""
        entropies: Array = self._choices.entropies + self._reals.entropies
        return entropies

    @property
    def information(self) -> float:
        """Likelihood.information: of each real number there is 1 at most."""
        found, most = self._choices.information_and_most
        axes: int = self._reals.axes
        return (found + axes * self._reals.information) / (most + axes)

    def output_gradients(self, term_gradients: Array, entropy_weight: float) -> Array:
        """Likelihood.output_gradients."""
        parts = self._choices, self._reals
        return np.concatenate([part.output_gradients(term_gradients, entropy_weight) for part in parts], 1)


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
