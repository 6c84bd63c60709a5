"""A network in memory, with seeded faults and virtual time. Pure and deterministic; ``now`` is an argument.

It speaks the vocabulary of ``protocol.transport``: endpoints are routes, messages are lists of frames, ``send`` says
whether the peer is there. By default it behaves like TCP: nothing is lost and each link keeps its order. The faults
are what happens above TCP (a connection that died with messages in it, a resend that crossed its answer), so they are
more than one connection would show.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from protocol.buffers import Buffer
from protocol.errors import FarflungError

Stream = Literal["link", "weights"]
Fault = Literal["lost", "duplicated", "reordered", "partitioned", "killed", "refused"]


class FaultsError(FarflungError):
    """A simulation was asked for impossible faults. name: of the field. value: what was given."""

    def __init__(self, name: str, value: float, accepted: str) -> None:
        super().__init__(name, value, accepted)
        self.name, self.value, self.accepted = name, value, accepted

    def __str__(self) -> str:
        return f"{self.name} = {self.value!r}: {self.accepted}"


@dataclass(frozen=True)
class Faults:
    """How bad the network is. Chances are per message, in [0, 1]."""

    delay_s: float = 0.0  # every message takes at least this long
    jitter_s: float = 0.0  # and up to this much longer, evenly spread
    bytes_per_s: float = math.inf  # of each link; messages queue behind each other
    loss: float = 0.0  # chance that a message vanishes
    duplicate: float = 0.0  # chance that it arrives twice
    reorder: float = 0.0  # chance that those after it may overtake it
    reorder_s: float = 1.0  # how long an overtaken message is held back at most

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise FaultsError(name, getattr(self, name), "a chance lies in [0, 1]")
        for name in ("delay_s", "jitter_s", "reorder_s"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise FaultsError(name, getattr(self, name), "a time is finite and not negative")
        if not self.bytes_per_s > 0.0:
            raise FaultsError("bytes_per_s", self.bytes_per_s, "a rate is above 0")


@dataclass(frozen=True, order=True)
class Delivery:
    """One message that arrives. n: counts deliveries as they were sent, so that equal times have an order."""

    time_s: float
    n: int
    destination: bytes = field(compare=False)
    source: bytes = field(compare=False)
    stream: Stream = field(compare=False)
    frames: list[bytes] = field(compare=False)


@dataclass
class _Link:
    """One direction of one stream between two endpoints."""

    free_s: float = -math.inf  # when the last byte of what was sent has left
    last_s: float = -math.inf  # when the last message in order arrives


class Network:
    """Endpoints, and what is under way between them.

    faults: may be replaced at any time; holds for what is sent afterwards. counts: messages each fault was made to.
    """

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.counts: Counter[Fault] = Counter()
        self._random = random.Random(seed)
        self._n = 0
        self._under_way: list[Delivery] = []
        self._links: dict[tuple[bytes, bytes, Stream], _Link] = {}
        self._cut: set[frozenset[bytes]] = set()
        self._dead: set[bytes] = set()
        self._subscribers: dict[bytes, dict[bytes, None]] = {}

    def send(self, source: bytes, destination: bytes, frames: Sequence[Buffer], now: float) -> bool:
        """False where the destination was killed. True promises no more than a socket does."""
        if destination in self._dead:
            self.counts["refused"] += 1
            return False
        self._carry(source, destination, "link", frames, now)
        return True

    def subscribe(self, subscriber: bytes, source: bytes) -> None:
        """From now on ``subscriber`` gets what ``source`` publishes."""
        self._subscribers.setdefault(source, {})[subscriber] = None

    def publish(self, source: bytes, frames: Sequence[Buffer], now: float) -> None:
        """To every subscriber, in the order in which they subscribed."""
        for subscriber in self._subscribers.get(source, ()):
            self._carry(source, subscriber, "weights", frames, now)

    def due(self, now: float) -> list[Delivery]:
        """Takes out what has arrived by ``now``, in order."""
        arrived = []
        while self._under_way and self._under_way[0].time_s <= now:
            arrived.append(heapq.heappop(self._under_way))
        return arrived

    def next_time(self) -> float | None:
        """When the next message arrives, or None when nothing is under way."""
        return self._under_way[0].time_s if self._under_way else None

    def partition(self, one: bytes, other: bytes) -> None:
        """Cuts both ways until ``heal``; what is under way between the two is lost."""
        self._cut.add(frozenset((one, other)))
        self._drop("partitioned", lambda delivery: {delivery.source, delivery.destination} == {one, other})

    def heal(self, one: bytes, other: bytes) -> None:
        """Carries again; what the partition swallowed stays lost."""
        self._cut.discard(frozenset((one, other)))

    def kill(self, endpoint: bytes) -> None:
        """It is gone: what is under way to it is dropped, its subscriptions end, sending to it returns False."""
        self._dead.add(endpoint)
        for subscribers in self._subscribers.values():
            subscribers.pop(endpoint, None)
        self._drop("killed", lambda delivery: delivery.destination == endpoint)

    def revive(self, endpoint: bytes) -> None:
        """Somebody answers there again, without the old subscriptions."""
        self._dead.discard(endpoint)

    def _drop(self, fault: Fault, concerns: Callable[[Delivery], bool]) -> None:
        kept = [delivery for delivery in self._under_way if not concerns(delivery)]
        self.counts[fault] += len(self._under_way) - len(kept)
        heapq.heapify(kept)
        self._under_way = kept

    def _carry(self, source: bytes, destination: bytes, stream: Stream, frames: Sequence[Buffer], now: float) -> None:
        if frozenset((source, destination)) in self._cut:
            self.counts["partitioned"] += 1
        elif self._happens("lost", self.faults.loss):
            pass
        else:
            link = self._links.setdefault((source, destination, stream), _Link())
            for _ in range(1 + self._happens("duplicated", self.faults.duplicate)):
                self._n += 1
                time_s = self._arrival(link, sum(map(len, frames)), now)
                delivery = Delivery(time_s, self._n, destination, source, stream, [bytes(frame) for frame in frames])
                heapq.heappush(self._under_way, delivery)

    def _arrival(self, link: _Link, size_bytes: int, now: float) -> float:
        """When a message sent now arrives; it overtakes nobody, unless it lets others overtake it."""
        link.free_s = max(now, link.free_s) + size_bytes / self.faults.bytes_per_s
        jitter_s = self._random.random() * self.faults.jitter_s
        arrival_s = max(link.free_s + self.faults.delay_s + jitter_s, link.last_s)
        if self._happens("reordered", self.faults.reorder):
            return arrival_s + self._random.random() * self.faults.reorder_s
        link.last_s = arrival_s
        return arrival_s

    def _happens(self, fault: Fault, chance: float) -> bool:
        happens = self._random.random() < chance
        self.counts[fault] += happens
        return happens
