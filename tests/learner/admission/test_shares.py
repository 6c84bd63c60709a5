"""Who collects which part of the run's steps, by what is reported: rates, floors, and who comes and goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.admission.shares import LEAST, LOOKING, MEMORY_S, TELLING, Shares, differs

LONG_S = 20 * MEMORY_S


def shares(*sessions: int) -> Shares:
    made = Shares()
    for session in sessions:
        made.join(session, 0.0)
    return made


def collects(here: Shares, steps: dict[int, int], seconds: float = LONG_S, began: float = 0.0) -> None:
    """So many steps a second of each session, reported once a second."""
    for second in range(int(seconds) + 1):
        for session, count in steps.items():
            here.record(session, count, began + second)


def of(here: Shares, *sessions: int) -> list[float]:
    return [here.of(session) for session in sessions]


def test_shares_are_those_of_the_rates() -> None:
    here = shares(1, 2, 3)
    collects(here, {1: 100, 2: 50, 3: 50})
    assert of(here, 1, 2, 3) == pytest.approx([0.5, 0.25, 0.25])


def test_rates_are_of_steps_whatever_size_reports_have() -> None:
    here = shares(1, 2)
    for second in range(200):
        here.record(1, 40, float(second))
        if second % 4 == 3:
            here.record(2, 160, float(second))
    assert of(here, 1, 2) == pytest.approx([0.5, 0.5])


def test_nothing_reported_yet_all_are_equal_and_one_alone_has_everything() -> None:
    assert of(shares(1), 1) == [1.0]
    assert of(shares(1, 2, 3, 4), 1, 4) == [0.25, 0.25]
    here = shares(1, 2)
    here.record(1, 1000, 0.0)  # nobody knows how long these took
    assert of(here, 1, 2) == [0.5, 0.5]


def test_a_newcomer_counts_as_the_average_until_its_rate_is_known() -> None:
    here = shares(1, 2)
    collects(here, {1: 90, 2: 30})
    here.join(3, 0.0)
    assert of(here, 1, 2, 3) == pytest.approx([0.5, 1 / 6, 1 / 3])
    here.record(3, 60, LONG_S + 1)
    assert here.of(3) == pytest.approx(1 / 3)
    here.record(3, 120, LONG_S + 2)
    assert of(here, 1, 2, 3) == pytest.approx([90 / 240, 30 / 240, 120 / 240])


def test_who_leaves_frees_its_share() -> None:
    here = shares(1, 2, 3)
    collects(here, {1: 100, 2: 50, 3: 50})
    here.leave(1)
    assert of(here, 1, 2, 3) == pytest.approx([0.0, 0.5, 0.5])
    here.leave(2)
    here.leave(2)
    assert of(here, 2, 3) == [0.0, 1.0]
    here.leave(3)
    here.join(4, 0.0)
    assert of(here, 3, 4) == [0.0, 1.0]


def test_who_does_not_take_part_has_none_and_changes_nothing() -> None:
    here = shares(1)
    here.record(7, 1000, 0.0)
    here.record(7, 1000, 1.0)
    assert of(here, 7, 1) == [0.0, 1.0]


def test_everybody_has_at_least_a_part_of_an_equal_share() -> None:
    here = shares(1, 2, 3, 4)
    collects(here, {1: 1000, 2: 1000, 3: 1000, 4: 1})
    assert here.of(4) == LEAST / 4


def test_who_reports_more_than_it_takes_starves_nobody_and_leaves_nothing_behind() -> None:
    here = shares(1, 2, 3)
    collects(here, {1: 1, 2: 3, 3: 10**9})
    assert of(here, 1, 2) == [LEAST / 3] * 2
    assert here.of(3) == pytest.approx(1.0)
    for report in range(100):
        here.record(3, 10**9, LONG_S + 1.0 + report * 1e-6)
    here.leave(3)
    assert of(here, 1, 2) == pytest.approx([0.25, 0.75])


def test_what_was_reported_long_ago_fades() -> None:
    here = shares(1, 2)
    collects(here, {1: 100, 2: 100})
    collects(here, {1: 100, 2: 25}, began=LONG_S + 1)
    assert here.of(2) == pytest.approx(0.2)


def test_who_says_nothing_for_long_counts_for_less_and_less_and_soon_for_as_much_as_before() -> None:
    here = shares(1, 2)
    collects(here, {1: 100, 2: 100})
    told = []
    for second in range(1, 5 * int(MEMORY_S)):
        here.record(1, 100, LONG_S + second)
        here.tick(LONG_S + second)
        told.append(here.of(2))
    assert told[int(MEMORY_S) // 2] == pytest.approx(0.5)
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(told))
    assert told[-1] < 0.25
    collects(here, {1: 100, 2: 100}, began=LONG_S + 5 * MEMORY_S)
    assert here.of(2) == pytest.approx(0.5)


def test_a_pause_of_all_changes_no_share() -> None:
    here = shares(1, 2)
    collects(here, {1: 300, 2: 100})
    here.tick(LONG_S + 1000.0)
    assert of(here, 1, 2) == pytest.approx([0.75, 0.25])


def test_one_who_rolls_out_for_longer_than_is_remembered_counts_as_it_collects() -> None:
    here = shares(1, 2)
    for second in range(int(40 * MEMORY_S)):
        here.record(1, 100, float(second))
        if second % int(3 * MEMORY_S) == 0:
            here.record(2, int(300 * MEMORY_S), float(second))
        here.tick(float(second))
        if second > 6 * MEMORY_S:
            assert here.of(2) == pytest.approx(0.5, rel=0.01)


def test_reports_that_come_at_one_moment_count_as_if_they_were_one() -> None:
    """A learner that stood still reads all that waited at once; one report's time is all their time."""
    here, other = shares(1, 2), shares(1, 2)
    for second in (0.0, 0.0, 1.0, 30.0):
        here.record(2, 100, second)
        other.record(2, 100, second)
    for _ in range(29):
        here.record(1, 100, 0.0)
        here.record(1, 100, 0.0)
    here.record(1, 100, 1.0)
    for _ in range(29):
        here.record(1, 100, 30.0)
    other.record(1, 100, 0.0)
    other.record(1, 100, 1.0)
    other.record(1, 2900, 30.0)
    assert of(here, 1, 2) == pytest.approx(of(other, 1, 2))


