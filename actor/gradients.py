"""From a rollout to minibatch gradients. Pure given a generator. Knows the network, the loss and the flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actor.config import ActorSettings
from actor.flat import FlatModule
from actor.losses import LossStats, Slopes, a3c_loss, clipped_loss
from actor.policy import ActorCritic
from actor.rollout import Rollout

ADVANTAGE_EPSILON = 1e-8  # against a minibatch whose advantages are all equal


@dataclass(frozen=True, slots=True)
class Minibatch:
    """N valid samples of a rollout.

    observations: float32 [N, D]
    actions: int64 [N]
    log_probs, advantages, returns: float32 [N]; advantages normalised where settings ask, returns never
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor


def minibatches(
    rollout: Rollout, advantages: NDArray[np.float32], settings: ActorSettings, generator: torch.Generator
) -> Iterator[Minibatch]:
    """settings.passes over the rollout: in each its valid samples once, shuffled, in settings.minibatches equal parts.

    advantages: float32 [T, B]. Parts differ by one sample at most; fewer valid samples than parts give fewer parts.
    """
    columns = _columns(rollout, advantages)
    for _ in range(settings.passes):
        order = torch.randperm(len(columns[0]), generator=generator)
        shuffled = [column.index_select(0, order) for column in columns]
        for part in zip(*(column.tensor_split(settings.minibatches) for column in shuffled), strict=True):
            if len(part[0]):
                yield _minibatch(*part, normalize=settings.normalize_advantages)


def _columns(rollout: Rollout, advantages: NDArray[np.float32]) -> tuple[Tensor, ...]:
    """Observations, actions, log-probabilities, advantages and returns of the valid samples, rows in step order."""
    arrays = (rollout.observations, rollout.actions, rollout.log_probs, advantages, advantages + rollout.values)
    columns = tuple(torch.from_numpy(array).flatten(0, 1) for array in arrays)
    if rollout.valid.all():
        return columns
    valid = torch.from_numpy(np.flatnonzero(rollout.valid))
    return tuple(column.index_select(0, valid) for column in columns)


def _minibatch(
    observations: Tensor, actions: Tensor, log_probs: Tensor, advantages: Tensor, returns: Tensor, *, normalize: bool
) -> Minibatch:
    if normalize:
        deviation, mean = torch.std_mean(advantages, correction=0)
        advantages = (advantages - mean) / (deviation + ADVANTAGE_EPSILON)
    return Minibatch(observations, actions, log_probs, advantages, returns)


def gradient(
    flat: FlatModule, policy: ActorCritic, minibatch: Minibatch, settings: ActorSettings
) -> tuple[NDArray[np.float32], LossStats, float]:
    """The minibatch's gradient at the present θ, scaled to an L2 norm of at most settings.max_gradient_norm.

    Returns the gradient float32 [P] (a view, overwritten by the next call), the loss statistics, and the norm
    before scaling. A gradient that is not finite has a norm that is not finite either: the worker leaves it out.
    """
    logits, values, tape = policy.forward_pass(minibatch.observations.numpy())
    slopes, stats = _loss(torch.from_numpy(logits), torch.from_numpy(values), minibatch, settings)
    policy.backward_pass(tape, slopes.logits.numpy(), slopes.values.numpy())
    vector = flat.gradient_vector()
    norm = math.sqrt(float(np.dot(vector, vector)))
    if norm > settings.max_gradient_norm:
        vector *= np.float32(settings.max_gradient_norm / norm)
    return vector, stats, norm


def _loss(logits: Tensor, values: Tensor, minibatch: Minibatch, settings: ActorSettings) -> tuple[Slopes, LossStats]:
    weights = (settings.value_weight, settings.entropy_weight)
    if settings.loss == "a3c":
        return a3c_loss(logits, values, minibatch.actions, minibatch.advantages, minibatch.returns, *weights)
    return clipped_loss(
        logits,
        values,
        minibatch.actions,
        minibatch.log_probs,
        minibatch.advantages,
        minibatch.returns,
        settings.clip,
        *weights,
    )
