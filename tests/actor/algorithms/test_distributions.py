"""Policies over actions against torch.distributions, autograd, and integrals taken by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from actor.algorithms.distributions import LOG_DEVIATIONS, Categorical, Distribution, Gaussian, Mixed, distribution
from actor.spaces import Actions
from tests.actor.counter import box, discrete

INF = math.inf
N = 9
BOUNDED = box((-1.0, -INF, -0.5, -INF), (1.0, INF, INF, 0.25))


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_each_kind_of_action_has_its_family() -> None:
    assert isinstance(distribution(discrete(3)), Categorical)
    assert isinstance(distribution(discrete(3, 2)), Categorical)
    assert isinstance(distribution(BOUNDED), Gaussian)
    assert isinstance(distribution(MIXED), Mixed)


def choices(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Seeded outputs [N, K] in float64 and actions [N, width]."""
    outputs = rng().standard_normal((N, sum(sizes))) * 2
    return outputs, np.stack([rng(i).integers(0, size, N) for i, size in enumerate(sizes)], 1)


def gradients_by_autograd(
    outputs: Tensor, log_probs: Tensor, entropies: Tensor, term_gradients: np.ndarray, entropy_weight: float
) -> np.ndarray:
    loss = -(torch.from_numpy(term_gradients) * log_probs).mean() - entropy_weight * entropies.mean()
    return torch.autograd.grad(loss, outputs)[0].numpy()


@pytest.mark.parametrize("sizes", [(4,), (3, 2, 5), (1, 3)])
@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_choices_are_independent_categoricals(sizes: tuple[int, ...], entropy_weight: float) -> None:
    outputs, actions = choices(sizes)
    theirs, taken = torch.tensor(outputs, requires_grad=True), torch.from_numpy(actions)
    parts: list[Any] = [torch.distributions.Categorical(logits=part) for part in torch.split(theirs, list(sizes), 1)]
    log_probs = sum((part.log_prob(taken[:, i]) for i, part in enumerate(parts)), torch.zeros(N))
    entropies = sum((part.entropy() for part in parts), torch.zeros(N))
    term_gradients = rng(1).standard_normal(N)

    likelihood = distribution(discrete(*sizes)).likelihood(outputs, actions)
    np.testing.assert_allclose(likelihood.log_probs, log_probs.detach(), 1e-7)
    np.testing.assert_allclose(likelihood.entropies, entropies.detach(), 1e-7)
    expected = gradients_by_autograd(theirs, log_probs, entropies, term_gradients, entropy_weight)
    np.testing.assert_allclose(likelihood.output_gradients(term_gradients, entropy_weight), expected, 1e-7, 1e-12)


def test_the_order_of_outputs_in_memory_does_not_matter() -> None:
    outputs, actions = choices((4,))
    rows, columns = (distribution(discrete(4)).likelihood(given, actions) for given in (outputs, outputs.copy("F")))
    np.testing.assert_array_equal(columns.log_probs, rows.log_probs)
    np.testing.assert_allclose(columns.output_gradients(np.ones(N), 0.1), rows.output_gradients(np.ones(N), 0.1))


def test_probabilities_of_huge_logits_are_finite() -> None:
    outputs = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    likelihood = distribution(discrete(3)).likelihood(outputs, np.array([[2]]))
    assert likelihood.log_probs.item() == pytest.approx(-2000 - math.log1p(math.exp(-1)))
    assert np.isfinite(likelihood.output_gradients(np.ones(1, np.float32), 0.1)).all()


def test_the_information_of_choices() -> None:
    """All as likely: all there can be. Certain: none. Two parts of which one is certain: its share of both."""
    family, actions = distribution(discrete(2, 3)), np.zeros((1, 2), np.int64)
    certain, even = [1000.0, 0.0], [0.0, 0.0, 0.0]
    assert family.likelihood(np.array([[0.0, 0.0, *even]], np.float32), actions).information == pytest.approx(1.0)
    assert family.likelihood(np.array([[*certain, *even]], np.float32), actions).information == pytest.approx(4 / 7)
    assert family.likelihood(np.array([[*certain, 500.0, 0.0, 0.0]], np.float32), actions).information == 0.0
    only = distribution(discrete(1)).likelihood(np.zeros((1, 1), np.float32), actions[:, :1])
    assert only.information == 0.0


