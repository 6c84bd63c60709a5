"""The model of what more actors add, beside the plainest loop; and what of a run it is read from."""

from __future__ import annotations

import pytest

from actor.algorithms import portion
from learner.monitoring.scaling import AT_LEAST, LEAST_ROWS, MANY, WORTH, Fleet, scaling
from tests.learner.books import join, learner_state, scaled

IDLE = 0.0


def plain(fleet: Fleet) -> int:
    """The largest fleet whose last actor adds half of its proportion, counted up from one."""
    found = 1
    for actors in range(2, 5000):
        if (fleet.speed(actors) / fleet.speed(actors - 1) - 1) * (actors - 1) >= WORTH:
            found = actors
    return found


FLEETS = [
    Fleet(actors, share, rows * actors, noise)
    for actors in (1, 3, 16, 200)
    for share in (0.001, 0.1, 0.97)
    for rows in (20, 64, 200, 1000)
    for noise in (300.0, 4000.0, 90_000.0)
]


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
def test_useful_actors_are_those_that_a_loop_finds(fleet: Fleet) -> None:
    assert min(fleet.useful, 4999) == pytest.approx(plain(fleet), abs=1)


def test_half_of_the_proportion_is_where_the_batch_is_the_noise_scale() -> None:
    fleet = Fleet(8, IDLE, 8 * LEAST_ROWS, 40 * LEAST_ROWS)
    assert fleet.useful == 40
    assert (fleet.speed(40) / fleet.speed(39) - 1) * 39 == pytest.approx(WORTH)


def test_actors_that_still_share_a_batch_add_all_that_they_bring() -> None:
    """Each of two collects five times the least: until there are ten, the batch is what it is."""
    fleet = Fleet(2, IDLE, 10 * LEAST_ROWS, 100.0)
    assert fleet.gain(2) == pytest.approx(1.0)
    assert fleet.gain(8) == pytest.approx(4.0)
    assert fleet.gain(18) < 4.5
    assert fleet.useful == 10


def test_a_fleet_beyond_its_noise_scale_gains_little() -> None:
    fleet = Fleet(100, IDLE, 100 * LEAST_ROWS, 10 * LEAST_ROWS)
    assert fleet.gain(100) == pytest.approx((200 / 21) / (100 / 11) - 1)
    assert fleet.useful == 10


def test_a_math_thread_without_time_left_bounds_all() -> None:
    fleet = Fleet(4, 0.5, 4 * 1000, 1e6)
    assert fleet.useful == 8
    assert fleet.gain(4) == pytest.approx(1.0)
    assert fleet.gain(100) == pytest.approx(1.0, abs=0.01)
    assert Fleet(4, 1.0, 4 * LEAST_ROWS, 1e3).gain(2) < 0.0, "more staleness, and no more speed"


def test_without_noise_one_actor_is_all_that_is_useful() -> None:
    fleet = Fleet(4, IDLE, 4 * LEAST_ROWS, 0.0)
    assert fleet.useful == 1
    assert fleet.gain(100) == pytest.approx(0.0)


def test_a_learner_that_is_never_busy_serves_any_number() -> None:
    assert Fleet(1, 0.0, 64.0, 1e15).useful == MANY


def test_the_least_that_an_actor_collects_is_the_actors() -> None:
    assert portion.LEAST_ROWS == LEAST_ROWS
    assert AT_LEAST > portion.BAND


def test_a_run_is_told_of_where_its_noise_scale_is_known() -> None:
    state = learner_state()
    assert scaling(state) is None
    scaled(state, messages=20.0, steps=100, batch=500)
    assert scaling(state) is None, "nobody trains"
    for name in "abcde":
        join(state, name, 0.0)
    told = scaling(state)
    assert told is not None
    assert told.fleet == Fleet(5, 0.1, 500.0, 2000.0)
    assert (told.noise_scale_env_steps, told.useful_actors) == (2000.0, told.fleet.useful)
    assert 5 < told.fleet.useful <= 50


def test_a_bound_is_no_noise_scale() -> None:
    state = learner_state()
    join(state, "a", 0.0)
    scaled(state, told=False)
    told = scaling(state)
    assert told is not None
    assert (told.noise_scale_env_steps, told.useful_actors) == (None, None)
