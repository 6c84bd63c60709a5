"""What is left of a learning rate, against plain loops, and as a welcome tells it to who knows more or less."""

from __future__ import annotations

import itertools
import math

import pytest

from protocol.annealing import COSINE_PARTS, Constant, Cosine, Linear, Piecewise, Told

POINTS = ((10, 0.1), (20, 1.0), (25, 0.5), (60, 0.5), (100, 0.0))


def through(points: tuple[tuple[int, float], ...], env_steps: int) -> float:
    """The slow way: walks one environment step after the other."""
    share, at = points[0][1], points[0][0]
    for (first, begin), (last, end) in itertools.pairwise(points):
        for step in range(first + 1, last + 1):
            if at < env_steps:
                share, at = begin + (end - begin) * (step - first) / (last - first), step
    return share


def test_through_points_the_rate_goes_straight_and_is_level_outside() -> None:
    schedule = Piecewise(anneal_points=POINTS)
    for env_steps in range(130):
        assert schedule.share(env_steps) == pytest.approx(through(POINTS, env_steps), abs=1e-12)
    assert (schedule.share(0), schedule.share(20), schedule.share(40), schedule.share(10**12)) == (0.1, 1.0, 0.5, 0.0)


def test_a_single_point_is_a_level() -> None:
    assert {Piecewise(anneal_points=((50, 0.25),)).share(at) for at in (0, 50, 10**9)} == {0.25}


def test_a_straight_line_is_what_it_was_to_the_bit() -> None:
    schedule = Linear(anneal_steps=300_000, anneal_floor=0.05)
    for env_steps in range(0, 400_000, 997):
        left = max(0.0, 1.0 - env_steps / 300_000)
        assert schedule.share(env_steps) == 0.05 + (1.0 - 0.05) * left
        assert schedule.told.share(env_steps) == schedule.share(env_steps)


def test_a_cosine_is_the_papers() -> None:
    """Loshchilov and Hutter 2017, equation 5: η_min + (η_max - η_min) (1 + cos(π T_cur / T_i)) / 2."""
    schedule = Cosine(anneal_steps=1000, anneal_floor=0.1)
    for env_steps in range(1001):
        paper = 0.1 + 0.5 * (1.0 - 0.1) * (1.0 + math.cos(env_steps / 1000 * math.pi))
        assert schedule.share(env_steps) == pytest.approx(paper, abs=1e-12)
    assert schedule.share(0) == 1.0
    assert schedule.share(500) == pytest.approx(0.55)
    assert schedule.share(1000) == schedule.share(10**12) == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 7, 1000, 10**7])
def test_a_cosine_is_told_nearly_as_it_is(steps: int) -> None:
    schedule = Cosine(anneal_steps=steps, anneal_floor=0.0)
    told = schedule.told
    assert len(told.anneal_points) <= COSINE_PARTS + 1
    assert (
        max(abs(told.share(at) - schedule.share(at)) for at in range(0, 2 * steps + 2, max(1, steps // 2000)))
        < 1 / 3000
    )


def test_who_reads_no_points_has_the_end_right() -> None:
    for schedule in (Cosine(anneal_steps=70, anneal_floor=0.1), Piecewise(anneal_points=((0, 0.2), (70, 0.1)))):
        without = schedule.told._replace(anneal_points=())
        assert without.share(70) == pytest.approx(schedule.share(70)) == pytest.approx(0.1)
    assert Piecewise(anneal_points=((0, 0.5),)).told == Told(1, 0.5, ((0, 0.5),))


def test_where_nothing_is_told_the_rate_stays() -> None:
    assert Constant().told.share(10**9) == Told().share(10**9) == Constant().share(10**9) == 1.0