@pytest.mark.parametrize(("mean", "share"), [(0.0, 1.0), (0.75, 0.9684), (1.25, 0.0147)])
def test_the_information_of_cut_normals(mean: float, share: float) -> None:
    """Far within the bounds as much as there can be, beyond them none: there every draw becomes the same action.

    share: Φ(b) - b φ(b) + φ(b)² / Φ(-b) with b = (1 - mean) / σ for the near bound; the far one adds nothing.
    """
    family = distribution(box((-1.0,), (1.0,)))
    outputs = np.tile(np.array([[mean, math.log(0.25 if mean < 1.0 else 1 / 12)]], np.float32), (40_000, 1))
    likelihood = family.likelihood(outputs, drawn(family, outputs, 1)[0])
    assert likelihood.information == pytest.approx(share, abs=4 * 1.42 / 200)


def drawn(family: Distribution, outputs: np.ndarray, steps: int) -> np.ndarray:
    """[steps, N, width], by noise of a fixed seed."""
    noise = family.noise(rng(0), steps, len(outputs))
    assert noise.dtype == np.float32
    return np.stack([family.draw(outputs, row) for row in noise])


def test_choices_are_drawn_as_often_as_their_probabilities() -> None:
    """Four standard errors, in each part and each row."""
    family, outputs = distribution(discrete(3, 2)), rng().standard_normal((2, 5)).astype(np.float32)
    many = drawn(family, outputs, 8000)
    assert (many.shape, many.dtype.name) == ((8000, 2, 2), "int64")
    for row in range(2):
        for part, columns in enumerate([slice(0, 3), slice(3, 5)]):
            probs = np.exp(outputs[row, columns]) / np.exp(outputs[row, columns]).sum()
            shares = np.bincount(many[:, row, part], minlength=len(probs)) / 8000
            np.testing.assert_allclose(shares, probs, atol=4 * 0.5 / 8000**0.5)


def test_parts_are_drawn_independently() -> None:
    """Two fair coins: their four pairs are equally frequent."""
    many = drawn(distribution(discrete(2, 2)), np.zeros((1, 4), np.float32), 8000)[:, 0]
    shares = np.bincount(many @ [2, 1], minlength=4) / 8000
    np.testing.assert_allclose(shares, 0.25, atol=4 * 0.44 / 8000**0.5)


def test_noise_of_any_size_draws_an_action_of_some_probability() -> None:
    noise = distribution(discrete(3)).noise(rng(0), 1000, 50)
    assert np.isfinite(noise).all()


def test_the_best_action() -> None:
    outputs = np.array([[1.0, 3.0, 2.0, 0.0, -1.0]], np.float32)
    assert distribution(discrete(5)).best(outputs).tolist() == [[1]]
    assert distribution(discrete(3, 2)).best(outputs).tolist() == [[1, 0]]
    means = np.array([[3.0, 3.0, -9.0, 0.125, 0, 0, 0, 0]], np.float32)
    kept = means.copy()
    assert distribution(BOUNDED).best(means).tolist() == [[1.0, 3.0, -0.5, 0.125]]
    np.testing.assert_array_equal(means, kept)


def cut_normals() -> tuple[np.ndarray, np.ndarray]:
    """Seeded outputs [N, 8] in float64 and actions [N, 4]: inside, and at each bound that there is, in turn."""
    outputs = rng().standard_normal((N, 8)) * 0.7
    actions = rng(1).uniform(-0.4, 0.2, (N, 4))
    for i, row in enumerate(actions):
        at = [np.nan, BOUNDED.low[i % 4], BOUNDED.high[i % 4]][i % 3]
        if np.isfinite(at):
            row[i % 4] = at
    return outputs, actions


