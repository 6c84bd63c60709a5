"""When an actor is alive, at moments that the test chooses."""

from __future__ import annotations

from actor.monitoring.liveness import LINK_STUCK_S, WORKER_STUCK_S, Liveness


def test_a_link_that_ticks_and_a_worker_that_moves_are_alive() -> None:
    life = Liveness(100.0)
    for second in range(1000):
        life.tick((second,), 100.0 + second)
    assert life.trouble(1099.0) is None
    assert life.trouble(1099.0 + LINK_STUCK_S) is None


def test_a_link_that_stands_still_is_told() -> None:
    life = Liveness(0.0)
    life.tick((1,), 10.0)
    assert life.trouble(11.0 + LINK_STUCK_S) == "the link has not moved for 31 s"


def test_a_worker_that_stands_still_while_the_link_ticks_is_told_and_forgiven() -> None:
    life = Liveness(0.0)
    now = 0.0
    while now <= WORKER_STUCK_S:
        assert life.trouble(now) is None
        life.tick((7, 0.5), now)
        now += 1.0
    life.tick((7, 0.5), now)
    assert life.trouble(now) == "the worker has not moved for 301 s"
    life.tick((8, 0.5), now)
    assert life.trouble(now) is None


def test_what_never_ticked_at_all_is_told() -> None:
    assert Liveness(5.0).trouble(5.0 + LINK_STUCK_S) is None
    assert Liveness(5.0).trouble(6.0 + LINK_STUCK_S) is not None
