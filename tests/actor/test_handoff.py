"""The channel between two threads. Waits are ended by events and bounded by deadlines; nothing sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from actor.events import Feedback, Weights, Work
from actor.handoff import FEEDBACK_KEPT, Interrupted, Leaving, WorkerChannel
from protocol.layout import Entry, Layout
from protocol.messages import Welcome

DEADLINE_S = 30.0
LAYOUT = Layout((Entry("w", (2,)),))


def welcome(ordinal: int = 0) -> Welcome:
    return Welcome(1, "run", 1, 9, ordinal, 0, 2, 1.0, 5.0, "update", "*", LAYOUT, b"", bytes(8))


def weights(version: int = 1) -> Weights:
    return Weights(1, version, np.zeros(2, np.float32), None)


def work(version: int = 0) -> Work:
    return Work(1, version, "f32", 2, 2, bytes(8), np.ones(2, np.float32))


class Watched(threading.Condition):
    """Tells when somebody begins to wait, so that a test can act then and not earlier."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.set()
        return super().wait(DEADLINE_S)  # only a notification ends it in time


class Room:
    """A channel, what was handed in over it, and a second thread that works at its end."""

    def __init__(self) -> None:
        self.handed_in: list[Work] = []
        self.watched = Watched()
        self.channel = WorkerChannel(self.handed_in.append, changed=self.watched)
        self.pool = ThreadPoolExecutor(1)

    def while_waiting(self, wait: Callable[[], object], act: Callable[[], None]) -> object:
        """Runs ``wait`` on the worker's thread, ``act`` once that waits; what ``wait`` then returned or raised."""
        answer: Future[object] = self.pool.submit(wait)
        assert self.watched.waiting.wait(DEADLINE_S)
        assert not answer.done()
        act()
        return answer.result(DEADLINE_S)


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.channel.close()
    made.pool.shutdown()


def test_a_configuration_is_waited_for(room: Room) -> None:
    found = room.while_waiting(lambda: room.channel.next_welcome(0), lambda: room.channel.configure(welcome()))
    assert found == (welcome(), 1)


def test_only_the_newest_configuration_counts(room: Room) -> None:
    room.channel.configure(welcome(1))
    room.channel.configure(welcome(2))
    assert room.channel.next_welcome(0) == (welcome(2), 2)


def test_first_weights_are_waited_for(room: Room) -> None:
    room.channel.configure(welcome())
    given = weights()
    assert room.channel.newest() is None
    assert room.while_waiting(lambda: room.channel.first_weights(1), lambda: room.channel.adopt(given)) is given


def test_newer_weights_replace_older_ones(room: Room) -> None:
    room.channel.configure(welcome())
    newest = weights(2)
    room.channel.adopt(weights(1))
    room.channel.adopt(newest)
    assert room.channel.newest() is room.channel.first_weights(1) is newest


def test_other_weights_than_these_are_waited_for(room: Room) -> None:
    room.channel.configure(welcome())
    old, new = weights(1), weights(2)
    room.channel.adopt(old)
    assert room.channel.newer_weights(None, 1) is old
    assert room.while_waiting(lambda: room.channel.newer_weights(old, 1), lambda: room.channel.adopt(new)) is new


def test_patience_for_other_weights_ends(room: Room) -> None:
    room.channel.configure(welcome())
    old = weights(1)
    room.channel.adopt(old)
    assert room.channel.newer_weights(old, 1, patience_s=0.0) is old


def test_a_check_interrupts_without_waiting(room: Room) -> None:
    room.channel.configure(welcome(1))
    room.channel.check(1)
    room.channel.configure(welcome(2))
    with pytest.raises(Interrupted):
        room.channel.check(1)
    room.channel.check(2)
    assert room.channel.stats.wait_s == 0.0


def test_a_permit_is_waited_for(room: Room) -> None:
    room.channel.configure(welcome())
    room.while_waiting(lambda: room.channel.await_permit(1), lambda: room.channel.permit(1))
    assert room.channel.permits_left == 1


def test_a_verdict_returns_the_permit(room: Room) -> None:
    channel = room.channel
    channel.configure(welcome())
    channel.permit(1)
    channel.await_permit(1)
    channel.hand_in(work())
    (handed,) = room.handed_in
    room.while_waiting(lambda: channel.await_permit(1), lambda: channel.settle(handed, restore=False))
    assert channel.collect_refused() == []


def test_as_many_permits_as_credit(room: Room) -> None:
    channel = room.channel
    channel.configure(welcome())
    channel.permit(3)
    for _ in range(3):
        channel.await_permit(1)
        channel.hand_in(work())
    assert len(room.handed_in) == 3
    room.while_waiting(lambda: channel.await_permit(1), lambda: channel.permit(4))
    assert (channel.unanswered, channel.permits_left) == (3, 1)


def test_no_permits_while_the_learner_is_gone(room: Room) -> None:
    channel = room.channel
    channel.configure(welcome())
    channel.permit(2)
    channel.permit(0)
    room.while_waiting(lambda: channel.await_permit(1), lambda: channel.permit(2))
    assert channel.permits_left == 2


