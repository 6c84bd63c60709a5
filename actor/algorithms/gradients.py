"""From a rollout to minibatch gradients. Pure given a generator. Knows the network, the method and the flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.distributions import Masks
from actor.algorithms.losses import LossStats, OutputGradients, quiet
from actor.algorithms.methods import Method, PolicySample, Targets
from actor.algorithms.rollout import Rollout
from actor.config import ActorSettings
from actor.networks.flat import FlatParameters
from actor.networks.policy import Inputs, Policy

Floats = NDArray[np.float32]
ADVANTAGE_EPSILON = 1e-8  # against a minibatch whose advantages are all equal


@dataclass(frozen=True, slots=True)
class Minibatch:
    """N valid samples of a rollout.

    inputs: what the network sees: M = N rows, or whole sequences of M = T·b >= N rows
    rows: int64 [N], which of the M rows are valid; None if all are
    actions: [N, width]; returns: float32 [N]
    policy: of an actor-critic, its advantages normalised where settings ask
    masks: bool [N, L], which logits might be chosen; None where all might
    extra: arrays [N, ...] of a method's own, by name
    """

    inputs: Inputs
    rows: NDArray[np.intp] | None
    actions: NDArray[Any]
    returns: Floats
    policy: PolicySample | None
    masks: Masks | None = None
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def minibatches(
    rollout: Rollout, targets: Targets, settings: ActorSettings, generator: np.random.Generator
) -> Iterator[Minibatch]:
    """One pass over the rollout: its valid samples once, shuffled, in settings.minibatches equal parts.

    Parts differ by one sample at most; fewer valid samples than parts give fewer parts. With a memory the parts are of
    environments, each with its whole sequence.
    """
    if settings.memory != "none":
        yield from _sequences(rollout, targets, settings, generator)
        return
    observations, samples = _flat(rollout.observations[:-1]), _samples(rollout, targets)
    order = generator.permutation(np.flatnonzero(rollout.valid))
    shuffled = samples.take(order)  # at once; observations, which may be images, by parts
    for part in _parts(len(order), settings.minibatches):
        inputs = Inputs(observations.take(order[part], 0))
        yield _minibatch(inputs, None, shuffled.part(part), settings)


def _parts(length: int, count: int) -> Iterator[slice]:
    """As numpy's array_split has them, and none that is empty."""
    size, longer = divmod(length, count)
    begin = 0
    for number in range(count if size else longer):
        end = begin + size + (number < longer)
        yield slice(begin, end)
        begin = end


def _sequences(
    rollout: Rollout, targets: Targets, settings: ActorSettings, generator: np.random.Generator
) -> Iterator[Minibatch]:
    samples = _samples(rollout, targets)
    steps, count = rollout.valid.shape
    for envs in np.array_split(generator.permutation(count), settings.minibatches):
        valid = np.flatnonzero(rollout.valid[:, envs])
        if len(valid):
            inputs = Inputs(rollout.observations[:-1, envs], rollout.state[envs], rollout.starts[:, envs])
            indices = (np.arange(steps)[:, None] * count + envs).ravel()  # of these sequences' rows
            yield _minibatch(inputs, valid, samples.take(indices[valid]), settings)


class _Samples(NamedTuple):
    """Rows of a rollout: actions [N, width], returns [N], what a policy learns from, masks [N, L] or None, and what is
    a method's own.
    """

    actions: NDArray[Any]
    returns: Floats
    policy: PolicySample | None
    masks: Masks | None
    extra: Mapping[str, NDArray[Any]]

    def take(self, indices: NDArray[np.intp]) -> _Samples:
        """Copies of these rows."""
        found = self.policy
        policy = None if found is None else PolicySample(found.log_probs.take(indices), found.advantages.take(indices))
        masks = None if self.masks is None else self.masks.take(indices, 0)
        extra = {name: array.take(indices, 0) for name, array in self.extra.items()}
        return _Samples(self.actions.take(indices, 0), self.returns.take(indices), policy, masks, extra)

    def part(self, rows: slice) -> _Samples:
        """Views of these rows."""
        found = self.policy
        policy = None if found is None else PolicySample(found.log_probs[rows], found.advantages[rows])
        masks = None if self.masks is None else self.masks[rows]
        extra = {name: array[rows] for name, array in self.extra.items()}
        return _Samples(self.actions[rows], self.returns[rows], policy, masks, extra)


def _samples(rollout: Rollout, targets: Targets) -> _Samples:
    policy = None
    if targets.policy is not None:
        policy = PolicySample(_flat(targets.policy.log_probs), _flat(targets.policy.advantages))
    masks = None if rollout.masks is None else _flat(rollout.masks[:-1])
    extra = {name: _flat(array) for name, array in targets.extra.items()}
    return _Samples(_flat(rollout.actions), _flat(targets.returns), policy, masks, extra)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, *array.shape[2:])


def _minibatch(inputs: Inputs, rows: NDArray[np.intp] | None, samples: _Samples, settings: ActorSettings) -> Minibatch:
    """samples: of this minibatch, which may change them."""
    if samples.policy is not None and settings.normalize_advantages:
        advantages = samples.policy.advantages
        advantages -= advantages.mean()
        advantages /= math.sqrt(np.dot(advantages, advantages) / len(advantages)) + ADVANTAGE_EPSILON
    return Minibatch(inputs, rows, *samples)


@quiet
def gradient(
    flat: FlatParameters, policy: Policy, method: Method, minibatch: Minibatch, max_norm: float
) -> tuple[Floats, LossStats, float]:
    """The minibatch's gradient at the present θ, scaled to an L2 norm of at most ``max_norm``.

    Returns the gradient float32 [P] (a view, overwritten by the next call), the loss statistics, and the norm
    before scaling. A gradient that is not finite has a norm that is not finite either: the worker leaves it out.
    """
    outputs, values, tape = policy.forward_pass(minibatch.inputs)
    gradients, stats = _loss(outputs, values, method, minibatch)
    policy.backward_pass(tape, *gradients)
    vector = flat.gradient
    norm = math.sqrt(float(np.dot(vector, vector)))
    if math.isinf(norm):  # too large for float32 to square, perhaps, and not for itself
        norm = float(np.linalg.norm(vector.astype(np.float64)))
    if norm > max_norm and math.isfinite(norm):
        vector *= np.float32(max_norm / norm)
    return vector, stats, norm


def _loss(
    outputs: Floats, values: Floats | None, method: Method, minibatch: Minibatch
) -> tuple[OutputGradients, LossStats]:
    """Gradients by outputs and values for every row that the network saw; those of rows that are not valid are zero."""
    rows = minibatch.rows
    if rows is None or len(rows) == len(outputs):
        return method.loss(outputs, values, minibatch)
    gradients, stats = method.loss(outputs[rows], None if values is None else values[rows], minibatch)
    by_outputs = np.zeros_like(outputs)
    by_outputs[rows] = gradients.outputs
    if gradients.values is None or values is None:
        return OutputGradients(by_outputs, None), stats
    by_values = np.zeros_like(values)
    by_values[rows] = gradients.values
    return OutputGradients(by_outputs, by_values), stats
