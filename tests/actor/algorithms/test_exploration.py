"""ε-greedy: its schedule, the paper's spread of final values over actors, its draws."""

from __future__ import annotations

import numpy as np
import pytest

from actor.algorithms.exploration import EpsilonGreedy, draw_final_epsilon, entropy_weight_at, epsilon_at
from actor.config import ActorSettings

VALUES = np.array([[0.0, 3.0, 1.0], [5.0, 3.0, 4.0]], np.float32)


def test_epsilon_falls_straight_from_one_to_its_end_and_stays_there() -> None:
    fallen = [epsilon_at(0.1, steps, 1000) for steps in (0, 500, 1000, 5000)]
    assert fallen == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_the_weight_of_entropy_falls_straight_to_its_floor_and_stays_there() -> None:
    settings = ActorSettings(entropy_weight=0.02, entropy_steps=1000, entropy_floor=0.1)
    fallen = [entropy_weight_at(settings, steps) for steps in (0, 500, 1000, 5000)]
    assert fallen == pytest.approx([0.02, 0.011, 0.002, 0.002])


def test_the_weight_of_entropy_stays_until_it_is_time() -> None:
    settings = ActorSettings(entropy_weight=0.02, entropy_from=500, entropy_steps=1500, entropy_floor=0.1)
    fallen = [entropy_weight_at(settings, steps) for steps in (0, 500, 1000, 1500, 9000)]
    assert fallen == pytest.approx([0.02, 0.02, 0.011, 0.002, 0.002])


def test_the_weight_of_entropy_stands_without_a_schedule() -> None:
    assert entropy_weight_at(ActorSettings(entropy_weight=0.02), 10**9) == 0.02


def test_final_epsilons_are_spread_over_actors_as_in_the_paper() -> None:
    """Mnih et al. 2016, section 5.1: 0.1, 0.01 and 0.5 with probabilities 0.4, 0.3 and 0.3; four standard errors."""
    drawn = [draw_final_epsilon(ActorSettings(), np.random.default_rng([seed, 2])) for seed in range(4000)]
    for value, odds in {0.1: 0.4, 0.01: 0.3, 0.5: 0.3}.items():
        assert drawn.count(value) / 4000 == pytest.approx(odds, abs=4 * (odds * (1 - odds) / 4000) ** 0.5)
    assert set(drawn) == {0.1, 0.01, 0.5}


def test_odds_short_of_one_by_rounding_give_the_last_value() -> None:
    class Unlucky:
        def random(self) -> float:
            return 1.0 - 1e-16

    settings = ActorSettings(final_epsilons=(0.1, 0.2), final_epsilon_odds=(0.5, 0.4999999))
    assert draw_final_epsilon(settings, Unlucky()) == 0.2  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_draws_are_the_best_or_anything(epsilon: float) -> None:
    """Each action's share over many draws, four standard errors around (1-ε)[best] + ε/A."""
    greedy = EpsilonGreedy(3)
    greedy.epsilon = epsilon
    noise = greedy.noise(np.random.default_rng(0), 4000, 2)
    assert (noise.shape, noise.dtype.name) == ((4000, 2, 2), "float32")
    drawn = np.stack([greedy.draw(VALUES, row) for row in noise])[..., 0]
    for b, best in enumerate([1, 0]):
        shares = np.bincount(drawn[:, b], minlength=3) / 4000
        expected = np.full(3, epsilon / 3)
        expected[best] += 1 - epsilon
        np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / 4000**0.5 if epsilon else 0)


def test_noise_at_its_end_is_still_an_action() -> None:
    last = np.full((2, 2), np.nextafter(np.float32(1), np.float32(0)))
    assert EpsilonGreedy(3).draw(VALUES, last).tolist() == [[2], [2]]


def test_the_expected_value_is_the_mean_over_the_policy() -> None:
    greedy = EpsilonGreedy(3)
    greedy.epsilon = 0.25
    expected = [0.75 * max(row) + 0.25 * sum(row) / 3 for row in VALUES.tolist()]
    np.testing.assert_allclose(greedy.expected(VALUES), expected, rtol=1e-6)
    assert greedy.expected(VALUES).dtype == np.float32


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_under_a_mask_draws_are_the_best_or_anything_of_what_is_allowed(epsilon: float) -> None:
    """As above, with A the number of actions that are allowed: of the first row two, of the second one."""
    greedy = EpsilonGreedy(3)
    greedy.epsilon = epsilon
    masks = np.array([[True, False, True], [False, True, False]])
    noise = greedy.noise(np.random.default_rng(0), 4000, 2)
    drawn = np.stack([greedy.draw(VALUES, row, masks) for row in noise])[..., 0]
    assert set(drawn[:, 1].tolist()) == {1}
    shares = np.bincount(drawn[:, 0], minlength=3) / 4000
    expected = [epsilon / 2, 0.0, 1 - epsilon / 2]
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / 4000**0.5 if epsilon else 0)
    last = np.full((2, 2), np.nextafter(np.float32(1), np.float32(0)))
    greedy.epsilon = 1.0
    assert greedy.draw(VALUES, last, masks).tolist() == [[2], [1]]


def test_the_expected_value_under_a_mask_is_of_what_is_allowed() -> None:
    greedy = EpsilonGreedy(3)
    greedy.epsilon = 0.25
    found = greedy.expected(VALUES, np.array([[True, False, True], [False, True, False]]))
    np.testing.assert_allclose(found, [0.75 * 1.0 + 0.25 * 0.5, 3.0], rtol=1e-6)
    assert found.dtype == np.float32
