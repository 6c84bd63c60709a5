"""What a first time earns, what the hundredth, and what is held for the same."""

from __future__ import annotations

import numpy as np
import pytest

from actor.algorithms.novelty import Novelty
from actor.spaces import Spaces
from tests.actor.counter import discrete, vectors

TWO = discrete(2)
ROOMS = Spaces((5,), "float32", TWO, choices=((0, 5),))
ALL = np.ones((4, 2), np.bool_)


def rooms(*numbers: int) -> np.ndarray:
    """[4, 2, 5]: one-hot rooms of two environments, four steps."""
    shown: np.ndarray = np.eye(5, dtype=np.float32)[np.reshape(numbers, (4, 2))]
    return shown


def test_each_visit_earns_less_than_the_one_before() -> None:
    found = Novelty(2.0, ROOMS)
    first = found.bonuses(rooms(0, 1, 0, 0, 3, 0, 0, 1), ALL)
    expected = 2.0 / np.sqrt([[1, 1], [2, 3], [1, 4], [5, 2]])
    np.testing.assert_allclose(first, expected, rtol=1e-6)
    again = found.bonuses(rooms(4, 4, 0, 0, 0, 0, 0, 0), ALL)
    np.testing.assert_allclose(again[0], 2.0 / np.sqrt([1, 2]), rtol=1e-6)
    np.testing.assert_allclose(again[1:].ravel(), 2.0 / np.sqrt(np.arange(6, 12)), rtol=1e-6)


def test_what_belongs_to_the_next_episode_earns_nothing_and_is_not_counted() -> None:
    found, goes_on = Novelty(1.0, ROOMS), ALL.copy()
    goes_on[1:] = False
    bonuses = found.bonuses(rooms(*[0] * 8), goes_on)
    np.testing.assert_allclose(bonuses, [[1.0, np.sqrt(0.5)], [0, 0], [0, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(found.bonuses(rooms(*[0] * 8), goes_on)[0], 1.0 / np.sqrt([3, 4]), rtol=1e-6)


def test_vectors_that_are_near_each_other_are_the_same_and_opposite_ones_are_not() -> None:
    found = Novelty(1.0, vectors(3, TWO))
    seen = np.zeros((4, 2, 3), np.float32)
    seen[:] = [1.0, 2.0, -1.0]
    seen[1:] *= 1.0 + 1e-6
    seen[3, 1] *= -1.0
    bonuses = found.bonuses(seen, ALL).ravel()
    np.testing.assert_allclose(bonuses[:-1], 1.0 / np.sqrt(np.arange(1, 8)), rtol=1e-6)
    assert bonuses[-1] == pytest.approx(1.0)


def test_images_are_told_apart_by_their_bytes() -> None:
    found = Novelty(1.0, Spaces((7, 7, 3), "uint8", TWO))
    grids = np.zeros((4, 2, 7, 7, 3), np.uint8)
    grids[0, 0, 3, 3, 0] = 1
    assert np.count_nonzero(found.bonuses(grids, ALL) == 1.0) == 2


def test_nothing_counted_is_nothing_earned() -> None:
    assert not Novelty(1.0, ROOMS).bonuses(rooms(*[0] * 8), ~ALL).any()