def cut_normal_by_autograd(outputs: Tensor, actions: Tensor, bounds: Actions) -> tuple[Tensor, Tensor]:
    """The log-probability and the uncut entropy, one number at a time, in operations that autograd follows."""
    log_probs, entropies = [], []
    for row, taken in zip(outputs, actions, strict=True):
        log_prob, entropy = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for i, (low, high) in enumerate(zip(bounds.low, bounds.high, strict=True)):
            mean, log_deviation = row[i], row[i + len(bounds.low)].clamp(*LOG_DEVIATIONS)
            normal: Any = torch.distributions.Normal(mean, log_deviation.exp())
            if taken[i] >= high:
                log_prob = log_prob + torch.special.ndtr((mean - high) / log_deviation.exp()).log()
            elif taken[i] <= low:
                log_prob = log_prob + torch.special.ndtr((low - mean) / log_deviation.exp()).log()
            else:
                log_prob = log_prob + normal.log_prob(taken[i])
            entropy = entropy + normal.entropy()
        log_probs.append(log_prob)
        entropies.append(entropy)
    return torch.stack(log_probs), torch.stack(entropies)


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_cut_normals_are_normals_inside_and_tails_at_the_bounds(entropy_weight: float) -> None:
    outputs, actions = cut_normals()
    theirs = torch.tensor(outputs, requires_grad=True)
    log_probs, entropies = cut_normal_by_autograd(theirs, torch.from_numpy(actions), BOUNDED)
    term_gradients = rng(2).standard_normal(N)
    likelihood = distribution(BOUNDED).likelihood(outputs, actions)
    np.testing.assert_allclose(likelihood.log_probs, log_probs.detach(), 1e-7)
    np.testing.assert_allclose(likelihood.entropies, entropies.detach(), 1e-7)
    expected = gradients_by_autograd(theirs, log_probs, entropies, term_gradients, entropy_weight)
    np.testing.assert_allclose(likelihood.output_gradients(term_gradients, entropy_weight), expected, 1e-7, 1e-12)


@pytest.mark.parametrize("entropy_weight", [0.0, 5.0])
@pytest.mark.parametrize("term_gradients", [1.0, -1.0])
def test_a_deviation_beyond_its_limits_acts_as_at_the_limit_and_is_pulled_back_only(
    term_gradients: float, entropy_weight: float
) -> None:
    """Two parameters below, two above, one of each with an action near its mean; gradients by autograd at the limit."""
    given = torch.tensor([-9.0, -9.0, 5.0, 5.0], dtype=torch.float64)
    means, actions = torch.full((4,), 0.3).double(), torch.tensor([0.3, 0.4, 0.3, 40.3], dtype=torch.float64)
    held = given.clamp(*LOG_DEVIATIONS).requires_grad_()
    normal: Any = torch.distributions.Normal(means, held.exp())
    of_terms = np.full(4, term_gradients)
    at_limit = gradients_by_autograd(held, normal.log_prob(actions), normal.entropy(), of_terms, entropy_weight)

    likelihood = distribution(box((-INF,), (INF,))).likelihood(np.stack([means, given], 1), actions.numpy()[:, None])
    np.testing.assert_allclose(likelihood.log_probs, normal.log_prob(actions).detach(), 1e-7)
    gradients = likelihood.output_gradients(of_terms, entropy_weight)[:, 1]
    returns = -gradients * np.array([1, 1, -1, -1]) > 0.0  # descent moves against the slope
    np.testing.assert_allclose(gradients[returns], at_limit[returns], 1e-7)
    assert not gradients[~returns].any()
    assert returns.tolist() == [bool(slope < 0) for slope in at_limit[:2]] + [bool(slope > 0) for slope in at_limit[2:]]
    assert not returns.all()
    assert returns.any()


