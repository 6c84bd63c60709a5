"""The link between one actor and the learner, both ends, as tables and ledgers. Pure; ``now`` is an argument.

A session is granted by a welcome, lives through reconnects and ends with a goodbye, with silence, or with the learner's
life (WIRE.md, section 6). What is legal when stands in two tables of (phase, message) -> phase: an illegal message is
a missing key. What was sent and answered stands in two ledgers:

* the actor's ``Outbox`` keeps each gradient until its verdict, and sends it again, under the same sequence number,
  when the link was lost or the verdict is long overdue;
* the learner's ``Ledger`` answers a number that it has seen with what it said before.

So a gradient is applied at most once, and exactly once while its session lives.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from protocol.errors import Reason, SessionFault
from protocol.messages import (
    Evaluation,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    Role,
    Ruling,
    Snapshot,
    SnapshotRequest,
    Updates,
    Verdict,
    Welcome,
    kind,
)


class Phase(Enum):
    """Where a session stands."""

    OFFLINE = "offline"  # nothing said yet, or the last session was lost
    GREETING = "greeting"  # hello sent, welcome awaited (actor only)
    ACTIVE = "active"  # gradients and verdicts flow
    DRAINING = "draining"  # no new gradients; verdicts still owed
    CLOSED = "closed"  # over; nothing is sent, nothing is heard


Table = dict[tuple[Phase, type[Message]], Phase]

_OFFLINE, _GREETING, _ACTIVE, _DRAINING, _CLOSED = Phase

ACTOR_HEARS: Table = {
    (_GREETING, Welcome): _ACTIVE,
    (_GREETING, Refusal): _GREETING,
    (_GREETING, Goodbye): _CLOSED,
    (_ACTIVE, Welcome): _ACTIVE,  # the answer to a hello that was sent twice
    (_ACTIVE, Verdict): _ACTIVE,
    (_ACTIVE, Heartbeat): _ACTIVE,
    (_ACTIVE, Snapshot): _ACTIVE,
    (_ACTIVE, Updates): _ACTIVE,
    (_ACTIVE, Refusal): _ACTIVE,
    (_ACTIVE, Goodbye): _CLOSED,
    (_DRAINING, Verdict): _DRAINING,
    (_DRAINING, Heartbeat): _DRAINING,
    (_DRAINING, Snapshot): _DRAINING,
    (_DRAINING, Updates): _DRAINING,
    (_DRAINING, Refusal): _DRAINING,
    (_DRAINING, Goodbye): _CLOSED,
}

LEARNER_HEARS: Table = {
    (_OFFLINE, Hello): _ACTIVE,
    (_ACTIVE, Hello): _ACTIVE,  # the same life again, over a new connection
    (_ACTIVE, Gradient): _ACTIVE,
    (_ACTIVE, Heartbeat): _ACTIVE,
    (_ACTIVE, SnapshotRequest): _ACTIVE,
    (_ACTIVE, Goodbye): _CLOSED,
}

LEARNER_HEARS_EVALUATOR: Table = {
    (_OFFLINE, Hello): _ACTIVE,
    (_ACTIVE, Hello): _ACTIVE,
    (_ACTIVE, Evaluation): _ACTIVE,
    (_ACTIVE, Heartbeat): _ACTIVE,
    (_ACTIVE, SnapshotRequest): _ACTIVE,
    (_ACTIVE, Goodbye): _CLOSED,
}

HEARD_FROM: dict[Role, Table] = {"train": LEARNER_HEARS, "evaluate": LEARNER_HEARS_EVALUATOR}
HEARD_FROM_ANY: Table = LEARNER_HEARS | LEARNER_HEARS_EVALUATOR


def follow(table: Table, phase: Phase, message: Message) -> Phase:
    """The phase after hearing ``message``; raises SessionFault where the table has no such row."""
    after = table.get((phase, type(message)))
    if after is None:
        raise SessionFault(Reason.UNEXPECTED_MESSAGE, f"{kind(message)} is not expected while {phase.value}")
    return after


ROUTES_LEFT = 8  # of one session: connections whose last messages may still be waiting to be read
SPAN = 2  # an actor's unanswered numbers lie within SPAN * credit of each other, so that a ledger can be bounded


class Seen(Enum):
    """What a ledger says of a sequence number."""

    NEW = "new"  # never seen: judge it
    PENDING = "pending"  # being judged: its verdict is on the way
    ANSWERED = "answered"  # judged before: repeat the ruling


@dataclass(slots=True)
class Ledger:
    """The learner's memory of one session's sequence numbers; bounded by 2 * SPAN * credit rulings."""

    credit: int  # the most that is ever granted, >= 1
    pending: set[int] = field(default_factory=set)
    rulings: dict[int, Ruling] = field(default_factory=dict)  # in the order of judgement
    floor: int = 0  # every number up to here was answered, and its ruling forgotten
    grants: dict[int, float] = field(default_factory=dict)  # that may be in use: credit, and the number that ends it

    def classify(self, sequence: int) -> Seen:
        """What to do with a gradient of this number; raises SessionFault for forgotten or overdrawn ones."""
        if sequence in self.rulings:
            return Seen.ANSWERED
        if sequence in self.pending:
            return Seen.PENDING
        if sequence <= self.floor:
            raise SessionFault(Reason.DUPLICATE, f"gradient {sequence} was answered long ago")
        allowed = self.allowed(sequence)
        if len(self.pending) >= allowed:
            raise SessionFault(Reason.OVERDRAWN, f"{len(self.pending)} gradients unanswered, credit is {allowed}")
        self.pending.add(sequence)
        return Seen.NEW

    def allowed(self, sequence: int) -> int:
        """How many may be unanswered with this number among them; the most that is ever granted before any grant."""
        return min(self.credit, max((c for c, end in self.grants.items() if sequence < end), default=self.credit))

    def grant(self, credit: int, settles: int | None = None) -> None:
        """An answer goes out that grants ``credit``. settles: the least number that it answers for the first time.

        A larger grant told before stays in force until the answer must have been heard: who has not heard it holds
        ``settles`` unanswered, and its numbers lie within SPAN * credit of each other.
        """
        end = math.inf if settles is None else settles + SPAN * max([credit, *self.grants])
        larger = {granted: min(ends, end) for granted, ends in self.grants.items() if granted > credit}
        self.grants = {credit: math.inf, **larger}

    def settle(self, ruling: Ruling) -> None:
        """Records what became of a pending number."""
        self.pending.discard(ruling.sequence)
        self.rulings[ruling.sequence] = ruling
        if len(self.rulings) > 2 * SPAN * self.credit:
            forgotten = next(iter(self.rulings))
            del self.rulings[forgotten]
            self.floor = max(self.floor, forgotten)


Sender = str | int  # who answers for a gradient: a public key, or where none is asked for the session


@dataclass(slots=True)
class Peer:
    """The learner's end of one session."""

    session: int
    instance: int  # the actor's life that it was granted to
    name: str
    ordinal: int
    route: bytes  # connection that it last spoke over
    heard_at: float
    ledger: Ledger
    phase: Phase = Phase.ACTIVE
    progress: int = 0  # environment steps that its heartbeats tell
    progressed_at: float = 0.0  # when that last grew
    version: int = 0  # newest weights that it says it holds
    based_version: int = 0  # of the weights that its last gradient was taken at
    env_steps: int = 0  # environment steps that its reports told
    reported_at_steps: int | None = None  # environment steps of the run when it last reported
    life_steps: int = 0  # environment steps of its actor's life, earlier sessions included, as far as it told
    episode_steps: int = 0  # of them, in episodes that it reported
    doubted: int = 0  # reports that could not be true in every part
    gradients: int = 0  # judged so far
    received_bytes: int = 0
    role: Role = "train"  # as its hello said
    public_key: str = ""  # that its connections prove to have; empty where none is asked for
    credit: int = 1  # granted last; it counts from when it is told (``Ledger.grant``)
    share: float = 0.0  # as it was last told
    faults: Counter[str] = field(default_factory=Counter)  # that its heartbeats told, by kind
    greeted: bytes = b""  # connection that its last hello came over
    left: deque[bytes] = field(default_factory=lambda: deque(maxlen=ROUTES_LEFT))  # connections it spoke over before

    @property
    def trains(self) -> bool:
        """Whether gradients may come from it."""
        return self.role == "train"

    @property
    def sender(self) -> Sender:
        """Whose quota, share and conduct its gradients count for."""
        return self.public_key or self.session

    def receive(self, message: Message, route: bytes, now: float) -> None:
        """Notes a sign of life; raises SessionFault if the message is illegal now.

        What is said from now on goes to ``route``, unless the message comes late over a connection that another has
        followed: a learner that stood still reads both at once, in any order. A hello names no session, and moves none.
        """
        self.phase = follow(HEARD_FROM[self.role], self.phase, message)
        self.heard_at = now
        if route != self.route and route not in self.left and not isinstance(message, Hello):
            self.left.append(self.route)
            self.route = route

    def settle(self, rulings: Sequence[Ruling], *, unlogged: bool) -> Verdict:
        """Records what became of gradients; the answer to them. unlogged: as in a verdict."""
        for ruling in rulings:
            self.ledger.settle(ruling)
        self.gradients += len(rulings)
        return self.verdict(rulings, min(ruling.sequence for ruling in rulings), unlogged=unlogged)

    def verdict(self, rulings: Sequence[Ruling], settles: int | None = None, *, unlogged: bool) -> Verdict:
        """An answer, which grants ``credit`` from now on. settles: as in ``Ledger.grant``. unlogged: as in Verdict."""
        self.ledger.grant(self.credit, settles)
        return Verdict(self.session, self.credit, tuple(rulings), unlogged)

    def silent(self, now: float, silence_s: float) -> bool:
        """Whether nothing was heard for longer than a peer may be silent."""
        return now - self.heard_at > silence_s


