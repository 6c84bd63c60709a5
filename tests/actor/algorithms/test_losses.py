"""The losses against plain loops, and their written-out gradients against finite differences and autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from actor.algorithms.distributions import Likelihood, distribution
from actor.algorithms.losses import LossStats, OutputGradients, a3c_loss, clipped_loss, q_loss
from actor.spaces import Actions
from tests.actor.counter import box, discrete

N, A, CLIP, VALUE_WEIGHT, ENTROPY_WEIGHT = 9, 3, 0.2, 0.5, 0.03
Outcome = tuple[OutputGradients, LossStats]
tensor = torch.from_numpy


def likelihood(logits: np.ndarray, actions: np.ndarray) -> Likelihood:
    return distribution(discrete(logits.shape[1])).likelihood(logits, actions[:, None])


class Case:
    """One seeded minibatch in float64, with ratios inside and outside the clip and advantages of both signs."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.logits, self.values = rng.standard_normal((N, A)), rng.standard_normal(N)
        self.actions = rng.integers(0, A, N)
        self.advantages, self.returns = rng.standard_normal(N), rng.standard_normal(N)
        taken = [softmax(row)[a] for row, a in zip(self.logits, self.actions, strict=True)]
        self.old = np.log(taken) + rng.uniform(-0.5, 0.5, N)

    def clipped(self, logits: np.ndarray, values: np.ndarray, entropy_weight: float = ENTROPY_WEIGHT) -> Outcome:
        head = likelihood(logits, self.actions), values, self.old
        return clipped_loss(*head, self.advantages, self.returns, CLIP, VALUE_WEIGHT, entropy_weight)

    def a3c(self, logits: np.ndarray, values: np.ndarray, entropy_weight: float = ENTROPY_WEIGHT) -> Outcome:
        head = likelihood(logits, self.actions), values
        return a3c_loss(*head, self.advantages, self.returns, VALUE_WEIGHT, entropy_weight)


