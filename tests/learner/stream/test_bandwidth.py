"""A budget is kept to; a link is felt by what actors say they hold, and neither one late actor nor one stall counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from learner.stream.bandwidth import (
    BURST_S,
    DOWN,
    KEY_S,
    LATE_BEATS,
    LATE_S,
    LEAST_BYTES,
    LEAST_KBPS,
    SAVED,
    SETTLE_S,
    BandwidthEstimate,
    TokenBucket,
)

KBPS, BYTES_PER_S = 80.0, 10_000


def allowance(kbps: float | None = KBPS, key_bytes: int = 10**9, now: float = 0.0) -> TokenBucket:
    return TokenBucket(kbps, key_bytes, now)


def test_an_allowance_is_bytes_a_second_and_what_was_left_over() -> None:
    budget = allowance()
    assert budget.available(0.0) == BYTES_PER_S * BURST_S == budget.available(99.0)
    budget.spend(0.0, 9_000, key=False)
    assert budget.available(0.0) == 1_000
    assert not budget.ready(0.09)
    assert budget.ready(0.11)
    assert budget.available(0.5) == 6_000


def test_an_overdraft_is_paid_back_first() -> None:
    budget = allowance()
    budget.spend(0.0, 12_000, key=False)
    assert budget.available(0.0) == -2_000
    assert budget.available(0.2 + LEAST_BYTES / BYTES_PER_S) == pytest.approx(LEAST_BYTES)


def test_a_budget_below_the_least_record_waits_for_all_that_may_be_left_over() -> None:
    budget = allowance(8.0)  # 1 kB/s
    assert budget.ready(0.0)
    budget.spend(0.0, 500, key=False)
    assert not budget.ready(0.4)
    assert budget.ready(0.5)


def test_a_clock_that_stands_still_gives_nothing() -> None:
    budget = allowance(now=5.0)
    budget.spend(5.0, 10_000, key=False)
    assert budget.available(4.0) == 0.0


def test_without_a_budget_everything_is_allowed() -> None:
    budget = allowance(None)
    budget.spend(0.0, 10**12, key=False)
    assert budget.available(0.0) == math.inf
    assert budget.ready(0.0)
    assert budget.affords_key_frame(0.0)


def test_a_part_is_saved_for_a_key_however_much_records_take() -> None:
    budget, now = allowance(key_bytes=20_000), 0.0
    assert not budget.affords_key_frame(0.0)
    while not budget.affords_key_frame(now):
        budget.spend(now, math.floor(max(0.0, budget.available(now))), key=False)
        now += 0.01
    assert now == pytest.approx(20_000 / (SAVED * BYTES_PER_S), rel=0.01)
    budget.spend(now, 20_000, key=True)
    assert not budget.affords_key_frame(now)
    assert budget.available(now) >= 0.0  # the key took nothing of what is for records


def test_a_key_that_would_take_too_long_is_not_saved_for() -> None:
    budget = allowance(key_bytes=math.ceil(KEY_S * BYTES_PER_S) + 1)
    budget.spend(0.0, 10_000, key=False)
    assert budget.available(0.5) == 5_000  # all of it for records
    assert not budget.affords_key_frame(1e6)


def test_a_budget_that_changes_keeps_what_is_left_within_the_new_one() -> None:
    budget = allowance()
    budget.set_rate(8.0, 0.0)
    assert budget.available(0.0) == 1_000
    budget.set_rate(80.0, 0.0)
    assert budget.available(0.0) == 1_000
    assert budget.available(0.5) == 6_000


# what is felt

DEPTH_S = 3.0


@dataclass
class Fleet:
    """Actors that heartbeat once a second behind one link, under virtual time; the stream takes what it may."""

    link_kbps: float
    wanted_kbps: float
    actors: int = 4
    now: float = 0.0
    queued_kbit: float = 0.0
    felt: BandwidthEstimate = field(default_factory=lambda: BandwidthEstimate(0.0))
    changes: list[float] = field(default_factory=list)

    def run(self, seconds: int, late: tuple[int, ...] | None = None) -> None:
        """late: sessions that are, whatever the link; None: all, if the link is full."""
        for _ in range(seconds):
            self.now += 1.0
            taken = min(self.wanted_kbps, self.felt.kbps or math.inf)
            self.felt.sent(round(125.0 * taken))
            queued_kbit = max(0.0, self.queued_kbit + taken - self.link_kbps)
            self.queued_kbit = min(queued_kbit, DEPTH_S * self.link_kbps)  # beyond its depth a queue drops
            for session in range(self.actors):
                behind_s = self.queued_kbit / self.link_kbps if late is None else 9.0 * (session in late)
                if self.felt.observe(session, behind_s, 0.1, self.actors, self.now):
                    assert self.felt.kbps is not None
                    self.changes.append(self.felt.kbps)


def test_a_link_that_bears_the_stream_bounds_nothing() -> None:
    fleet = Fleet(link_kbps=1_000, wanted_kbps=900)
    fleet.run(600)
    assert fleet.changes == []


def test_a_full_link_gets_what_it_bears() -> None:
    fleet = Fleet(link_kbps=1_000, wanted_kbps=50_000)
    fleet.run(300)
    assert fleet.felt.kbps is not None
    assert 300 < fleet.felt.kbps < 1_300
    before = len(fleet.changes)
    fleet.run(1_200)
    assert len(fleet.changes) - before < 40  # up slowly, and down ever less often


def test_the_first_step_down_is_half_of_what_was_taken() -> None:
    fleet = Fleet(link_kbps=100, wanted_kbps=800)
    fleet.run(9)
    assert fleet.changes[0] == pytest.approx(DOWN * 800)


def test_one_late_actor_of_four_bounds_nothing_and_three_do() -> None:
    fleet = Fleet(link_kbps=1_000, wanted_kbps=900)
    fleet.run(60, late=(0,))
    fleet.run(60, late=(0, 1))
    assert fleet.changes == []
    fleet.run(20, late=(0, 1, 2))
    assert fleet.changes[0] == pytest.approx(DOWN * 900)


def test_a_stall_is_no_thin_link() -> None:
    felt = BandwidthEstimate(0.0)
    for n in range(40):
        late = n % (LATE_BEATS + 1) != 0 if n % 8 < LATE_BEATS - 1 else False
        assert not felt.observe(1, 5.0 * late, 0.1, 1, SETTLE_S + n)


def test_a_long_way_is_no_lateness() -> None:
    felt = BandwidthEstimate(0.0)
    assert not any(felt.observe(1, LATE_S + 0.9, 0.5, 1, SETTLE_S + n) for n in range(50))


def test_round_trips_that_a_full_link_makes_longer_are_no_excuse() -> None:
    felt = BandwidthEstimate(0.0)
    felt.sent(125_000)
    assert not felt.observe(1, 0.1, 0.2, 1, 0.5)
    assert any(felt.observe(1, 3.0, 3.0, 1, SETTLE_S + n) for n in range(LATE_BEATS))


def test_a_session_that_is_over_counts_no_more() -> None:
    felt = BandwidthEstimate(0.0)
    for n in range(LATE_BEATS):
        felt.observe(1, 9.0, 0.1, 3, n)
        felt.observe(2, 9.0, 0.1, 3, n)
    felt.forget(2)
    assert not felt.observe(3, 0.0, 0.1, 3, SETTLE_S + 1.0)


def test_a_link_that_bears_nothing_still_gets_the_least() -> None:
    fleet = Fleet(link_kbps=0.1, wanted_kbps=10)
    fleet.run(200)
    assert fleet.felt.kbps == LEAST_KBPS


@pytest.mark.parametrize("round_trip_s", [math.nan, math.inf])
def test_a_round_trip_that_is_no_number_says_nothing(round_trip_s: float) -> None:
    felt = BandwidthEstimate(0.0)
    assert not any(felt.observe(1, 99.0, round_trip_s, 1, SETTLE_S + n) for n in range(50))