def test_time_that_goes_back_is_no_time() -> None:
    here = shares(1)
    for now in (5.0, 6.0, 3.0, 3.5, 7.0):
        here.record(1, 10, now)
    here.join(2, 0.0)
    for now in (5.0, 6.0, 7.0):
        here.record(2, 10, now)
    here.tick(0.0)
    kept = math.exp(-1 / MEMORY_S)
    first = (30 * kept + 10) / (1 + kept)
    second = (10 * kept + 10) / (1 + kept)
    assert here.of(1) == pytest.approx(first / (first + second))


def test_reports_without_steps_are_a_rate_of_none() -> None:
    here = shares(1, 2)
    collects(here, {1: 0, 2: 0}, 5.0)
    assert of(here, 1, 2) == [0.5, 0.5]
    collects(here, {1: 0, 2: 10}, 5.0, began=6.0)
    assert of(here, 1, 2) == [LEAST / 2, pytest.approx(1.0)]


def test_all_that_take_part_are_listed() -> None:
    here = shares(1, 2)
    here.join(3, 0.0)
    here.leave(1)
    assert list(here) == [2, 3]


@pytest.mark.parametrize(
    ("share", "told", "far"),
    [
        (0.5, 0.5, False),
        (0.0, 0.0, False),
        (0.5, 0.0, True),
        (0.0, 0.5, True),
        (0.5 * TELLING * 0.999, 0.5, False),
        (0.5 * TELLING * 1.001, 0.5, True),
        (0.5, 0.5 * TELLING * 1.001, True),
    ],
)
def test_a_share_is_told_early_where_it_has_changed_much(share: float, told: float, far: bool) -> None:
    assert differs(share, told) is far


# against a plain recomputation


class Told(NamedTuple):
    """What happens after so many seconds to one session."""

    after_s: float
    what: str
    session: int
    steps: int


TALES = st.lists(
    st.builds(
        Told,
        st.sampled_from([0.0, 0.001, 0.3, 1.0, 1.7, 5.0, 12.0, 25.0, 100.0]),
        st.sampled_from([*["report"] * 5, "tick", "tick", "join", "leave"]),
        st.integers(1, 4),
        st.sampled_from([0, 1, 40, 1024, 10**9]),
    ),
    min_size=10,
    max_size=60,
)


class Plain:
    """One session: when it reported how many steps, and when time last passed."""

    def __init__(self, joined: float) -> None:
        self.joined, self.ticked_at = joined, 0.0
        self.reports: list[tuple[float, int]] = []
        self.idle = False  # a tick found that it had told nothing for long

    def tick(self, now: float) -> None:
        self.ticked_at = now
        last = self.reports[-1][0] if self.reports else self.joined
        self.idle = self.idle or now - last > MEMORY_S

    def rate(self) -> float | None:
        """Σ k steps / Σ k passed, k = exp(-age / MEMORY_S), over all reports after those of the first moment; no
        shorter than the silence since.
        """
        steps = seconds = 0.0
        for (before, _), (at, count) in pairwise(self.reports):
            kept = math.exp((at - self.reports[-1][0]) / MEMORY_S)
            if at > self.reports[0][0]:
                steps, seconds = steps + kept * count, seconds + kept * (at - before)
        if not seconds:
            return 0.0 if self.idle else None
        return steps / max(seconds, self.ticked_at - self.reports[-1][0])


