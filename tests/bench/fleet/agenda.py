"""Virtual time, and workers on stacks of their own of which one runs at any moment. Knows greenlets; no clock.

What is to happen waits in a heap ordered by its time. At one time links and the learner come first and workers last: a
worker goes on once all that was said at that moment has arrived, so a link without latency has none. Among equals the
one that was put there first comes first. So the operating system decides nothing.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from contextlib import suppress

from greenlet import getcurrent, greenlet

from actor.handoff import Interrupted

Action = Callable[[], None]


class Agenda:
    """now: virtual seconds since the beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, bool, int, Action]] = []
        self._number = 0

    def later(self, delay_s: float, action: Action, *, last: bool = False) -> None:
        """Plans an action, >= 0 seconds from now. last: behind all others of that time, as a worker is."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + delay_s, last, self._number, action))

    def step(self) -> None:
        """Lets time pass until the next action, and does it."""
        self.now, _, _, action = heapq.heappop(self._heap)
        action()


class WorkerGreenlet:
    """A worker's own stack, which runs only while the agenda waits for it. All share one thread.

    work: what it does; it ends by returning or by Interrupted. parked_s: how long it waited for news so far.
    """

    def __init__(self, agenda: Agenda, work: Action) -> None:
        self.parked_s = 0.0
        self._agenda, self._work = agenda, work
        self._parked = self._over = False
        self._stack = greenlet(self._run)
        self._back = getcurrent()  # who resumed it

    def start(self) -> None:
        """Its first turn comes at this moment."""
        self._agenda.later(0.0, self._resume, last=True)

    def close(self) -> None:
        """Ends it where it stands: Interrupted is raised there. Afterwards it is gone."""
        self._over = True
        while self._stack:
            self._resume()

    # on the worker's own stack

    def sleep(self, seconds: float) -> None:
        """Works, or does nothing, for so long. Raises Interrupted once all is over."""
        self._agenda.later(seconds, self._resume, last=True)
        self._hand_over()

    def park(self) -> None:
        """Waits until somebody calls ``wake``. Raises Interrupted once all is over."""
        began, self._parked = self._agenda.now, True
        self._hand_over()
        self.parked_s += self._agenda.now - began

    # on whichever runs

    def wake(self) -> None:
        """There is news for it, where it is parked."""
        if self._parked:
            self._parked = False
            self._agenda.later(0.0, self._resume, last=True)

    def _resume(self) -> None:
        """Lets it run until it sleeps, parks or ends. Raises what it failed of."""
        if self._stack.dead:
            return
        self._back = getcurrent()
        self._stack.switch()

    def _hand_over(self) -> None:
        self._back.switch()
        if self._over:
            raise Interrupted

    def _run(self) -> None:
        with suppress(Interrupted):
            self._work()


class Turnstile(threading.Condition):
    """What a channel's worker waits on: to wait is to park it, to notify is to wake it.

    A timeout counts for nothing: a worker that nobody wakes has no reason to look around.
    """

    def __init__(self, worker: WorkerGreenlet) -> None:
        super().__init__()
        self._worker = worker

    def wait(self, timeout: float | None = None) -> bool:
        """Condition.wait, always notified."""
        self.release()
        try:
            self._worker.park()
        finally:
            self.acquire()
        return True

    def notify_all(self) -> None:
        """Condition.notify_all."""
        self._worker.wake()