@pytest.mark.parametrize(("mean", "log_deviation"), [(0.0, 0.0), (0.9, -1.0), (-3.0, 0.5), (5.0, 1.0)])
def test_probabilities_of_a_cut_normal_sum_to_one(mean: float, log_deviation: float) -> None:
    """Midpoints over (-1, 1), and both tails: what the policy may do is something."""
    cells = 4000
    inside = np.linspace(-1 + 1 / cells, 1 - 1 / cells, cells)
    outputs = np.array([[mean, log_deviation]])
    family = distribution(box((-1.0,), (1.0,)))

    def probs(actions: np.ndarray) -> np.ndarray:
        return np.exp(family.likelihood(np.tile(outputs, (len(actions), 1)), actions[:, None]).log_probs)

    tails = probs(np.array([-1.0, 1.0]))
    deviation = math.exp(log_deviation)
    masses = [0.5 * math.erfc((mean + 1) / deviation / math.sqrt(2)), 0.5 * math.erfc((1 - mean) / deviation / 2**0.5)]
    assert tails.tolist() == pytest.approx(masses)
    assert probs(inside).sum().item() * 2 / cells + tails.sum().item() == pytest.approx(1.0, abs=1e-6)


def test_draws_of_a_cut_normal_have_its_mean_and_its_tails() -> None:
    """Mean 0.5, deviation 1, cut at ±1, beside a free axis of deviation e; four standard errors."""
    family = distribution(box((-1.0, -INF), (1.0, INF)))
    many = drawn(family, np.array([[0.5, -2.0, 0.0, 1.0]], np.float32), 8000)[:, 0]
    assert many.dtype == np.float32
    upper, lower = 0.5 * math.erfc(0.5 / 2**0.5), 0.5 * math.erfc(1.5 / 2**0.5)
    assert (many[:, 0] == 1).mean() == pytest.approx(upper, abs=4 * 0.5 / 8000**0.5)
    assert (many[:, 0] == -1).mean() == pytest.approx(lower, abs=4 * 0.5 / 8000**0.5)
    assert abs(many[:, 0]).max() == 1
    assert many[:, 1].mean() == pytest.approx(-2.0, abs=4 * math.e / 8000**0.5)
    assert many[:, 1].std() == pytest.approx(math.e, rel=0.05)


@pytest.mark.parametrize("log_deviation", [-5.0, 0.0, 2.0])
@pytest.mark.parametrize("mean", [0.0, -10.0, -1e3, -1e6, 1e3])
def test_far_tails_in_float32_are_finite_and_right(mean: float, log_deviation: float) -> None:
    """At the upper bound, with x = (1 - μ)/σ: h(x) is x + 1/x - ... far out; the slope by the mean is -h/σ."""
    outputs = np.array([[mean, log_deviation]], np.float32)
    likelihood = distribution(box((-1.0,), (1.0,))).likelihood(outputs, np.ones((1, 1), np.float32))
    gradients = likelihood.output_gradients(np.ones(1, np.float32), 0.0)
    assert np.isfinite(likelihood.log_probs).all()
    assert np.isfinite(gradients).all()
    deviation = math.exp(log_deviation)
    x = (1 - mean) / deviation
    if x > 10:
        mills = x + 1 / x - 2 / x**3
        assert gradients[0, 0].item() == pytest.approx(-mills / deviation, rel=1e-4)
        assert gradients[0, 1].item() == pytest.approx(-mills * x, rel=1e-4)
        tail = -x * x / 2 - math.log(mills * math.sqrt(math.tau))
        assert likelihood.log_probs.item() == pytest.approx(tail, rel=1e-4)


def mask_of(sizes: tuple[int, ...]) -> np.ndarray:
    """Seeded, bool [N, sum of sizes]: some values of each choice, one at least."""
    parts = [rng(9 + i).random((N, size)) < 0.5 for i, size in enumerate(sizes)]
    for i, part in enumerate(parts):
        part[np.arange(N), rng(90 + i).integers(0, part.shape[1], N)] = True
    return np.concatenate(parts, 1)


