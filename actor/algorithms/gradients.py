"""From a rollout to minibatch gradients. Pure given a generator. Knows the network, the method and the flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actor.algorithms.losses import LossStats, OutputGradients
from actor.algorithms.methods import Method, PolicySample, Targets
from actor.algorithms.rollout import Rollout
from actor.config import ActorSettings
from actor.networks.flat import FlatModule
from actor.networks.policy import Inputs, Policy

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
    rows: Tensor | None
    actions: Tensor
    returns: Tensor
    policy: PolicySample | None


def minibatches(
    rollout: Rollout, targets: Targets, settings: ActorSettings, generator: torch.Generator
) -> Iterator[Minibatch]:
    """One pass over the rollout: its valid samples once, shuffled, in settings.minibatches equal parts.

    Parts differ by one sample at most; fewer valid samples than parts give fewer parts. With a memory the parts are of
    environments, each with its whole sequence.
    """
    if settings.memory != "none":
        yield from _sequences(rollout, targets, settings, generator)
        return
    observations, samples = _flat(rollout.observations[:-1]), _samples(rollout, targets)
    valid = torch.from_numpy(np.flatnonzero(rollout.valid))
    order = valid[torch.randperm(len(valid), generator=generator)]
    for part in order.tensor_split(settings.minibatches):
        if len(part):
            yield _minibatch(Inputs(observations.index_select(0, part).numpy()), None, samples, part, settings)


def _sequences(
    rollout: Rollout, targets: Targets, settings: ActorSettings, generator: torch.Generator
) -> Iterator[Minibatch]:
    samples = _samples(rollout, targets)
    steps, count = rollout.valid.shape
    order = torch.randperm(count, generator=generator)
    for part in order.tensor_split(settings.minibatches):
        envs = part.numpy()
        valid = torch.from_numpy(np.flatnonzero(rollout.valid[:, envs]))
        if len(valid):
            inputs = Inputs(rollout.observations[:-1, envs], rollout.state[envs], rollout.starts[:, envs])
            indices = (torch.arange(steps).unsqueeze(1) * count + part).flatten()  # of these sequences' rows
            yield _minibatch(inputs, valid, samples, indices.index_select(0, valid), settings)


class _Samples(NamedTuple):
    """All rows of a rollout, in step order: actions [T·B, width], returns [T·B], and what a policy learns from."""

    actions: Tensor
    returns: Tensor
    policy: PolicySample | None


def _samples(rollout: Rollout, targets: Targets) -> _Samples:
    policy = None
    if targets.policy is not None:
        policy = PolicySample(_flat(targets.policy.log_probs), _flat(targets.policy.advantages))
    return _Samples(_flat(rollout.actions), _flat(targets.returns), policy)


def _flat(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array).flatten(0, 1)


def _minibatch(
    inputs: Inputs, rows: Tensor | None, samples: _Samples, indices: Tensor, settings: ActorSettings
) -> Minibatch:
    """indices: int64 [N], the samples of this minibatch."""
    policy = None
    if samples.policy is not None:
        advantages = samples.policy.advantages.index_select(0, indices)
        if settings.normalize_advantages:
            deviation, mean = torch.std_mean(advantages, correction=0)
            advantages = (advantages - mean) / (deviation + ADVANTAGE_EPSILON)
        policy = PolicySample(samples.policy.log_probs.index_select(0, indices), advantages)
    actions, returns = samples.actions.index_select(0, indices), samples.returns.index_select(0, indices)
    return Minibatch(inputs, rows, actions, returns, policy)


def gradient(
    flat: FlatModule, policy: Policy, method: Method, minibatch: Minibatch, max_norm: float
) -> tuple[NDArray[np.float32], LossStats, float]:
    """The minibatch's gradient at the present θ, scaled to an L2 norm of at most ``max_norm``.

    Returns the gradient float32 [P] (a view, overwritten by the next call), the loss statistics, and the norm
    before scaling. A gradient that is not finite has a norm that is not finite either: the worker leaves it out.
    """
    outputs, values, tape = policy.forward_pass(minibatch.inputs)
    gradients, stats = _loss(outputs, values, method, minibatch)
    by_values = None if gradients.values is None else gradients.values.numpy()
    policy.backward_pass(tape, gradients.outputs.numpy(), by_values)
    vector = flat.gradient_vector()
    with np.errstate(over="ignore", invalid="ignore"):
        norm = math.sqrt(float(np.dot(vector, vector)))
    if math.isinf(norm):  # too large for float32 to square, perhaps, and not for itself
        norm = float(np.linalg.norm(vector.astype(np.float64)))
    if norm > max_norm and math.isfinite(norm):
        vector *= np.float32(max_norm / norm)
    return vector, stats, norm


def _loss(
    outputs: NDArray[np.float32], values: NDArray[np.float32] | None, method: Method, minibatch: Minibatch
) -> tuple[OutputGradients, LossStats]:
    """Gradients by outputs and values for every row that the network saw; those of rows that are not valid are zero."""
    all_outputs, all_values = torch.from_numpy(outputs), None if values is None else torch.from_numpy(values)
    rows = minibatch.rows
    if rows is None or len(rows) == len(outputs):
        return method.loss(all_outputs, all_values, minibatch)
    valid_values = None if all_values is None else all_values.index_select(0, rows)
    gradients, stats = method.loss(all_outputs.index_select(0, rows), valid_values, minibatch)
    by_outputs = torch.zeros_like(all_outputs).index_copy_(0, rows, gradients.outputs)
    if gradients.values is None or all_values is None:
        return OutputGradients(by_outputs, None), stats
    return OutputGradients(by_outputs, torch.zeros_like(all_values).index_copy_(0, rows, gradients.values)), stats
