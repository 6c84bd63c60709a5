"""What a network's outputs mean as a policy: draws, probabilities and their gradients. Pure. Knows numbers and tensors.

outputs: float32 [N, K], from the network. actions: [N, width], int64 or, for a Box, float32. Gradients are written out
instead of recorded in a graph: for a minibatch of a few hundred samples the graph cost as much as the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actor.spaces import Actions

Floats = NDArray[np.float32]
HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)
SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
LOG_DEVIATIONS = (-5.0, 2.0)  # outside, a Gaussian is a point or a shrug: it acts as at the limit, and is let back in


class Likelihood(Protocol):
    """Some actions under some outputs. log_probs, entropies: float32 [N], nats."""

    log_probs: Tensor

    @property
    def entropies(self) -> Tensor: ...

    @property
    def information(self) -> float:
        """Fisher information of the actions about the outputs, as a share of the most there can be: 1 for choices that
        are all as likely and for normal numbers (in deviations from the mean) far inside their bounds, 0 where each
        action is certain. Half of it times a squared step of the outputs is about the KL divergence of that step.
        """

    def output_gradients(self, term_gradients: Tensor, entropy_weight: float) -> Tensor:
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

    def likelihood(self, outputs: Tensor, actions: Tensor) -> Likelihood:
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

    def likelihood(self, outputs: Tensor, actions: Tensor) -> Likelihood:
        """Distribution.likelihood."""
        return CategoricalLikelihood(outputs, actions, self._parts)


def _runs(sizes: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


class CategoricalLikelihood:
    """Likelihood of independent choices."""

    def __init__(self, outputs: Tensor, actions: Tensor, parts: list[slice]) -> None:
        self._actions, self._parts = actions, parts
        self._log_all = [torch.log_softmax(outputs[:, part], 1) for part in parts]
        chosen = [log_all.gather(1, actions[:, i : i + 1]) for i, log_all in enumerate(self._log_all)]
        self.log_probs = chosen[0].squeeze(1) if len(chosen) == 1 else torch.cat(chosen, 1).sum(1)

    @property
    def entropies(self) -> Tensor:
        """Likelihood.entropies."""
        return -torch.stack([(log_all.exp() * log_all).sum(1) for log_all in self._log_all]).sum(0)

    @property
    def information(self) -> float:
        """Likelihood.information: the trace of diag(π) - π πᵀ, which is 1 - 1/n for n choices that are as likely."""
        most = sum(1.0 - 1.0 / log_all.shape[1] for log_all in self._log_all)
        found = sum(1.0 - log_all.exp().square().sum(1).mean().item() for log_all in self._log_all)
        return found / most if most else 0.0

    def output_gradients(self, term_gradients: Tensor, entropy_weight: float) -> Tensor:
        """d log π(a) / d z_j = 1[j = a] - π_j, and d H / d z_j = -π_j (log π_j + H), in each part by itself."""
        column = term_gradients.unsqueeze(1)
        parts = [self._part(i, column, entropy_weight) for i in range(len(self._parts))]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).div_(len(term_gradients))

    def _part(self, index: int, column: Tensor, entropy_weight: float) -> Tensor:
        log_all = self._log_all[index]
        probs = log_all.exp()
        gradients = (probs * column).scatter_add_(1, self._actions[:, index : index + 1], -column)
        if entropy_weight:
            surprise = probs * log_all
            gradients += surprise.sub_(probs * surprise.sum(1, keepdim=True)).mul_(entropy_weight)
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
        self._bounds = torch.from_numpy(self._low), torch.from_numpy(self._high)

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

    def likelihood(self, outputs: Tensor, actions: Tensor) -> Likelihood:
        """Distribution.likelihood."""
        return CensoredNormalLikelihood(outputs, actions, *self._bounds)


class CensoredNormalLikelihood:
    """Likelihood of normal numbers with their tails gathered at the bounds.

    Along one axis, z = (a - μ)/σ: inside log π = -z²/2 - log σ - log √2π; at the upper bound log Φ(-z), at the lower
    one log Φ(z). The slope of log Φ(x) is the inverse Mills ratio h(x) = φ(x)/Φ(x).
    """

    def __init__(self, outputs: Tensor, actions: Tensor, low: Tensor, high: Tensor) -> None:
        means, free = outputs.chunk(2, 1)
        self._log_deviations = free.clamp(*LOG_DEVIATIONS)
        self._below, self._above = free < LOG_DEVIATIONS[0], free > LOG_DEVIATIONS[1]
        self._deviations = self._log_deviations.exp()
        self._z = (actions - means) / self._deviations
        self._side = (actions >= high).float() - (actions <= low).float()  # 1, -1 at a bound; 0 inside
        self._inside = self._side == 0.0
        inside = -0.5 * self._z.square() - self._log_deviations - HALF_LOG_TAU
        self._log_tail = torch.special.log_ndtr(-self._side * self._z)
        self.log_probs = torch.where(self._inside, inside, self._log_tail).sum(1)

    @property
    def entropies(self) -> Tensor:
        """Of the normal numbers before the cut, which have a closed form and never reward leaving the bounds."""
        return (self._log_deviations + (0.5 + HALF_LOG_TAU)).sum(1)

    @property
    def information(self) -> float:
        """Likelihood.information: the mean of (σ · d log π / d μ)², where these actions were drawn from about π."""
        return self._force[0].square().mean().item()

    @property
    def _force(self) -> tuple[Tensor, Tensor]:
        """σ · d log π / d μ, and at a bound the inverse Mills ratio."""
        mills = SQRT_2_OVER_PI / torch.special.erfcx(self._side * self._z * math.sqrt(0.5))  # φ and Φ would both vanish
        return torch.where(self._inside, self._z, self._side * mills), mills

    def output_gradients(self, term_gradients: Tensor, entropy_weight: float) -> Tensor:
        """Likelihood.output_gradients."""
        z, side = self._z, self._side
        force, mills = self._force
        spread = torch.where(self._inside, z.square() - 1.0, side * mills * z)  # d log π / d log σ
        column = term_gradients.unsqueeze(1)
        by_mean = -column * force / self._deviations
        by_spread = self._inward(-column * spread - entropy_weight)
        return torch.cat([by_mean, by_spread], 1).div_(len(term_gradients))

    def _inward(self, gradients: Tensor) -> Tensor:
        """Without those that push a log-deviation further out; descent moves against a slope.

        The others stay although the clamp is flat: were all of them 0, a parameter past a limit would stay there.
        """
        outward = (self._above & (gradients < 0.0)) | (self._below & (gradients > 0.0))
        return gradients.masked_fill_(outward, 0.0)
