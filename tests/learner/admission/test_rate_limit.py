"""What a sender may send: a burst, then its rate; and what is remembered of whom."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.admission.rate_limit import BURST_S, LEAST_SWEEP, RateLimit

Sent = list[tuple[float, int]]  # seconds since the one before, bytes


def taken(quota: RateLimit, now: float, tries: int, size_bytes: int = 100, sender: str | int = "key") -> int:
    return sum(quota.spend(sender, size_bytes, now) for _ in range(tries))


def test_without_bounds_everything_passes_and_nothing_is_kept() -> None:
    quota = RateLimit(None, None)
    assert taken(quota, 0.0, 1000, 1 << 28) == 1000
    assert len(quota) == 0


def test_a_burst_then_the_rate() -> None:
    quota = RateLimit(8.0, None)
    assert taken(quota, 0.0, 100) == 8 * BURST_S
    assert taken(quota, 1.0, 100) == 8
    assert taken(quota, 1.1, 100) == 1  # the last one may overdraw
    assert taken(quota, 1.1, 100) == 0
    assert taken(quota, 1e6, 100) == 8 * BURST_S  # a long silence saves up no more


def test_bytes_are_bounded_whatever_their_number() -> None:
    quota = RateLimit(None, 8.192)  # 1024 bytes a second
    assert taken(quota, 0.0, 10**4, size_bytes=16) == 64 * BURST_S
    assert taken(quota, 1.0, 10**4, size_bytes=16) == 64


def test_a_payload_above_the_burst_passes_and_is_waited_for() -> None:
    quota = RateLimit(None, 8.0)
    assert taken(quota, 0.0, 2, size_bytes=30_000) == 1
    assert taken(quota, 24.9, 1) == 0
    assert taken(quota, 25.1, 1) == 1


def test_what_is_refused_is_not_charged() -> None:
    quota = RateLimit(1.0, None)
    taken(quota, 0.0, 1000)
    assert taken(quota, 1.0, 1000) == 1


def test_either_bucket_refuses() -> None:
    assert taken(RateLimit(1.0, 1e6), 0.0, 100) == BURST_S
    assert taken(RateLimit(1e6, 0.8), 0.0, 100) == BURST_S


def test_senders_do_not_share() -> None:
    quota = RateLimit(1.0, None)
    assert taken(quota, 0.0, 100, sender="flood") == BURST_S
    assert taken(quota, 0.0, 100, sender=7) == BURST_S


def test_who_leaves_and_comes_back_finds_what_it_left_unless_it_is_a_session() -> None:
    quota = RateLimit(1.0, None)
    taken(quota, 0.0, 100)
    taken(quota, 0.0, 100, sender=7)
    quota.forget(7)
    quota.forget(8)
    assert taken(quota, 0.0, 100) == 0
    assert len(quota) == 1


def test_who_sent_long_ago_is_forgotten() -> None:
    quota = RateLimit(1.0, None)
    for session in range(10_000):
        quota.spend(session, 1, session * 1.0)
        assert len(quota) <= LEAST_SWEEP
    assert taken(quota, 9999.0, 100, sender=9999) == BURST_S - 1  # and who sent just now is not


@pytest.mark.parametrize("rate", [0.1, 3.0, 250.0])
@given(sent=st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 50_000)), max_size=60))
def test_no_stretch_of_time_takes_more_than_its_rate_and_a_burst(rate: float, sent: Sent) -> None:
    quota, now = RateLimit(rate, 8.0), 0.0
    passed: Sent = [(0.0, 0)]
    for pause, size_bytes in sent:
        now += pause
        if quota.spend("key", size_bytes, now):
            passed.append((now, size_bytes))
    for first in range(1, len(passed)):
        begin, largest = passed[first][0], max(size for _, size in passed[first:])
        for upto in range(first, len(passed)):
            span = passed[upto][0] - begin + BURST_S
            assert upto - first + 1 <= rate * span + 1 + 1e-6
            assert sum(size for _, size in passed[first : upto + 1]) <= 1000 * span + largest + 1e-3


@given(st.lists(st.floats(0.0, 0.2), max_size=50))
def test_who_keeps_within_its_rate_is_never_refused(jitter: list[float]) -> None:
    quota = RateLimit(10.0, 8.0)
    times = sorted(0.1 * number + late for number, late in enumerate(jitter))
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(quota.spend("key", 100, now) for now in times)
