"""The bound that follows the median of all senders: what a minority can move, and that nobody is locked out."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import LearnerSettings, learner_settings
from learner.optim.norms import FEW, LAPSE_S, LEAST_VOTES, MOST_VOTES, VOTE, NormDistribution, make_norm_check
from protocol.errors import Reason

FACTOR = 10.0
EXCEEDED = Reason.NORM_EXCEEDED


def usual(senders: int, norm: float = 1.0, rounds: int = VOTE, floor: float = 0.0) -> NormDistribution:
    """After some gradients of each."""
    norms = NormDistribution(FACTOR, floor)
    for _ in range(rounds):
        for sender in range(senders):
            assert norms.observe(sender, norm, 0.0) is None
    return norms


def test_before_anything_was_heard_there_is_no_bound() -> None:
    norms = NormDistribution(FACTOR)
    assert norms.bound is None
    assert norms.observe("key", 1e30, 0.0) is None


def test_the_bound_is_a_factor_times_the_usual() -> None:
    norms = usual(3, 2.0)
    assert norms.bound == 20.0
    assert norms.observe(0, 20.0, 0.0) is None
    assert norms.observe(0, 20.1, 0.0) is EXCEEDED
    assert norms.observe(0, math.inf, 0.0) is EXCEEDED


@pytest.mark.parametrize("senders", [0, 1, 2])
def test_raw_gradients_are_judged_by_nobody_s_own_norms_nor_one_other_s(senders: int) -> None:
    norms = usual(senders, 1e-6)
    assert norms.bound is None
    assert all(norms.observe(sender, 1e6, 0.0) is None for sender in range(senders))


def test_before_three_were_heard_what_is_absurd_for_an_update_is_refused_and_nobody_for_good() -> None:
    norms = NormDistribution(FACTOR, 30.0)
    assert norms.bound == FEW * 300.0
    assert norms.observe("hostile", FEW * 300.0 + 1.0, 0.0) is EXCEEDED
    norms = usual(1, 1e-9, floor=30.0)
    assert norms.observe(0, FEW * 300.0, 0.0) is None
    verdicts = [norms.observe(0, 1e9, 0.0) for _ in range(VOTE)]
    assert verdicts.index(None) <= VOTE // 2 + 1
    assert not any(verdicts[VOTE // 2 + 1 :])


def test_after_all_have_converged_what_is_usual_while_policies_learn_still_is() -> None:
    norms = usual(5, 1e-9, floor=30.0)
    assert norms.bound == 300.0
    assert norms.observe(4, 300.0, 0.0) is None
    assert norms.observe(4, 301.0, 0.0) is EXCEEDED
    assert usual(5, 50.0, floor=30.0).bound == 500.0


def test_of_updates_a_usual_norm_follows_the_number_of_parameters_and_of_raw_gradients_there_is_none() -> None:
    converged, something_new = np.full(100, 1e-7, np.float32), np.full(100, 25.0, np.float32)
    raw = learner_settings({"optimizer": "sgd", "norm_factor": 100.0})
    for settings, verdict in ((LearnerSettings(), None), (raw, EXCEEDED)):
        screen = make_norm_check(settings, 100)
        assert not any(screen.check(converged, sender, 0.0) for sender in range(3))
        assert screen.check(something_new, 0, 0.0) is verdict
        assert screen.check(2.0 * something_new, 0, 0.0) is EXCEEDED


def test_a_median_of_zero_bounds_nothing() -> None:
    norms = usual(3, 0.0)
    assert norms.bound is None
    assert norms.observe(0, 1.0, 0.0) is None


def test_an_outlier_moves_no_vote() -> None:
    norms = usual(3)
    for _ in range(VOTE // 2 - 1):
        assert all(norms.observe(sender, 1e6, 0.0) is EXCEEDED for sender in range(3))
    assert norms.bound == FACTOR


def test_of_two_senders_one_cannot_shut_the_other_out() -> None:
    norms = NormDistribution(FACTOR)
    for _ in range(1000):
        norms.observe("hostile", 1e-9, 0.0)
    norms.observe("honest", 1.0, 0.0)
    assert all(norms.observe("honest", 1.0, 0.0) is None for _ in range(10))


@pytest.mark.parametrize("poison", [1e-9, 5.0, 1e9])
def test_three_of_ten_that_flood_move_the_bound_by_less_than_honest_norms_differ(poison: float) -> None:
    """Honest norms spread over a factor of four here: between the least and the greatest the bound must stay."""
    random, norms = Random(7), NormDistribution(FACTOR)
    refused = 0
    for number in range(20_000):
        hostile = number > 100 and random.random() < 0.95  # of all that arrives
        sender = random.randrange(3) if hostile else random.randrange(3, 10)
        norm = poison if hostile else random.uniform(1.0, 4.0)
        refused += norms.observe(sender, norm, 0.0) is not None and not hostile
        if number > 200:
            assert norms.bound is not None
            assert FACTOR * 1.0 <= norms.bound <= FACTOR * 4.0
    assert refused == 0


@given(
    st.lists(st.floats(0.1, 100.0), min_size=3, max_size=20),
    st.lists(st.floats(0.0, 1e20), max_size=20),
)
def test_a_minority_leaves_the_bound_between_honest_votes(honest: list[float], hostile: list[float]) -> None:
    hostile = hostile[: (len(honest) - 1) // 2]
    norms = NormDistribution(FACTOR)
    for sender, norm in enumerate(honest):
        norms.observe(sender, norm, 0.0)
    for sender, norm in enumerate(hostile):
        for _ in range(20):
            norms.observe(f"hostile {sender}", norm, 0.0)
    ordered, bad = sorted(honest), len(hostile)
    alone = len(honest) // 2  # where the median would be without them
    assert norms.bound is not None
    assert ordered[max(0, alone - bad)] <= norms.bound / FACTOR * 1.001
    assert norms.bound / FACTOR <= 1.001 * ordered[min(len(honest) - 1, alone + bad)]


def test_a_rise_of_all_norms_over_time_is_never_refused() -> None:
    norms, level = usual(10), 1.0
    for _ in range(100):
        level *= 10 ** (1 / 100)
        assert all(norms.observe(sender, level, 0.0) is None for sender in range(10))


def test_a_jump_of_all_norms_beyond_the_factor_is_usual_soon() -> None:
    norms = usual(10)
    refusals = [sum(norms.observe(sender, 1e5, 0.0) is EXCEEDED for _ in range(VOTE)) for sender in range(10)]
    assert max(refusals) <= VOTE
    norms = usual(10)
    rounds = [[norms.observe(sender, 1e5, 0.0) for sender in range(10)] for _ in range(VOTE)]
    assert not any(rounds[-1])
    assert sum(verdicts[0] is EXCEEDED for verdicts in rounds) == VOTE // 2 + 1 - (VOTE % 2 == 0)


def test_a_vote_lapses_and_those_of_others_stand() -> None:
    norms = NormDistribution(FACTOR)
    for sender in range(3):
        norms.observe(sender, 100.0, 0.0)
    late = (3, 4, 5)
    for sender in late:
        norms.observe(sender, 1.0, LAPSE_S)
    assert (len(norms), norms.bound) == (6, 100.0 * FACTOR)
    for sender in late:
        norms.observe(sender, 1.0, LAPSE_S + 1.0)
    assert (len(norms), norms.bound) == (3, FACTOR)


def test_memory_is_bounded_by_votes() -> None:
    norms = NormDistribution(FACTOR)
    for session in range(MOST_VOTES + 50):
        norms.observe(session, 1.0, 0.0)
    assert len(norms) == MOST_VOTES


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0.0, 1e20), st.floats(0.0, 100.0)), max_size=120),
    st.sampled_from([0.0, 1.0, 1e9]),
)
def test_it_is_what_the_plainest_loop_finds(heard: list[tuple[int, float, float]], floor: float) -> None:
    norms, now = NormDistribution(FACTOR, floor), 0.0
    last: dict[int, float] = {}
    of: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=VOTE))
    for sender, norm, pause in heard:
        now += pause
        votes = sorted(sorted(each)[len(each) // 2] for each in of.values())
        bound = max(floor, votes[len(votes) // 2] if votes else 0.0)
        bound *= FACTOR if len(votes) >= LEAST_VOTES else FEW * FACTOR if floor else 0.0
        assert norms.bound == (bound or None)
        assert norms.observe(sender, norm, now) is (EXCEEDED if bound and norm > bound else None)
        of[sender].append(norm)
        last[sender] = now
        for gone in [each for each, at in last.items() if now - at > LAPSE_S]:
            del last[gone], of[gone]
