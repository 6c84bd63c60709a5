"""Misconduct and its terms, under a clock that only the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.admission.quarantine import FIRST_S, GOOD_S, MOST_S, STRIKES, TOLERATED, WINDOW_S, Quarantine
from protocol.errors import Reason
from protocol.session import Sender

BAD = Reason.NOT_FINITE


def offend(quarantine: Quarantine, now: float, sender: Sender = "key") -> float:
    """As many strikes as it takes; the term."""
    for _ in range(TOLERATED):
        assert quarantine.strike(sender, BAD, now) is None
        assert not quarantine.is_quarantined(sender, now)
    term_s = quarantine.strike(sender, BAD, now)
    assert term_s is not None
    return term_s


def test_one_strike_too_many_is_a_second_of_silence() -> None:
    quarantine = Quarantine()
    assert offend(quarantine, 10.0) == FIRST_S
    assert quarantine.is_quarantined("key", 10.0)
    assert quarantine.is_quarantined("key", 10.0 + 0.99 * FIRST_S)
    assert not quarantine.is_quarantined("key", 10.0 + FIRST_S)


def test_strikes_are_forgotten_one_by_one() -> None:
    quarantine = Quarantine()
    interval_s = WINDOW_S / TOLERATED
    assert all(quarantine.strike("key", BAD, number * interval_s) is None for number in range(1000))
    quarantine = Quarantine()
    terms = [quarantine.strike("key", BAD, number * 0.9 * interval_s) for number in range(1000)]
    assert any(terms)


@pytest.mark.parametrize("outcome", ["applied", *(reason for reason in Reason if reason not in STRIKES)])
def test_what_an_honest_actor_may_meet_is_no_strike(outcome: str) -> None:
    quarantine = Quarantine()
    assert all(quarantine.strike("key", outcome, 0.0) is None for _ in range(1000))
    assert len(quarantine) == 0


@pytest.mark.parametrize("outcome", sorted(STRIKES))
def test_what_no_honest_actor_does_is_one(outcome: Reason) -> None:
    quarantine = Quarantine()
    assert any(quarantine.strike("key", outcome, 0.0) for _ in range(TOLERATED + 1))


def test_what_was_under_way_is_not_held_against_it_twice() -> None:
    quarantine = Quarantine()
    offend(quarantine, 0.0)
    assert all(quarantine.strike("key", BAD, 0.5) is None for _ in range(1000))
    assert not quarantine.is_quarantined("key", FIRST_S)
    assert offend(quarantine, FIRST_S) == 2 * FIRST_S


def test_each_relapse_doubles_the_term_up_to_the_most() -> None:
    quarantine, now, terms = Quarantine(), 0.0, []
    for _ in range(14):
        terms.append(offend(quarantine, now))
        now += terms[-1]
    assert terms == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0] + 5 * [MOST_S]


def test_good_conduct_halves_the_next_term() -> None:
    quarantine, now = Quarantine(), 0.0
    for _ in range(4):
        now += offend(quarantine, now)
    assert offend(quarantine, now + 2 * GOOD_S) == 4 * FIRST_S
    now += 2 * GOOD_S + 4 * FIRST_S
    assert offend(quarantine, now + 0.9 * GOOD_S) == 8 * FIRST_S


def test_a_long_time_of_good_conduct_clears_the_record() -> None:
    quarantine, now = Quarantine(), 0.0
    for _ in range(30):
        now += offend(quarantine, now)
    assert quarantine.release(now) == ["key"]
    quarantine.release(now + 20 * GOOD_S)
    assert len(quarantine) == 0
    assert offend(quarantine, now + 20 * GOOD_S) == FIRST_S


def test_each_release_is_told_once() -> None:
    quarantine = Quarantine()
    offend(quarantine, 0.0, "first")
    offend(quarantine, 0.5, 7)
    assert quarantine.release(0.9) == []
    assert quarantine.release(1.0) == ["first"]
    assert quarantine.release(2.0) == [7]
    assert quarantine.release(3.0) == []


def test_senders_do_not_share_their_strikes() -> None:
    quarantine = Quarantine()
    for sender in range(1000):
        assert quarantine.strike(sender, BAD, 0.0) is None
    assert not quarantine.is_quarantined(0, 0.0)


def test_strikes_alone_are_forgotten_too_and_so_is_a_session_that_ended() -> None:
    quarantine = Quarantine()
    for sender in range(100):
        quarantine.strike(sender, BAD, 0.0)
    quarantine.forget(0)
    quarantine.forget(1000)
    assert quarantine.release(0.0) == []
    assert len(quarantine) == 99
    assert quarantine.release(WINDOW_S / TOLERATED) == []
    assert len(quarantine) == 0


@given(st.lists(st.tuples(st.floats(0.0, 400.0), st.integers(1, 20)), max_size=40))
def test_terms_stay_within_their_bounds_and_every_one_is_told_its_end(story: list[tuple[float, int]]) -> None:
    quarantine, now, begun, released = Quarantine(), 0.0, 0, 0
    for pause, strikes in story:
        now += pause
        released += len(quarantine.release(now))
        for _ in range(strikes):
            term_s = quarantine.strike("key", BAD, now)
            if term_s is not None:
                begun += 1
                assert FIRST_S <= term_s <= MOST_S
                assert quarantine.is_quarantined("key", now + 0.999 * term_s)
                assert not quarantine.is_quarantined("key", now + term_s)
    assert released <= begun <= released + 1
    released += len(quarantine.release(now + MOST_S))
    assert begun == released