def softmax(row: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.exp(row)
    weights /= weights.sum()
    return weights


def clipped_oracle(case: Case) -> dict[str, float]:
    """Schulman et al. 2017, equations 6 to 9, one sample at a time."""
    sums = dict.fromkeys(["policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"], 0.0)
    for i in range(N):
        policy = softmax(case.logits[i])
        ratio = policy[case.actions[i]] / math.exp(case.old[i])
        bounded = min(max(ratio, 1 - CLIP), 1 + CLIP)
        sums["policy_loss"] -= min(ratio * case.advantages[i], bounded * case.advantages[i])
        sums["value_loss"] += (case.values[i] - case.returns[i]) ** 2
        sums["entropy"] -= sum(p * math.log(p) for p in policy)
        sums["approx_kl"] += ratio - 1 - math.log(ratio)
        sums["clip_fraction"] += abs(ratio - 1) > CLIP
    return {name: total / N for name, total in sums.items()}


def test_clipped_statistics_are_the_papers() -> None:
    case = Case()
    _, stats = case.clipped(case.logits, case.values)
    expected = clipped_oracle(case)
    assert 0 < expected["clip_fraction"] < 1
    assert {name: getattr(stats, name) for name in expected} == pytest.approx(expected)
    weighed = expected["policy_loss"] + VALUE_WEIGHT * expected["value_loss"] - ENTROPY_WEIGHT * expected["entropy"]
    assert stats.total == pytest.approx(weighed)


def test_a3c_statistics_are_the_papers() -> None:
    case = Case()
    _, stats = case.a3c(case.logits, case.values)
    terms = [math.log(softmax(case.logits[i])[case.actions[i]]) * case.advantages[i] for i in range(N)]
    assert stats.policy_loss == pytest.approx(-sum(terms) / N)
    assert stats.value_loss == pytest.approx(clipped_oracle(case)["value_loss"])
    assert stats.entropy == pytest.approx(clipped_oracle(case)["entropy"])
    assert (stats.approx_kl, stats.clip_fraction) == (0.0, 0.0)


def finite_differences(total: Callable[[], float], array: np.ndarray) -> np.ndarray:
    gradients, step = np.zeros_like(array), 1e-6
    for index in np.ndindex(array.shape):
        middle = array[index]
        array[index] = middle + step
        above = total()
        array[index] = middle - step
        gradients[index] = (above - total()) / (2 * step)
        array[index] = middle
    return gradients


@pytest.mark.parametrize("name", ["clipped", "a3c"])
@pytest.mark.parametrize("entropy_weight", [0.0, ENTROPY_WEIGHT])
def test_slopes_are_finite_differences_of_the_total(name: str, entropy_weight: float) -> None:
    case = Case()
    loss = case.clipped if name == "clipped" else case.a3c
    gradients, _ = loss(case.logits, case.values, entropy_weight)

    def total() -> float:
        return loss(case.logits, case.values, entropy_weight)[1].total

    np.testing.assert_allclose(gradients.outputs, finite_differences(total, case.logits), atol=1e-8)
    assert gradients.values is not None
    np.testing.assert_allclose(gradients.values, finite_differences(total, case.values), atol=1e-8)


def test_a_ratio_past_the_clip_pulls_only_back() -> None:
    """Four samples of ratio e^±0.5: it counts only where moving on would make the objective worse."""
    logits = np.zeros((4, 2))
    old = math.log(0.5) - np.array([0.5, 0.5, -0.5, -0.5])
    advantages, zeros = np.array([1.0, -1.0, 1.0, -1.0]), np.zeros(4)
    head = likelihood(logits, np.zeros(4, np.int64)), zeros, old
    gradients, stats = clipped_loss(*head, advantages, zeros, CLIP, VALUE_WEIGHT, 0.0)
    assert (np.abs(gradients.outputs).sum(1) > 0).tolist() == [False, True, True, False]
    assert stats.clip_fraction == 1.0


def test_the_arguments_are_left_alone() -> None:
    case, untouched = Case(), Case()
    case.clipped(case.logits, case.values)
    case.a3c(case.logits, case.values)
    assert all(np.array_equal(getattr(case, name), getattr(untouched, name)) for name in vars(case))


FAMILIES: dict[str, Actions] = {
    "discrete": discrete(3),
    "multi_discrete": discrete(3, 2),
    "box": box((-0.5, -math.inf), (0.5, math.inf)),
}


def drawn(actions: Actions) -> tuple[np.ndarray, np.ndarray]:
    """Seeded outputs [N, K] float64, and actions drawn from them, some at the bounds."""
    rng = np.random.default_rng(2)
    outputs = rng.standard_normal((N, actions.outputs)) * 0.7
    family = distribution(actions)
    chosen = family.draw(outputs.astype(np.float32), family.noise(rng, 1, N)[0])
    return outputs, chosen


def plain_log_probs(actions: Actions, outputs: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [N] and entropies [N] by torch.distributions, which autograd follows."""
    log_probs, entropies = torch.zeros(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    if actions.kind != "box":
        for i, part in enumerate(torch.split(outputs, list(actions.sizes), 1)):
            categorical: Any = torch.distributions.Categorical(logits=part)
            log_probs, entropies = log_probs + categorical.log_prob(chosen[:, i]), entropies + categorical.entropy()
        return log_probs, entropies
    means, deviations = outputs[:, : actions.width], outputs[:, actions.width :].exp()
    for i in range(actions.width):
        normal: Any = torch.distributions.Normal(means[:, i], deviations[:, i])
        inside = normal.log_prob(chosen[:, i])
        low = torch.special.log_ndtr((actions.low[i] - means[:, i]) / deviations[:, i])
        high = torch.special.log_ndtr((means[:, i] - actions.high[i]) / deviations[:, i])
        if math.isfinite(actions.low[i]):  # both bounds are, or neither
            inside = torch.where(chosen[:, i] >= actions.high[i], high, inside)
            inside = torch.where(chosen[:, i] <= actions.low[i], low, inside)
        log_probs, entropies = log_probs + inside, entropies + normal.entropy()
    return log_probs, entropies


@pytest.mark.parametrize("name", ["clipped", "a3c"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_slopes_are_autograds_for_every_kind_of_action(kind: str, name: str) -> None:
    case, actions = Case(), FAMILIES[kind]
    outputs, chosen = drawn(actions)
    advantages, returns = tensor(case.advantages), tensor(case.returns)
    theirs, their_values = tensor(outputs).requires_grad_(), tensor(case.values).requires_grad_()
    log_probs, entropies = plain_log_probs(actions, theirs, tensor(chosen))
    old = log_probs.detach() + tensor(np.random.default_rng(4).uniform(-0.5, 0.5, N))
    if name == "a3c":
        terms = log_probs * advantages
    else:
        ratio = (log_probs - old).exp()
        terms = torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
    squares = (their_values - returns).square().mean()
    total = -terms.mean() + VALUE_WEIGHT * squares - ENTROPY_WEIGHT * entropies.mean()
    by_outputs, by_values = torch.autograd.grad(total, [theirs, their_values])

    ours = distribution(actions).likelihood(outputs, chosen)
    weights = (VALUE_WEIGHT, ENTROPY_WEIGHT)
    if name == "a3c":
        gradients, stats = a3c_loss(ours, case.values, case.advantages, case.returns, *weights)
    else:
        gradients, stats = clipped_loss(ours, case.values, old.numpy(), case.advantages, case.returns, CLIP, *weights)
    assert stats.total == pytest.approx(total.item())
    assert gradients.values is not None
    np.testing.assert_allclose(gradients.outputs, by_outputs, 1e-7, 1e-10)
    np.testing.assert_allclose(gradients.values, by_values, 1e-7)


def test_the_loss_of_action_values_is_autograds() -> None:
    """E[(R - Q(s, a))²]: only the action that was taken is pulled."""
    case = Case()
    theirs = tensor(case.logits).requires_grad_()
    taken = theirs[torch.arange(N), tensor(case.actions)]
    total = (tensor(case.returns) - taken).square().mean()
    (expected,) = torch.autograd.grad(total, [theirs])
    gradients, stats = q_loss(case.logits, case.actions[:, None], case.returns)
    np.testing.assert_allclose(gradients.outputs, expected, 1e-7)
    assert gradients.values is None
    assert stats.total == stats.value_loss == pytest.approx(total.item())
    assert (stats.policy_loss, stats.entropy, stats.approx_kl, stats.clip_fraction) == (0.0, 0.0, 0.0, 0.0)