def allowed_actions(mask: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Of each choice the last value that may be chosen, [N, width]."""
    parts = np.split(mask, np.cumsum(sizes)[:-1], 1)
    return np.stack([(part * np.arange(1, part.shape[1] + 1)).argmax(1) for part in parts], 1)


@pytest.mark.parametrize("sizes", [(4,), (3, 2, 5), (1, 3)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_masked_choice_is_the_softmax_of_the_logits_that_are_left(sizes: tuple[int, ...], kind: Any) -> None:
    """Each row by itself, by the logits that may be chosen alone; gradients by autograd, and 0 for the others."""
    outputs, mask = choices(sizes)[0].astype(kind), mask_of(sizes)
    actions, term_gradients, weight = allowed_actions(mask, sizes), rng(1).standard_normal(N), 0.3
    likelihood = distribution(discrete(*sizes)).likelihood(outputs, actions, mask)
    gradients = likelihood.output_gradients(term_gradients.astype(kind), weight)
    assert not gradients[~mask].any()
    assert likelihood.log_probs.dtype == kind
    close = 1e-5 if kind == np.float32 else 1e-9
    for row in range(N):
        log_prob, entropy, left, begin = torch.zeros(()), torch.zeros(()), [], 0
        for size, action in zip(sizes, actions[row], strict=True):
            places = begin + np.flatnonzero(mask[row, begin : begin + size])
            logits = torch.tensor(outputs[row, places].astype(np.float64), requires_grad=True)
            part: Any = torch.distributions.Categorical(logits=logits)
            taken = torch.tensor(int(np.flatnonzero(places == begin + action)[0]))
            log_prob, entropy = log_prob + part.log_prob(taken), entropy + part.entropy()
            left.append((places, logits))
            begin += size
        assert likelihood.log_probs[row] == pytest.approx(log_prob.item(), rel=close, abs=close)
        assert likelihood.entropies[row] == pytest.approx(entropy.item(), rel=close, abs=close)
        loss = -(term_gradients[row] * log_prob + weight * entropy) / N
        for (places, _), slope in zip(left, torch.autograd.grad(loss, [logits for _, logits in left]), strict=True):
            np.testing.assert_allclose(gradients[row, places], slope.numpy(), close, close)


def test_masked_gradients_are_slopes_of_the_loss() -> None:
    """By central differences, of every output, those that may not be chosen as well."""
    sizes, step = (3, 4), 1e-6
    outputs, mask = choices(sizes)[0], mask_of(sizes)
    actions, terms = allowed_actions(mask, sizes), rng(2).standard_normal(N)
    family = distribution(discrete(*sizes))

    def loss(at: np.ndarray) -> float:
        found = family.likelihood(at, actions, mask)
        return float(-(terms * found.log_probs).mean() - 0.2 * found.entropies.mean())

    gradients = family.likelihood(outputs, actions, mask).output_gradients(terms, 0.2)
    for place in np.ndindex(outputs.shape):
        up, down = outputs.copy(), outputs.copy()
        up[place] += step
        down[place] -= step
        assert gradients[place] == pytest.approx((loss(up) - loss(down)) / (2 * step), abs=1e-8)


def test_a_mask_that_allows_all_changes_no_bit() -> None:
    outputs, actions = choices((3, 2))
    outputs = outputs.astype(np.float32)
    family, all_allowed = distribution(discrete(3, 2)), np.ones((N, 5), np.bool_)
    noise = family.noise(rng(), 1, N)[0]
    np.testing.assert_array_equal(family.draw(outputs, noise, all_allowed), family.draw(outputs, noise))
    masked_, plain = (family.likelihood(outputs, actions, mask) for mask in (all_allowed, None))
    np.testing.assert_array_equal(masked_.log_probs, plain.log_probs)
    np.testing.assert_array_equal(masked_.entropies, plain.entropies)
    assert masked_.information == pytest.approx(plain.information)
    terms = np.ones(N, np.float32)
    np.testing.assert_array_equal(masked_.output_gradients(terms, 0.1), plain.output_gradients(terms, 0.1))


def test_only_what_is_allowed_is_drawn_and_as_often_as_it_is_likely() -> None:
    """However much better what is not allowed looks; four standard errors."""
    family = distribution(discrete(4, 2))
    outputs = np.array([[1e30, 0.0, 3e38, 1.0, -1e30, 1e30]], np.float32)
    mask = np.array([[False, True, False, True, True, False]])
    noise = family.noise(rng(0), 8000, 1)
    many = np.stack([family.draw(outputs, row, mask) for row in noise])[:, 0]
    assert set(many[:, 0].tolist()) == {1, 3}
    assert set(many[:, 1].tolist()) == {0}
    assert (many[:, 0] == 3).mean() == pytest.approx(math.e / (1 + math.e), abs=4 * 0.5 / 8000**0.5)
    assert family.best(outputs, mask).tolist() == [[3, 0]]


def test_a_single_action_that_is_allowed_is_certain_and_nothing_is_nan() -> None:
    outputs = np.array([[1e30, -5.0, 3e38]], np.float32)
    likelihood = distribution(discrete(3)).likelihood(outputs, np.array([[1]]), np.array([[False, True, False]]))
    assert (likelihood.log_probs.item(), likelihood.entropies.item(), likelihood.information) == (0.0, 0.0, 0.0)
    assert not likelihood.output_gradients(np.ones(1, np.float32), 1e9).any()
    even = distribution(discrete(3)).likelihood(np.zeros((1, 3)), np.array([[1]]), np.array([[False, True, True]]))
    assert even.information == pytest.approx(1.0), "of two that are left, which are as likely"


MIXED = Actions("mixed", (3, 2, 1, 1), (0.0,) * 4, (1.0,) * 4, (-1.0, -INF), (1.0, INF))


@pytest.mark.parametrize("masked_too", [False, True])
def test_choices_beside_real_numbers_are_both_families_at_once(masked_too: bool) -> None:
    """log-probabilities, entropies and gradients; information is that of the choices and of each axis, weighed."""
    family = distribution(MIXED)
    choices_, reals = distribution(discrete(3, 2)), distribution(box((-1.0, -INF), (1.0, INF)))
    outputs = (rng().standard_normal((N, 9)) * 0.5).astype(np.float32)
    mask = mask_of((3, 2)) if masked_too else None
    noise = family.noise(rng(1), 2, N)
    assert (noise.shape, noise.dtype.name) == ((2, N, 7), "float32")
    actions = family.draw(outputs, noise[0], mask)
    assert actions.dtype == np.float32
    whole = actions[:, :2].astype(np.int64)
    np.testing.assert_array_equal(whole, choices_.draw(outputs[:, :5], noise[0, :, :5], mask))
    np.testing.assert_array_equal(actions[:, 2:], reals.draw(outputs[:, 5:], noise[0, :, 5:]))
    best = np.concatenate([choices_.best(outputs[:, :5], mask), reals.best(outputs[:, 5:])], 1)
    np.testing.assert_array_equal(family.best(outputs, mask), best)

    found = family.likelihood(outputs, actions, mask)
    parts = choices_.likelihood(outputs[:, :5], whole, mask), reals.likelihood(outputs[:, 5:], actions[:, 2:])
    np.testing.assert_allclose(found.log_probs, parts[0].log_probs + parts[1].log_probs)
    np.testing.assert_allclose(found.entropies, parts[0].entropies + parts[1].entropies)
    terms = rng(1).standard_normal(N).astype(np.float32)
    sides = [part.output_gradients(terms, 0.2) for part in parts]
    np.testing.assert_array_equal(found.output_gradients(terms, 0.2), np.concatenate(sides, 1))
    allowed = np.ones((N, 5)) if mask is None else mask
    most = sum(1 - (1 / allowed[:, part].sum(1)).mean() for part in (slice(0, 3), slice(3, 5)))
    shares = most * parts[0].information + 2 * parts[1].information
    assert found.information == pytest.approx(shares / (most + 2))
