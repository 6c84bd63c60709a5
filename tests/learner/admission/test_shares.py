"""Whose share is looked at, and that nobody waits for a heartbeat to hear of one that is another."""

from __future__ import annotations

from random import Random

from learner.admission.shares import LOOKING, TELLING, Shares, differs

MOST_APART = TELLING * LOOKING**2  # of what was told: the whole may have changed unnoticed before it and since


def together(count: int, steps: int = 32) -> Shares:
    """So many that report as many steps at the same times, all of whose shares were looked at."""
    shares = Shares()
    for session in range(count):
        shares.join(session)
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
    shares.join(10)
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
