"""How long updates are: by what, by how much, and when what was done can be seen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from actor.algorithms.step_size import LEAST_INFORMATION, STEP_LIMITS, StepSizeControl, WeightsId
from protocol.annealing import Cosine, Piecewise, Told

TARGET = 0.01
SHORT, LONG, RIGHT = 0.03, 0.004, 0.015  # nats that tell to make updates shorter, longer, to let them be
STEPS, FLOOR = 1000, 0.1  # of annealing


class Control(StepSizeControl):
    """One whose policy is as random as can be at the beginning of a run, where nothing else is said."""

    def follow(
        self, kl: float, first: tuple[int, int], last: tuple[int, int], *, information: float = 1.0, env_steps: int = 0
    ) -> None:
        self.update(kl, information, env_steps, WeightsId(*first), WeightsId(*last))


def control(factor: float = 1.0) -> Control:
    made = Control(TARGET, stretches=True, annealing=Told(STEPS, FLOOR))
    made.factor = factor
    return made


def test_the_step_size_follows_the_divergence_and_stays_within_its_limits() -> None:
    """Schulman et al. 2017, section 4: beyond twice the target shorter, below half of it longer, between the same."""
    step_size, versions, lengths = control(), itertools.count(0, 12), []
    for kl in (0.015, 0.006, 0.021, 0.03, 0.004):
        version = next(versions)
        step_size.follow(kl, (1, version), (1, version + 12))
        lengths.append(step_size.factor)
    assert lengths == pytest.approx([1.0, 1.0, 1 / 1.5, 1 / 1.5**2, 1 / 1.5])
    for kl, limit in ((1.0, STEP_LIMITS[0]), (0.0, STEP_LIMITS[1])):
        for version in itertools.islice(versions, 40):
            step_size.follow(kl, (1, version), (1, version + 12))
        assert step_size.factor == limit


@pytest.mark.parametrize(
    ("env_steps", "share"), [(0, 1.0), (500, 0.55), (1000, 0.1), (5000, 0.1)], ids=["first", "half", "last", "after"]
)
def test_what_annealing_takes_is_not_given_back(env_steps: int, share: float) -> None:
    """A divergence goes with the square of the rate: one that fell by no more than that leaves the length alone."""
    for stays, kl in ((True, 0.51), (False, 0.49)):
        step_size = control()
        step_size.follow(TARGET * share**2 * kl, (1, 0), (1, 12), env_steps=env_steps)
        assert step_size.factor == pytest.approx(1.0 if stays else 1.5)


def test_what_a_cosine_or_points_take_is_not_given_back_either() -> None:
    for schedule in (Cosine(anneal_steps=STEPS, anneal_floor=FLOOR), Piecewise(anneal_points=((0, 0.2), (400, 0.5)))):
        step_size = StepSizeControl(TARGET, stretches=True, annealing=schedule.told)
        for env_steps in (0, 100, 250, 400, 1000, 5000):
            assert step_size.rate_share(env_steps) == pytest.approx(schedule.share(env_steps), abs=1e-3)


@pytest.mark.parametrize("env_steps", [0, 5000])
def test_annealing_shortens_nothing(env_steps: int) -> None:
    for kl, length in ((RIGHT, 1.0), (SHORT, 1 / 1.5)):
        step_size = control()
        step_size.follow(kl, (1, 0), (1, 12), env_steps=env_steps)
        assert step_size.factor == pytest.approx(length)


def test_a_rate_that_stays_is_compared_to_the_target_for_good() -> None:
    step_size = Control(TARGET, stretches=True)
    step_size.follow(LONG, (1, 0), (1, 12), env_steps=10**9)
    assert step_size.factor == 1.5


@pytest.mark.parametrize(
    ("length", "kl", "after"),
    [(64.0, 0.0, 1.0), (64.0, RIGHT, 1.0), (2.0, 0.0, 1.0), (1.0, 0.0, 1.0), (0.5, 0.0, 1.0), (0.5, RIGHT, 0.5)],
)
def test_a_settled_policy_has_updates_no_longer_than_the_rate_has_them(length: float, kl: float, after: float) -> None:
    """It hardly moves at any length, until one undoes it: forty rollouts that told so once made a solved one 0."""
    step_size, before = control(length), length
    for version in range(0, 480, 12):
        step_size.follow(kl, (1, version), (1, version + 12), information=LEAST_INFORMATION / 1.01)
        assert min(before, after) <= step_size.factor <= max(before, after)
        before = step_size.factor
    assert step_size.factor == after


def test_a_settled_policy_that_moves_too_far_has_shorter_updates_like_any() -> None:
    step_size = control()
    step_size.follow(SHORT, (1, 0), (1, 12), information=0.0)
    assert step_size.factor == 1 / 1.5


def test_little_information_is_enough() -> None:
    step_size = control()
    step_size.follow(LONG, (1, 0), (1, 12), information=LEAST_INFORMATION)
    assert step_size.factor == 1.5


def test_who_has_no_target_or_cannot_stretch_lets_lengths_be() -> None:
    for idle in (Control(0.0, stretches=True), Control(TARGET, stretches=False)):
        idle.follow(1e9, (1, 0), (1, 12))
        assert idle.factor == 1.0


@pytest.mark.parametrize(("first", "last"), [((1, 5), (1, 5)), ((1, 5), (1, 4)), ((1, 5), (2, 6)), ((2, 5), (1, 9))])
def test_weights_that_did_not_follow_each_other_tell_nothing(first: tuple[int, int], last: tuple[int, int]) -> None:
    step_size = control()
    for kl in (SHORT, LONG):
        step_size.follow(kl, first, last)
        assert step_size.factor == 1.0


def test_the_next_change_waits_until_the_last_one_can_be_seen() -> None:
    """Changed after version 12 where gradients are 64 late: the first of the new length makes version 77."""
    step_size = control()
    step_size.record_lags([3, 64])
    step_size.follow(SHORT, (1, 0), (1, 12))
    changed = step_size.factor
    for version in range(12, 71):
        step_size.follow(SHORT, (1, version), (1, version + 12))
        assert step_size.factor == changed
    step_size.follow(RIGHT, (1, 71), (1, 83))  # half of what led there is of the new length
    assert step_size.factor == changed
    step_size.follow(SHORT, (1, 71), (1, 83))
    assert step_size.factor == changed / 1.5


def test_what_needs_no_change_is_waited_for_by_nobody() -> None:
    step_size = control()
    step_size.record_lags([64])
    step_size.follow(RIGHT, (1, 0), (1, 12))
    step_size.follow(LONG, (1, 12), (1, 24))
    assert step_size.factor == 1.5


def test_another_life_of_the_learner_counts_versions_anew() -> None:
    step_size = control()
    step_size.record_lags([64])
    step_size.follow(SHORT, (1, 1000), (1, 1012))
    step_size.follow(SHORT, (2, 500), (2, 512))
    assert step_size.factor == 1 / 1.5**2


def test_answers_that_tell_nothing_leave_the_lag_as_it_was() -> None:
    step_size = control()
    step_size.record_lags([64])
    step_size.record_lags([])
    step_size.follow(SHORT, (1, 0), (1, 12))
    step_size.follow(SHORT, (1, 12), (1, 24))
    assert step_size.factor == 1 / 1.5


def test_a_rollout_is_left_where_updates_cannot_be_made_shorter() -> None:
    assert Control(TARGET, stretches=False).exhausted(SHORT)
    assert not Control(TARGET, stretches=False).exhausted(RIGHT)
    assert not control().exhausted(SHORT)
    assert not Control(0.0, stretches=False).exhausted(SHORT)


def test_those_who_answer_to_the_same_measure_come_to_lengths_that_are_alike() -> None:
    """Eight of which one is ahead by fifty; what all do to the policy grows with the square of what they add up to, and
    each sees it through samples of its own.
    """
    spreads: dict[bool, list[float]] = {False: [], True: []}
    for seed, shared in itertools.product(range(9), spreads):
        noise = np.random.default_rng(seed)
        fleet = [control(2.0), *(control(0.04) for _ in range(7))]
        for rollout in range(8 * 150):
            moved = TARGET * sum(each.factor for each in fleet) ** 2
            fleet[rollout % 8].update_local(moved * noise.lognormal(0.0, 0.7), 1.0, 0, shared=shared)
        spreads[shared].append(_spread(fleet))
    assert np.median(spreads[True]) < 5
    assert np.median(spreads[False]) > 10


def _spread(fleet: list[Control]) -> float:
    return max(each.factor for each in fleet) / min(each.factor for each in fleet)


def test_a_shared_length_returns_to_the_rates_own_where_nothing_else_is_asked() -> None:
    for factor in (STEP_LIMITS[0], STEP_LIMITS[1]):
        step_size = control(factor)
        for _ in range(200):
            step_size.update_local(RIGHT, 1.0, 0, shared=True)
        assert step_size.factor == pytest.approx(1.0, rel=1e-3)
        alone = control(factor)
        alone.update_local(RIGHT, 1.0, 0)
        assert alone.factor == factor