def plainly(tale: Sequence[Told]) -> dict[int, float]:
    """The shares after all that."""
    now, here = 0.0, dict[int, Plain]()
    for after_s, what, session, steps in tale:
        now += after_s
        if what == "join" and session not in here:
            here[session] = Plain(now)
        elif what == "leave":
            here.pop(session, None)
        elif what == "report" and session in here:
            here[session].reports.append((now, steps))
        elif what == "tick":
            for each in here.values():
                each.tick(now)
    rates = {session: each.rate() for session, each in here.items()}
    known = [rate for rate in rates.values() if rate is not None]
    average = math.fsum(known) / len(known) if known else 0.0
    found = {}
    for session, rate in rates.items():
        share = (average if rate is None else rate) / (average * len(rates)) if average else 1 / len(rates)
        found[session] = min(1.0, max(LEAST / len(rates), share))
    return found


@given(TALES)
def test_shares_are_as_a_plain_recomputation_has_them(tale: list[Told]) -> None:
    now, here = 0.0, Shares()
    tale = [*(Told(0.0, "join", session, 0) for session in (1, 2, 3)), *tale]
    for count, (after_s, what, session, steps) in enumerate(tale, 1):
        now += after_s
        if what == "join" and session not in here:
            here.join(session, now)
        elif what == "leave":
            here.leave(session)
        elif what == "report":
            here.record(session, steps, now)
        elif what == "tick":
            here.tick(now)
        expected = plainly(tale[:count])
        assert list(here) == list(expected)
        assert {each: here.of(each) for each in here} == pytest.approx(expected, rel=1e-6)
        assert not expected or 1.0 - 1e-9 <= sum(expected.values()) <= 1.0 + LEAST


# what is looked at

MOST_APART = TELLING * LOOKING**2  # of what was told: the whole may have changed unnoticed before it and since


def together(count: int, steps: int = 32) -> Shares:
    """So many that report as many steps at the same times, all of whose shares were looked at."""
    shares = Shares()
    for session in range(count):
        shares.join(session, 0.0)
    for now in (0.0, 1.0):
        for session in range(count):
            shares.record(session, steps, now)
    shares.changed()
    return shares


def test_who_reported_is_looked_at_and_nobody_else() -> None:
    shares = together(1000)
    assert shares.changed() == []
    shares.record(7, 40, 2.0)
    shares.record(3, 40, 2.0)
    assert shares.changed() == [7, 3]
    assert shares.changed() == []


def test_all_are_looked_at_where_one_report_changes_the_whole() -> None:
    shares = together(10)
    shares.record(7, 10_000, 2.0)
    assert shares.changed() == list(range(10))
    assert shares.changed() == []


def test_all_are_looked_at_when_more_or_fewer_take_part() -> None:
    shares = together(10)
    shares.join(10, 0.0)
    assert shares.changed() == list(range(11))
    shares.leave(0)
    assert shares.changed() == list(range(1, 11))


def test_who_left_is_not_looked_at() -> None:
    shares = together(1000)
    shares.record(7, 40, 2.0)
    shares.leave(7)
    assert 7 not in shares.changed()


def test_who_says_nothing_for_long_is_looked_at() -> None:
    shares = together(1000)
    for session in range(999):
        shares.record(session, 320, 11.0)
    shares.changed()
    shares.tick(20.0)
    assert 999 in shares.changed()


def test_what_was_told_is_never_far_from_what_is_whatever_comes() -> None:
    random, shares = Random(0), together(50)
    told = {session: shares.of(session) for session in range(50)}
    paces = dict.fromkeys(told, 32)
    for turn in range(2000):
        now = 2.0 + 0.05 * turn
        if turn % 20 == 0:
            shares.tick(now)
            paces[random.randrange(50)] = random.choice((1, 32, 400))
        for session in random.sample(range(50), 5):
            shares.record(session, paces[session], now)
        for session in shares.changed():
            if differs(shares.of(session), told[session]):
                told[session] = shares.of(session)
        for session, share in told.items():
            due = shares.of(session)
            assert max(share, due) <= MOST_APART * min(share, due)


def test_who_reports_nothing_for_long_counts_for_nothing() -> None:
    here = shares(1, 2)
    for second in range(40):
        here.record(1, 100, float(second))
    assert here.of(1) == pytest.approx(0.5)
    here.tick(MEMORY_S)
    assert here.of(1) == pytest.approx(0.5)
    here.tick(MEMORY_S + 1.0)
    assert (here.of(1), here.of(2)) == (1.0, LEAST / 2)


def test_who_was_slow_for_a_while_is_as_large_as_others_again() -> None:
    """Steps follow the environments that a told share leaves an actor: half of them, three quarters of the steps."""
    here, now = shares(1, 2, 3), 0.0
    for turn in range(4000):
        now += 0.05
        for session in (1, 2, 3):
            slow = 0.1 if session == 1 and 400 < turn < 800 else 1.0
            here.record(session, round(1000 * slow * here.told(session) ** 0.6), now)
    assert [here.told(session) for session in (1, 2, 3)] == pytest.approx([1 / 3] * 3, rel=0.05)
