"""Virtual time: who is next, and that a worker runs only while it is its turn."""

from __future__ import annotations

import pytest

from actor.handoff import Interrupted
from tests.bench.fleet.agenda import Agenda, Turnstile, WorkerGreenlet


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

    def started(name: str, pace_s: float) -> WorkerGreenlet:
        def work() -> None:
            for _ in range(3):
                worker.sleep(pace_s)
                served.append((agenda.now, name))

        worker = WorkerGreenlet(agenda, work)
        worker.start()
        return worker

    workers = [started(name, pace_s) for name, pace_s in (("a", 1.0), ("b", 0.25), ("c", 1.0), ("d", 0.5))]
    run(agenda, 16)
    assert [at for at, _ in served] == sorted(at for at, _ in served)
    assert "".join(name for _, name in served) == "bdbbacddacac"  # who was put there first comes first
    for worker in workers:
        worker.close()


def test_who_is_parked_waits_until_it_is_notified() -> None:
    agenda = Agenda()
    seen: list[float] = []

    def work() -> None:
        with turnstile:
            seen.append(turnstile.wait(1.0))
        seen.append(agenda.now)

    worker = WorkerGreenlet(agenda, work)
    turnstile = Turnstile(worker)
    worker.start()
    agenda.later(5.0, turnstile.notify_all)
    agenda.later(6.0, turnstile.notify_all)  # nobody waits any more
    run(agenda, 4)
    assert seen == [True, 5.0]
    assert worker.parked_s == 5.0
    worker.close()


@pytest.mark.parametrize("started", [True, False])
def test_a_closed_worker_ends_where_it_stands(started: bool) -> None:
    agenda = Agenda()
    ended: list[float] = []

    def work() -> None:
        try:
            worker.park()
        except Interrupted:
            ended.append(agenda.now)
            raise

    worker = WorkerGreenlet(agenda, work)
    if started:
        worker.start()
        agenda.step()
    worker.close()
    assert ended == [0.0] * started
    worker.close()  # it is gone already


def test_what_a_worker_fails_of_is_raised_where_time_passes() -> None:
    agenda = Agenda()

    def work() -> None:
        raise ZeroDivisionError

    worker = WorkerGreenlet(agenda, work)
    worker.start()
    with pytest.raises(ZeroDivisionError):
        agenda.step()
    worker.close()
