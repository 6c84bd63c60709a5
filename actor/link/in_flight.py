"""The gradients that one actor handed to its link, and what became of them. Pure; ``now`` is an argument."""

from __future__ import annotations

from dataclasses import replace

from actor.events import Feedback, Send, Settle, Work
from protocol.errors import RESTORED, STALE
from protocol.messages import Gradient, Ruling, Verdict
from protocol.session import SPAN, Outbox

APPLIED = "applied"  # the outcome of a ruling that is no refusal


class GradientsInFlight:
    """Numbers gradients, keeps each until its verdict, and counts fates over all sessions of the process's life.

    outbox: of the session in force; None before the first. sent: handed to the link. applied, refused: by a verdict.
    lost: whose fate was never learnt. unlogged: of the applied, those that the learner's journal did not hold when it
    said so.
    """

    def __init__(self) -> None:
        self.outbox: Outbox[Work] | None = None
        self.sent = self.applied = self.refused = self.lost = self.unlogged = 0
        self.most_credit = 0  # the largest that was ever granted, which bounds everything that is under way

    @property
    def unanswered(self) -> int:
        """Gradients that wait for their verdict."""
        return 0 if self.outbox is None else len(self.outbox.unanswered)

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return 0 if self.outbox is None else self.outbox.room

    @property
    def credit(self) -> int:
        """How many may be unanswered, as the learner last said."""
        return 0 if self.outbox is None else self.outbox.credit

    def open_session(self, session: int, credit: int) -> None:
        """Numbers begin anew; what was unanswered must have been abandoned."""
        assert not self.unanswered, "gradients of the session before are still unanswered"
        self.outbox = Outbox(session, credit)
        self.most_credit = max(self.most_credit, credit)

    def send(self, work: Work, now: float) -> Send:
        """Numbers a gradient and keeps it until its verdict; there must be room."""
        assert self.outbox is not None
        gradient = Gradient(
            session=self.outbox.session,
            sequence=self.outbox.next_sequence,
            base_version=work.base_version,
            codec=work.codec,
            length=work.length,
            count=work.count,
            report=work.report,
        )
        buffers = [work.payload] if work.moments is None else [work.payload, work.moments]
        self.outbox.send(gradient, buffers, work, now)
        self.sent += 1
        return Send(gradient, buffers)

    def settle(self, verdict: Verdict, now: float) -> list[tuple[Ruling, Settle]]:
        """What the verdict answers, in its order."""
        settled: list[tuple[Ruling, Settle]] = []
        self.most_credit = max(self.most_credit, verdict.credit)
        for ruling, sent in [] if self.outbox is None else self.outbox.settle(verdict):
            applied = ruling.outcome == APPLIED
            self.applied += applied
            self.unlogged += applied and verdict.unlogged
            self.refused += not applied
            booked = replace(sent.parcel, report=None, moments=None)  # whatever became of the gradient itself
            judged = applied or ruling.outcome in STALE  # other rulings may carry a later version
            feedback = Feedback(
                round_trip_s=now - sent.sent_at if sent.tries == 1 else None,
                lag_updates=max(0, ruling.version - applied - booked.base_version) if judged else None,
                version=ruling.version if applied else None,
            )
            settled.append((ruling, Settle(booked, ruling.outcome in RESTORED, feedback)))
        return settled

    def abandon(self) -> list[Settle]:
        """Gives up gradients whose session is gone: they may have been applied, so they are not sent again.

        The outbox stays: should the session live after all, its numbers must not begin anew.
        """
        if self.outbox is None:
            return []
        abandoned = [sent.parcel for sent in self.outbox.unanswered.values()]
        self.outbox.unanswered.clear()
        self.lost += len(abandoned)
        return [Settle(work, restore=False) for work in abandoned]

    def resend(self, now: float, patience_s: float) -> list[Send]:
        """Those that waited for longer than this, and twice as long after each time."""
        overdue = [] if self.outbox is None else self.outbox.overdue(now, patience_s)
        return [Send(sent.message, sent.buffers) for sent in overdue]

    def validate(self, session: int, epoch: int) -> None:
        """Asserts what holds between any two events. session, epoch: of the welcome in force."""
        assert self.outbox is not None, "there is a session and no outbox"
        assert self.outbox.session == session, f"the outbox is of session {self.outbox.session}, not {session}"
        fates = self.applied + self.refused + self.lost + self.unanswered
        assert self.sent == fates, f"{self.sent} gradients were sent, and {fates} have a fate or wait for one"
        assert self.unanswered <= self.most_credit, f"{self.unanswered} unanswered, at most {self.most_credit} granted"
        window = self.outbox.next_sequence - next(iter(self.outbox.unanswered), self.outbox.next_sequence)
        assert window <= SPAN * self.most_credit, f"the unanswered span {window} numbers"
        for sequence, sent in self.outbox.unanswered.items():
            assert sequence < self.outbox.next_sequence, f"gradient {sequence} was numbered before its turn"
            assert sent.message.session == session, f"gradient {sequence} belongs to another session"
            assert sent.parcel.epoch == epoch, f"gradient {sequence} is of another life of the learner"
