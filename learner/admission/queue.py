"""What waits for the math thread, and who is next. Pure. ``now`` is an argument. Knows jobs' costs; not what they say.

Without groups: deficit round robin (Shreedhar and Varghese 1996). Senders are visited in rotation, each with the same
cost to spend, so one that floods gets its share and no more, and waits for the rest of its own. A job costs what it is
to the math thread, however few bytes say it. A batch takes all that wait while that is light work, and else one visit
to each: who sent one is not held up by all that another had ready.

With groups (``GroupPolicy``): a batch is at most one job of each sender, the oldest, and becomes one step.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import NamedTuple

from learner.events import Announce, Effect, Job
from protocol.codecs.registry import codec
from protocol.session import Sender

BATCH_BYTES = 256 << 20  # of cost in one batch, which is one record of the journal; one job may be more
STARVED_S = 10.0  # for which nothing came together, after which people are told
JOB_BYTES = 4096  # what any job costs: outcome and verdict take as long as so many bytes, and its payload comes to that
NUMBER_BYTES = 4  # what each number costs that is decoded and applied, beside the bytes that say it
LIGHT_BYTES = 2 << 20  # of cost: a full batch of small networks' usual gradients, some twenty milliseconds


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """When a group is whole. window: senders, >= 1. wait_s: after it fewer will do, but never fewer than ``least``."""

    window: int
    wait_s: float
    least: int = 1

    @property
    def most(self) -> int:
        """Senders in a group: all who wait, within what memory bears. Their gradients are decoded side by side."""
        return 2 * self.window


class _Waiting(NamedTuple):
    """A job since when, and what it takes of the math thread, in bytes that would take as long."""

    since: float
    job: Job
    cost: int


@dataclass(slots=True)
class _Queue:
    """One sender's jobs, oldest first. deficit: cost that it may still spend."""

    jobs: deque[_Waiting] = field(default_factory=deque)
    deficit: int = 0

    @property
    def next_cost(self) -> int:
        """Of the oldest."""
        return self.jobs[0].cost


