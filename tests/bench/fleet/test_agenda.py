"""Virtual time: who is next, and that a worker's thread runs only while it is its turn."""

from __future__ import annotations

import threading

import pytest

from actor.handoff import Interrupted
from tests.bench.fleet.agenda import Agenda, Turnstile, WorkerThread


def run(agenda: Agenda, actions: int) -> None:
    for _ in range(actions):
        agenda.step()


def test_actions_come_in_the_order_of_their_time_and_workers_last() -> None:
    agenda = Agenda()
    done: list[str] = []
    agenda.later(2.0, lambda: done.append("late"))
    agenda.later(1.0, lambda: done.append("worker"), last=True)
    agenda.later(1.0, lambda: done.append("first"))
    agenda.later(1.0, lambda: agenda.later(0.0, lambda: done.append("answer")))
    run(agenda, 5)
    assert done == ["first", "answer", "worker", "late"]
    assert agenda.now == 2.0


def test_workers_are_served_in_the_order_of_virtual_time() -> None:
    agenda = Agenda()
    served: list[tuple[float, str]] = []

    def worker(name: str, pace_s: float) -> WorkerThread:
        def work() -> None:
            for _ in range(3):
                thread.sleep(pace_s)
                served.append((agenda.now, name))

        thread = WorkerThread(agenda, name, work)
        thread.start()
        return thread

    threads = [worker(name, pace_s) for name, pace_s in (("a", 1.0), ("b", 0.25), ("c", 1.0), ("d", 0.5))]
    run(agenda, 16)
    assert [at for at, _ in served] == sorted(at for at, _ in served)
    assert "".join(name for _, name in served) == "bdbbacddacac"  # who was put there first comes first
    for thread in threads:
        thread.close()


def test_who_is_parked_waits_until_it_is_notified() -> None:
    agenda = Agenda()
    seen: list[float] = []

    def work() -> None:
        with turnstile:
            seen.append(turnstile.wait(1.0))
        seen.append(agenda.now)

    thread = WorkerThread(agenda, "worker", work)
    turnstile = Turnstile(thread)
    thread.start()
    agenda.later(5.0, turnstile.notify_all)
    agenda.later(6.0, turnstile.notify_all)  # nobody waits any more
    run(agenda, 4)
    assert seen == [True, 5.0]
    assert thread.parked_s == 5.0
    thread.close()


@pytest.mark.parametrize("started", [True, False])
def test_a_closed_worker_leaves_no_thread(started: bool) -> None:
    agenda = Agenda()
    ended: list[float] = []

    def work() -> None:
        try:
            thread.park()
        except Interrupted:
            ended.append(agenda.now)
            raise

    thread = WorkerThread(agenda, "to be closed", work)
    if started:
        thread.start()
        agenda.step()
    thread.close()
    assert ended == [0.0] * started
    assert "to be closed" not in [each.name for each in threading.enumerate()]


def test_what_a_worker_fails_of_is_raised_where_time_passes() -> None:
    agenda = Agenda()

    def work() -> None:
        raise ZeroDivisionError

    thread = WorkerThread(agenda, "worker", work)
    thread.start()
    with pytest.raises(ZeroDivisionError):
        agenda.step()
    thread.close()
