"""From a rollout to minibatch gradients. Pure given a generator. Knows the network, the method and the flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """

    inputs: Inputs
    rows: NDArray[np.intp] | None
    actions: NDArray[Any]
    returns: Floats
    policy: PolicySample | None


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
    for part in np.array_split(order, settings.minibatches):
        if len(part):
            yield _minibatch(Inputs(observations.take(part, 0)), None, samples, part, settings)


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
            yield _minibatch(inputs, valid, samples, indices[valid], settings)


class _Samples(NamedTuple):
    """All rows of a rollout, in step order: actions [T·B, width], returns [T·B], and what a policy learns from."""

    actions: NDArray[Any]
    returns: Floats
    policy: PolicySample | None


def _samples(rollout: Rollout, targets: Targets) -> _Samples:
    policy = None
    if targets.policy is not None:
        policy = PolicySample(_flat(targets.policy.log_probs), _flat(targets.policy.advantages))
    return _Samples(_flat(rollout.actions), _flat(targets.returns), policy)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, *array.shape[2:])


def _minibatch(
    inputs: Inputs,
    rows: NDArray[np.intp] | None,
    samples: _Samples,
    indices: NDArray[np.intp],
    settings: ActorSettings,
) -> Minibatch:
    """indices: int64 [N], the samples of this minibatch."""
    policy = None
    if samples.policy is not None:
        advantages = samples.policy.advantages[indices]
        if settings.normalize_advantages:
            advantages -= advantages.mean()
            advantages /= math.sqrt(np.dot(advantages, advantages) / len(advantages)) + ADVANTAGE_EPSILON
        policy = PolicySample(samples.policy.log_probs[indices], advantages)
    return Minibatch(inputs, rows, samples.actions.take(indices, 0), samples.returns[indices], policy)


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