class FairQueue:
    """Jobs that were admitted. gather: of a run that makes one step of many gradients. held: who is in quarantine.

    whole: each step moves all of θ, whatever the gradient carries, as an optimizer here does.
    """

    def __init__(
        self,
        gather: GroupPolicy | None = None,
        held: Callable[[Sender, float], bool] = lambda *_: False,
        *,
        whole: bool = False,
    ) -> None:
        self._gather, self._held, self._whole = gather, held, whole
        self._queues: OrderedDict[Sender, _Queue] = OrderedDict()  # who is visited next comes first; none is empty
        self._count = 0
        self._starved = self._resumed = False  # and it was told; since when one was taken
        self._quantum = 0  # cost that a visit brings: the largest job since all was empty, so each visit serves one

    def add(self, sender: Sender, job: Job, now: float) -> None:
        """A job waits from now on."""
        waiting = _Waiting(now, job, self._cost(job))
        self._quantum = max(self._quantum if self._queues else 0, waiting.cost)
        self._queues.setdefault(sender, _Queue()).jobs.append(waiting)
        self._count += 1

    def ready(self, present: int, now: float, *, hurry: bool = False) -> bool:
        """Whether ``take`` would give anything. present: senders that are here and train. hurry: wait for nobody.

        A group is meant to have ``window`` senders, or all that are present. One that has waited for long, or is in a
        hurry, needs more than half of them still: a minority must not make steps by being quick.
        """
        if self._gather is None or not self._queues:
            return bool(self._queues)
        meant = max(self._gather.least, min(self._gather.window, present))
        here = len(self._heard(now))
        if here >= meant:
            return True
        if here <= meant // 2 or here < self._gather.least:
            return False
        oldest = min(queue.jobs[0].since for queue in self._queues.values())
        return hurry or now - oldest >= self._gather.wait_s

    def tick(self, present: int, now: float) -> list[Effect]:
        """Tells, once, where a group does not come together, and once where it does again."""
        if self._gather is None:
            return []
        oldest = min((queue.jobs[0].since for queue in self._queues.values()), default=now)
        starved = now - oldest >= STARVED_S and not self.ready(present, now)
        if starved is self._starved or (self._starved and not self._resumed):
            return []
        self._starved, self._resumed = starved, False
        fields: dict[str, object] = {"waiting": len(self._queues), "here": present, "least": self._gather.least}
        return [Announce("senders_missing" if starved else "senders_complete", fields)]

    def next_batch(self, limit: int, present: int, now: float, *, hurry: bool = False) -> list[Job]:
        """The next batch, of at most ``limit`` jobs; empty where nothing is ready. Arguments as in ``ready``."""
        if self._gather is None:
            return self._rotate(min(limit, self._count))
        if not self.ready(present, now, hurry=hurry):
            return []
        self._resumed = True
        heard = self._heard(now)[: min(limit, self._gather.most)]
        return [self._first(sender, self._queues.pop(sender)) for sender in heard]

    def _heard(self, now: float) -> list[Sender]:
        """Who waits and is in no quarantine: what was admitted before that began waits for its end."""
        return [sender for sender in self._queues if not self._held(sender, now)]

    def drain(self) -> list[Job]:
        """All that waits, which thereby waits no more: of a run that ends and that no group comes together for."""
        jobs = [job for queue in self._queues.values() for _, job, _ in queue.jobs]
        self._queues.clear()
        self._count = 0
        return jobs

    def drop(self, sessions: Container[int]) -> None:
        """Forgets what waits of these sessions."""
        for sender, queue in list(self._queues.items()):
            queue.jobs = deque(entry for entry in queue.jobs if entry.job.session not in sessions)
            if not queue.jobs:
                del self._queues[sender]
        self._count = sum(len(queue.jobs) for queue in self._queues.values())

    @property
    def pending_bytes(self) -> int:
        """Of all payloads and moments that wait."""
        return sum(_size(job) for queue in self._queues.values() for _, job, _ in queue.jobs)

    def waiting(self) -> Counter[int]:
        """How many jobs wait, by session."""
        return Counter(job.session for queue in self._queues.values() for _, job, _ in queue.jobs)

    def __len__(self) -> int:
        return self._count

    def _rotate(self, count: int) -> list[Job]:
        """Whoever has spent what a visit brings goes to the end; who has nothing left to send keeps none for later.

        A visit that the batch's limit cuts short goes on with the next batch.
        """
        batch: list[Job] = []
        spent, visited = 0, set[Sender]()
        while len(batch) < count and spent < BATCH_BYTES:
            sender, queue = next(iter(self._queues.items()))
            if sender in visited and spent >= LIGHT_BYTES:
                break
            visited.add(sender)
            if queue.deficit < queue.next_cost:
                queue.deficit += self._quantum
            while queue.jobs and len(batch) < count and spent < BATCH_BYTES and queue.deficit >= queue.next_cost:
                queue.deficit -= queue.next_cost
                spent += queue.next_cost
                batch.append(queue.jobs.popleft().job)
            if not queue.jobs:
                del self._queues[sender]
            elif queue.deficit < queue.next_cost:
                self._queues.move_to_end(sender)
        self._count -= len(batch)
        return batch

    def _cost(self, job: Job) -> int:
        numbers = job.count if codec(job.codec).sparse and not self._whole else job.length
        return JOB_BYTES + _size(job) + NUMBER_BYTES * numbers

    def _first(self, sender: Sender, queue: _Queue) -> Job:
        """The sender's oldest job; with more to send it goes to the end."""
        job = queue.jobs.popleft().job
        self._count -= 1
        if queue.jobs:
            self._queues[sender] = queue
        return job


def _size(job: Job) -> int:
    return len(job.buffer) + (0 if job.moments is None else len(job.moments[1]))
