"""The session's two tables, whole, and its two ledgers: at most once, a bounded window, patient retransmission."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.errors import Reason, SessionFault
from protocol.layout import Entry, Layout
from protocol.messages import (
    KINDS,
    Applied,
    Evaluation,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    Ruling,
    Snapshot,
    SnapshotRequest,
    Updates,
    Verdict,
    Welcome,
    kind,
)
from protocol.session import (
    ACTOR_HEARS,
    LEARNER_HEARS,
    LEARNER_HEARS_EVALUATOR,
    SPAN,
    Ledger,
    Outbox,
    Peer,
    Phase,
    Seen,
    Table,
    follow,
)

LAYOUT = Layout((Entry("w", (2,)),))
WELCOME = Welcome(
    instance=1,
    run="r",
    epoch=1,
    session=9,
    ordinal=0,
    seed=0,
    credit=2,
    heartbeat_s=1.0,
    silence_s=5.0,
    quantity="update",
    weights="*",
    layout=LAYOUT,
    table=b"",
    table_digest=bytes(8),
)
EVERY: list[Message] = [
    Hello("a", 1, ()),
    WELCOME,
    Refusal("draining", ""),
    Gradient(9, 1, 0, "f32", 2, 2),
    Verdict(9, 2, (Ruling(1, "applied", 1),)),
    Heartbeat(9, 0, 0),
    SnapshotRequest(9),
    Snapshot(1, 0, "key", 0, LAYOUT.digest, "f32", 2, 2),
    Updates(1, 1, 0, LAYOUT.digest, 2, (Applied("f32", 2, 8, 1.0),)),
    Evaluation(9, 0, 1, 0.0, 0.0, 0.0, 0),
    Goodbye(9, True, ""),
]

# what each side hears, written by hand from WIRE.md section 6: everything that is not here is a fault
ACTOR = {
    Phase.GREETING: {"welcome": Phase.ACTIVE, "refusal": Phase.GREETING, "goodbye": Phase.CLOSED},
    Phase.ACTIVE: {
        "welcome": Phase.ACTIVE,
        "verdict": Phase.ACTIVE,
        "heartbeat": Phase.ACTIVE,
        "snapshot": Phase.ACTIVE,
        "updates": Phase.ACTIVE,
        "refusal": Phase.ACTIVE,
        "goodbye": Phase.CLOSED,
    },
    Phase.DRAINING: {
        "verdict": Phase.DRAINING,
        "heartbeat": Phase.DRAINING,
        "snapshot": Phase.DRAINING,
        "updates": Phase.DRAINING,
        "refusal": Phase.DRAINING,
        "goodbye": Phase.CLOSED,
    },
}
LEARNER = {
    Phase.OFFLINE: {"hello": Phase.ACTIVE},
    Phase.ACTIVE: {
        "hello": Phase.ACTIVE,
        "gradient": Phase.ACTIVE,
        "heartbeat": Phase.ACTIVE,
        "snapshot_request": Phase.ACTIVE,
        "goodbye": Phase.CLOSED,
    },
}
EVALUATOR = {
    Phase.OFFLINE: {"hello": Phase.ACTIVE},
    Phase.ACTIVE: {
        "hello": Phase.ACTIVE,
        "evaluation": Phase.ACTIVE,
        "heartbeat": Phase.ACTIVE,
        "snapshot_request": Phase.ACTIVE,
        "goodbye": Phase.CLOSED,
    },
}
TABLES = [(ACTOR_HEARS, ACTOR), (LEARNER_HEARS, LEARNER), (LEARNER_HEARS_EVALUATOR, EVALUATOR)]
PAIRS = [(phase, message) for phase in Phase for message in EVERY]
PAIR_NAMES = [f"{phase.value}-{kind(message)}" for phase, message in PAIRS]


def test_every_kind_is_tried() -> None:
    assert {kind(message) for message in EVERY} == KINDS


@pytest.mark.parametrize(("phase", "message"), PAIRS, ids=PAIR_NAMES)
@pytest.mark.parametrize(("table", "legal"), TABLES, ids=["actor", "learner", "learner-evaluator"])
def test_tables(table: Table, legal: dict[Phase, dict[str, Phase]], phase: Phase, message: Message) -> None:
    after = legal.get(phase, {}).get(kind(message))
    if after is not None:
        assert follow(table, phase, message) is after
        return
    with pytest.raises(SessionFault) as caught:
        follow(table, phase, message)
    assert caught.value.reason is Reason.UNEXPECTED_MESSAGE
    assert kind(message) in caught.value.detail
    assert phase.value in caught.value.detail


# the learner's ledger


def applied(sequence: int) -> Ruling:
    return Ruling(sequence, "applied", sequence)


def answered(ledger: Ledger, *sequences: int) -> None:
    for sequence in sequences:
        assert ledger.classify(sequence) is Seen.NEW
        ledger.settle(applied(sequence))


def reason_of(ledger: Ledger, sequence: int) -> Reason:
    with pytest.raises(SessionFault) as caught:
        ledger.classify(sequence)
    return caught.value.reason


def test_a_number_is_new_once_then_pending_then_answered() -> None:
    ledger = Ledger(credit=1)
    assert ledger.classify(1) is Seen.NEW
    assert ledger.classify(1) is Seen.PENDING
    ledger.settle(applied(1))
    assert ledger.classify(1) is Seen.ANSWERED
    assert ledger.rulings[1] == applied(1)


def test_more_pending_than_credit_is_overdrawn() -> None:
    ledger = Ledger(credit=2)
    ledger.classify(1)
    ledger.classify(2)
    assert reason_of(ledger, 3) is Reason.OVERDRAWN
    ledger.settle(applied(2))
    assert ledger.classify(3) is Seen.NEW


def test_a_smaller_grant_holds_from_where_it_must_have_been_heard() -> None:
    ledger = Ledger(credit=8)
    assert ledger.allowed(1) == 8  # nothing was told yet
    ledger.grant(2)
    assert ledger.allowed(1) == 2
    ledger.grant(4, settles=1)
    ledger.grant(1, settles=3)
    assert [ledger.allowed(sequence) for sequence in (10, 11)] == [4, 1]  # 3 + SPAN * 4
    ledger.grant(2)  # repeated answers end nothing, and raise at once
    assert [ledger.allowed(sequence) for sequence in (10, 11)] == [4, 2]
    ledger.grant(1)
    assert ledger.allowed(10**9) == 2
    ledger.grant(1, settles=20)
    assert [ledger.allowed(sequence) for sequence in (27, 28)] == [2, 1]


def test_a_forgotten_number_is_a_duplicate_and_not_new() -> None:
    ledger = Ledger(credit=1)
    answered(ledger, *range(1, 100))
    assert reason_of(ledger, 1) is Reason.DUPLICATE
    assert ledger.classify(99) is Seen.ANSWERED


def test_a_ledger_is_bounded() -> None:
    ledger = Ledger(credit=3)
    answered(ledger, *range(1, 500))
    assert len(ledger.rulings) == 2 * SPAN * 3


def test_a_peer_is_silent_only_after_longer_than_it_may_be() -> None:
    peer = Peer(9, 1, "a", 0, b"route", 10.0, Ledger(1))
    assert not peer.silent(15.0, 5.0)
    assert peer.silent(15.1, 5.0)
    peer.receive(Heartbeat(9, 0, 0), b"elsewhere", 15.0)
    assert (peer.route, peer.heard_at, peer.silent(20.0, 5.0)) == (b"elsewhere", 15.0, False)


def test_a_peer_that_said_goodbye_says_nothing_more() -> None:
    peer = Peer(9, 1, "a", 0, b"route", 10.0, Ledger(1))
    peer.receive(Goodbye(9, True, ""), b"route", 11.0)
    assert peer.phase is Phase.CLOSED
    with pytest.raises(SessionFault):
        peer.receive(Heartbeat(9, 0, 0), b"route", 12.0)
    assert peer.heard_at == 11.0


# the actor's outbox


def outbox(credit: int = 2) -> Outbox[str]:
    return Outbox(session=9, credit=credit)


def send(box: Outbox[str], now: float = 0.0) -> int:
    sequence = box.next_sequence
    box.send(Gradient(9, sequence, 0, "f32", 2, 2), [b"payload"], f"parcel {sequence}", now)
    return sequence


def verdict(*sequences: int, credit: int = 2) -> Verdict:
    return Verdict(9, credit, tuple(map(applied, sequences)))


def test_room_is_credit_less_what_is_unanswered() -> None:
    box = outbox(credit=2)
    assert box.room == 2
    send(box)
    send(box)
    assert box.room == 0
    box.settle(verdict(1))
    assert box.room == 1


def test_sending_without_room_is_our_own_fault() -> None:
    box = outbox(credit=1)
    send(box)
    with pytest.raises(AssertionError):
        send(box)


def test_a_verdict_gives_back_each_parcel_once() -> None:
    box = outbox()
    send(box)
    send(box)
    assert [(ruling.sequence, sent.parcel) for ruling, sent in box.settle(verdict(2, 1))] == [
        (2, "parcel 2"),
        (1, "parcel 1"),
    ]
    assert box.settle(verdict(1, 2, 7)) == []


def test_a_verdict_renews_credit() -> None:
    box = outbox(credit=1)
    send(box)
    box.settle(verdict(1, credit=3))
    assert box.room == 3


def test_credit_that_shrinks_leaves_no_negative_room() -> None:
    box = outbox(credit=3)
    for _ in range(3):
        send(box)
    box.settle(verdict(1, credit=1))
    assert box.room == 0


def test_the_window_stands_still_while_an_old_number_is_open() -> None:
    box = outbox(credit=2)
    send(box)
    for sequence in range(2, 1 + SPAN * 2):
        assert send(box) == sequence
        box.settle(verdict(sequence))
    assert (len(box.unanswered), box.room) == (1, 0)
    box.settle(verdict(1))
    assert box.room == 2


def test_retransmission_backs_off() -> None:
    box = outbox()
    send(box, now=0.0)
    times = [now for now in range(100) if box.overdue(float(now), patience_s=3.0)]
    assert times == [4, 11, 24, 49, 98]
    assert box.unanswered[1].tries == 6


def test_patience_of_nothing_sends_all_again_at_once() -> None:
    box = outbox()
    send(box, now=0.0)
    send(box, now=0.5)
    assert [sent.message.sequence for sent in box.overdue(1.0, patience_s=0.0)] == [1, 2]


def test_what_is_answered_is_never_sent_again() -> None:
    box = outbox()
    send(box)
    box.settle(verdict(1))
    assert box.overdue(1e9, patience_s=1.0) == []


@given(st.integers(1, 70), st.floats(0.1, 100.0))
def test_back_off_never_overflows(tries: int, patience_s: float) -> None:
    box = outbox()
    send(box)
    box.unanswered[1].tries = tries
    assert box.overdue(patience_s * 1025, patience_s)


# both ends together


class Link(RuleBasedStateMachine):
    """An outbox and a ledger over a network that loses, repeats and reorders everything, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.box: Outbox[int] = Outbox(session=9, credit=3)
        self.ledger = Ledger(credit=3)
        self.up: list[int] = []  # numbers that may arrive at any time, any number of times
        self.down: list[Ruling] = []
        self.judged: dict[int, Ruling] = {}
        self.closed: dict[int, Ruling] = {}

    @precondition(lambda self: self.box.room > 0)
    @rule()
    def gradient(self) -> None:
        sequence = self.box.next_sequence
        self.box.send(Gradient(9, sequence, 0, "f32", 2, 2), [], sequence, 0.0)
        self.up.append(sequence)

    @precondition(lambda self: self.box.unanswered)
    @rule()
    def retransmission(self) -> None:
        self.up += [sent.message.sequence for sent in self.box.overdue(1e9, 0.0)]
        for sent in self.box.unanswered.values():
            sent.sent_at = 0.0

    @precondition(lambda self: self.up)
    @rule(data=st.data(), lost=st.booleans(), again=st.booleans())
    def arrival(self, data: st.DataObject, lost: bool, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.up) - 1))
        sequence = self.up[index] if again else self.up.pop(index)
        if lost:
            return
        try:
            seen = self.ledger.classify(sequence)
        except SessionFault as fault:
            self.check_refused(sequence, fault.reason)
            return
        assert (seen is Seen.ANSWERED) == (sequence in self.judged)
        if seen is Seen.ANSWERED:
            assert self.ledger.rulings[sequence] == self.judged[sequence]
            self.down.append(self.judged[sequence])

    def check_refused(self, sequence: int, reason: Reason) -> None:
        """Only what is forgotten, and then its answer is home; an honest actor never overdraws."""
        assert (reason, sequence in self.closed) == (Reason.DUPLICATE, True)

    @precondition(lambda self: self.ledger.pending)
    @rule(data=st.data())
    def judgement(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.ledger.pending)))
        assert sequence not in self.judged, "judged twice"
        self.judged[sequence] = ruling = Ruling(sequence, data.draw(st.sampled_from(["applied", "stale_updates"])), 0)
        self.ledger.settle(ruling)
        self.down.append(ruling)

    @precondition(lambda self: self.down)
    @rule(data=st.data(), again=st.booleans())
    def verdict(self, data: st.DataObject, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.down) - 1))
        ruling = self.down[index] if again else self.down.pop(index)
        for settled, sent in self.box.settle(Verdict(9, 3, (ruling,))):
            assert sent.parcel == settled.sequence
            assert settled.sequence not in self.closed, "answered twice"
            self.closed[settled.sequence] = settled

    @invariant()
    def bounded(self) -> None:
        assert len(self.box.unanswered) <= 3
        assert len(self.ledger.pending) <= 3
        assert len(self.ledger.rulings) <= 2 * SPAN * 3
        open_numbers = list(self.box.unanswered)
        assert open_numbers == sorted(open_numbers)
        assert self.box.next_sequence - min(open_numbers, default=self.box.next_sequence) <= SPAN * 3

    @invariant()
    def the_actor_knows_the_truth(self) -> None:
        assert all(self.judged[sequence] == ruling for sequence, ruling in self.closed.items())

    def teardown(self) -> None:
        """Whatever happened: a calm link brings every answer home."""
        for sequence in list(self.box.unanswered):
            if self.ledger.classify(sequence) is not Seen.ANSWERED:
                self.ledger.settle(applied(sequence))
            self.box.settle(Verdict(9, 3, (self.ledger.rulings[sequence],)))
        assert self.box.room == 3


TestLink = Link.TestCase