P = TypeVar("P")


@dataclass(slots=True)
class Sent(Generic[P]):
    """One gradient under way. parcel: whatever the actor wants back with its verdict."""

    message: Gradient
    buffers: Sequence[bytes]
    parcel: P
    sent_at: float
    tries: int = 1


@dataclass(slots=True)
class Outbox(Generic[P]):
    """The actor's unanswered gradients of one session; none is added beyond ``credit``, which verdicts change."""

    session: int
    credit: int
    next_sequence: int = 1
    unanswered: dict[int, Sent[P]] = field(default_factory=dict)  # by sequence, oldest first

    @property
    def room(self) -> int:
        """How many more gradients may be sent now."""
        oldest = next(iter(self.unanswered), self.next_sequence)
        return max(0, min(self.credit - len(self.unanswered), oldest + SPAN * self.credit - self.next_sequence))

    def send(self, gradient: Gradient, buffers: Sequence[bytes], parcel: P, now: float) -> None:
        """Notes a gradient, numbered ``next_sequence``, as under way."""
        assert gradient.sequence == self.next_sequence
        assert self.room > 0
        self.unanswered[gradient.sequence] = Sent(gradient, buffers, parcel, now)
        self.next_sequence += 1

    def settle(self, verdict: Verdict) -> list[tuple[Ruling, Sent[P]]]:
        """What the verdict answers; rulings on numbers that are not open (an answer told twice) are passed over."""
        self.credit = verdict.credit
        open_ = self.unanswered
        return [(ruling, open_.pop(ruling.sequence)) for ruling in verdict.rulings if ruling.sequence in open_]

    def overdue(self, now: float, patience_s: float) -> list[Sent[P]]:
        """What to send again: unanswered for patience_s, then twice that, and so on. Marks them as sent now."""
        late = [s for s in self.unanswered.values() if now - s.sent_at > patience_s * (1 << min(s.tries - 1, 10))]
        for sent in late:
            sent.sent_at, sent.tries = now, sent.tries + 1
        return late
