"""Where the worker's thread and the link's thread hand things to each other. Knows threads; no sockets, no torch.

The worker takes the newest weights, hands in gradients against permits, and collects what verdicts refused. Every wait
ends by work, by a new configuration or by ``close``; nothing queues without bound: gradients by permits, weights by
keeping one, refusals by the permits of the gradients they were.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from actor.events import Event, Feedback, Settled, Weights, Work
from actor.stats import WorkerStats
from protocol.messages import Welcome

FEEDBACK_KEPT = 64  # until the worker asks
WAKE_S = 1.0  # a waiting worker looks around this often even if nobody wakes it


class Interrupted(Exception):
    """The worker should leave what it is doing: the daemon stops, or the learner now runs something else."""


class Leaving(Interrupted):
    """The worker should hand in what it holds back, with ``hand_in_last``, and then leave."""


class WorkerChannel:
    """Shared by two threads; every method takes the lock for a moment.

    on_work: called from the worker's thread after each gradient, wakes the link's loop. on_last: likewise, once, when
    the worker was asked to leave; with None where it holds nothing back. changed: what the worker waits on, where
    somebody wants to know that it does.
    """

    def __init__(
        self,
        on_work: Callable[[Work], None],
        on_last: Callable[[Work | None], None] | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        self._on_work, self._on_last = on_work, on_last
        self._leaving = False
        self._changed = changed or threading.Condition()
        self._weights: Weights | None = None
        self._refused: deque[Work] = deque()
        self._feedback: deque[Feedback] = deque(maxlen=FEEDBACK_KEPT)
        self._settled: deque[Settled] = deque()  # at most as many as were handed in since they were collected
        self._welcome: Welcome | None = None
        self._generation = 0  # counts configurations
        self._credit = 0
        self._unanswered = 0
        self._closed = False
        self.share = 0.0  # of all environment steps of the run, as the learner sees it; 0: not told
        self.stats = WorkerStats()  # replaced by the worker's thread alone; read by the link's

    # the worker's side

    def next_welcome(self, after: int) -> tuple[Welcome, int]:
        """Waits for a configuration newer than generation ``after``; raises Interrupted once closed."""
        with self._changed:
            while self._generation == after or self._welcome is None:
                self._wait(None)
            self.stats = replace(self.stats, faults=())  # those of the worker before
            return self._welcome, self._generation

    def first_weights(self, generation: int) -> Weights:
        """Waits until there are weights to begin with."""
        with self._changed:
            while self._weights is None:
                self._wait(generation)
            self.check(generation)
            return self._weights

    def newer_weights(self, than: Weights | None, generation: int, patience_s: float = math.inf) -> Weights:
        """Waits for other weights than these; where none come in time, these again."""
        until = time.perf_counter() + patience_s
        with self._changed:
            while self._weights is None or (self._weights is than and time.perf_counter() < until):
                self._wait(generation)
            self.check(generation)
            return self._weights

    def newest(self) -> Weights | None:
        """The newest weights; never waits."""
        return self._weights  # one reference, replaced whole

    def count_steps(self, steps: int) -> None:
        """Adds to the environment steps of this life: a simulator that hangs must look like one."""
        self.stats = replace(self.stats, env_steps=self.stats.env_steps + steps)

    @property
    def unanswered(self) -> int:
        """Gradients that were handed in and not settled yet."""
        return self._unanswered

    @property
    def permits_left(self) -> int:
        """How many more gradients may be handed in; below 0 where the credit shrank, or by what was held back."""
        return self._credit - self._unanswered

    def await_permit(self, generation: int) -> None:
        """Waits until one more gradient may be handed in. Before the gradient is computed, so that it is fresh."""
        free = self.permits_left > 0 and generation == self._generation
        if free and not self._closed and not self._leaving:
            return  # only this thread takes permits, so what was true without the lock stays true
        with self._changed:
            while self.permits_left <= 0:
                self._wait(generation)
            self.check(generation)

    def hand_in(self, work: Work) -> None:
        """Passes a gradient on, against the permit that was awaited."""
        with self._changed:
            self._unanswered += 1
        self._on_work(work)

    def hand_in_last(self, work: Work | None) -> None:
        """Passes on what was held back, without a permit: the link sends it when there is room."""
        with self._changed:
            self._unanswered += work is not None
        if self._on_last is not None:
            self._on_last(work)

    def collect_refused(self) -> list[Work]:
        """What verdicts refused since the last call and should return to the residual; never waits."""
        if not self._refused:
            return []
        with self._changed:
            refused = list(self._refused)
            self._refused.clear()
        return refused

    def collect_feedback(self) -> list[Feedback]:
        """What verdicts said since the last call, the newest FEEDBACK_KEPT of them; never waits."""
        if not self._feedback:
            return []
        with self._changed:
            found = list(self._feedback)
            self._feedback.clear()
        return found

    def collect_settled(self) -> list[Settled]:
        """What became of everything that was settled since the last call; never waits."""
        if not self._settled:
            return []
        with self._changed:
            found = list(self._settled)
            self._settled.clear()
        return found

    def check(self, generation: int | None) -> None:
        """Raises Interrupted where the worker of this generation should leave; never waits."""
        if self._closed or (generation is not None and generation != self._generation):
            raise Interrupted
        if self._leaving and generation is not None:
            raise Leaving

    def _wait(self, generation: int | None) -> None:
        self.check(generation)
        began = time.perf_counter()
        self._changed.wait(WAKE_S)
        self.stats = replace(self.stats, wait_s=self.stats.wait_s + time.perf_counter() - began)

    # the link's side

    def configure(self, welcome: Welcome) -> None:
        """Tells the worker what to run."""
        with self._changed:
            self._welcome, self._generation = welcome, self._generation + 1
            self._weights = None
            self._refused.clear()
            self._feedback.clear()
            self._settled.clear()
            self._changed.notify_all()

    def adopt(self, weights: Weights) -> None:
        """Replaces the newest weights."""
        with self._changed:
            self._weights = weights
            self._changed.notify_all()

    def permit(self, credit: int) -> None:
        """Sets how many gradients may be unanswered."""
        with self._changed:
            self._credit = credit
            self._changed.notify_all()

    def set_share(self, share: float) -> None:
        """Tells which part of all environment steps of the run this actor collects; 0: nobody told."""
        self.share = share

    def settle(self, work: Work, restore: bool, feedback: Feedback | None = None) -> None:
        """Returns the permit of one gradient and, if it was refused, the gradient itself."""
        with self._changed:
            self._unanswered -= 1
            if feedback is not None:
                self._feedback.append(feedback)
            self._settled.append((work.decoded, None if feedback is None else feedback.version))
            if restore:
                self._refused.append(work)
            self._changed.notify_all()

    def leave(self) -> None:
        """Asks the worker to hand in what it holds back and to leave."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()

    def close(self) -> None:
        """Wakes the worker for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Worker(Protocol):
    """Who works on the main thread, for one welcome."""

    def run(self, channel: WorkerChannel, generation: int) -> None:
        """Until the channel interrupts, or there is nothing left to do."""

    def close(self) -> None: ...


WorkerFactory = Callable[[Welcome, Callable[[Event], None]], Worker]
"""From a welcome and the way to post events to the link. Raises UserError where the welcome does not fit here."""