def test_what_was_refused_comes_back_once(room: Room) -> None:
    channel = room.channel
    channel.configure(welcome())
    channel.permit(2)
    for version in (1, 2):
        channel.hand_in(work(version))
    first, second = room.handed_in
    channel.settle(first, restore=True)
    channel.settle(second, restore=False)
    assert channel.collect_refused() == [first]
    assert channel.collect_refused() == []


def test_another_configuration_forgets_weights_and_refusals(room: Room) -> None:
    channel = room.channel
    channel.configure(welcome(1))
    channel.permit(1)
    channel.adopt(weights())
    channel.hand_in(work())
    channel.settle(room.handed_in[0], restore=True)
    channel.configure(welcome(2))
    assert (channel.newest(), channel.collect_refused()) == (None, [])


@pytest.mark.parametrize("what", ["first_weights", "await_permit"])
def test_another_configuration_interrupts_every_wait(room: Room, what: str) -> None:
    room.channel.configure(welcome(1))
    with pytest.raises(Interrupted):
        room.while_waiting(lambda: getattr(room.channel, what)(1), lambda: room.channel.configure(welcome(2)))


@pytest.mark.parametrize("what", ["first_weights", "await_permit", "next_welcome"])
def test_closing_interrupts_every_wait(room: Room, what: str) -> None:
    room.channel.configure(welcome())
    with pytest.raises(Interrupted):
        room.while_waiting(lambda: getattr(room.channel, what)(1), room.channel.close)


@pytest.mark.parametrize("what", ["first_weights", "await_permit"])
def test_a_permit_or_weights_for_an_old_configuration_are_not_taken(room: Room, what: str) -> None:
    room.channel.configure(welcome(1))
    room.channel.configure(welcome(2))
    room.channel.adopt(weights())
    room.channel.permit(1)
    with pytest.raises(Interrupted):
        getattr(room.channel, what)(1)
    getattr(room.channel, what)(2)


def test_two_threads_never_pass_the_credit() -> None:
    """The link settles at random moments; the worker hands in as fast as permits allow."""
    handed: list[Work] = []
    most = 0
    wake = threading.Condition()

    def taken(given: Work) -> None:
        nonlocal most
        with wake:
            handed.append(given)
            most = max(most, channel.unanswered)
            wake.notify()

    channel = WorkerChannel(taken)
    channel.configure(welcome())
    channel.permit(3)

    def answer() -> None:
        for _ in range(500):
            with wake:
                assert wake.wait_for(lambda: handed, DEADLINE_S)
                oldest = handed.pop(0)
            channel.settle(oldest, restore=False)

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer)
        for version in range(500):
            channel.await_permit(1)
            channel.hand_in(work(version))
        answering.result(DEADLINE_S)
    assert 1 <= most <= 3
    assert channel.unanswered == 0


def test_answers_are_told_once_and_the_newest_are_kept() -> None:
    channel = WorkerChannel(lambda work: None)
    for n in range(FEEDBACK_KEPT + 2):
        channel.settle(work(), restore=False, feedback=Feedback(float(n), n))
    channel.settle(work(), restore=False)
    assert channel.collect_feedback() == [Feedback(float(n), n) for n in range(2, FEEDBACK_KEPT + 2)]
    assert channel.collect_feedback() == []


def test_a_share_is_told_and_stays_with_another_configuration() -> None:
    channel = WorkerChannel(lambda work: None)
    assert channel.share == 0.0
    channel.set_share(0.25)
    channel.configure(welcome(1))
    assert channel.share == 0.25
    channel.set_share(0.0)
    assert channel.share == 0.0


# leaving


def test_a_worker_that_waits_is_asked_to_leave(room: Room) -> None:
    def wait() -> object:
        with pytest.raises(Leaving):
            room.channel.await_permit(0)
        return "left"

    assert room.while_waiting(wait, room.channel.leave) == "left"


def test_a_worker_with_a_permit_is_asked_to_leave_too() -> None:
    channel = WorkerChannel(lambda work: None)
    channel.permit(2)
    channel.await_permit(0)
    channel.leave()
    with pytest.raises(Leaving):
        channel.await_permit(0)


def test_what_was_held_back_holds_a_permit_that_its_verdict_returns() -> None:
    given: list[Work | None] = []
    channel = WorkerChannel(lambda work: None, given.append)
    held = work()
    channel.hand_in_last(held)
    assert (given, channel.unanswered) == ([held], 1)
    channel.settle(held, restore=False)
    channel.hand_in_last(None)
    assert (given, channel.unanswered) == ([held, None], 0)


def test_after_leaving_a_worker_waits_for_the_end_alone(room: Room) -> None:
    def wait() -> object:
        with pytest.raises(Interrupted) as caught:
            room.channel.next_welcome(0)
        return caught.type

    room.channel.leave()
    assert room.while_waiting(wait, room.channel.close) is Interrupted
