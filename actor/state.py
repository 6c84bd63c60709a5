"""Everything an actor decides about its link. Pure and synchronous: events in, effects out; ``now`` is an argument.

It dials until a learner welcomes it, keeps each gradient until its verdict, follows the weight stream, and begins anew
when the learner falls silent or comes back with another life. The worker knows none of this: it sees permits and
weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from actor.events import (
    Adopt,
    Announce,
    Answer,
    Configure,
    Dial,
    Effect,
    EvaluationDone,
    Event,
    FaultArrived,
    Finish,
    Identity,
    LastWorkDone,
    Leave,
    MessageArrived,
    Permit,
    Send,
    Settle,
    Started,
    StopRequested,
    Subscribe,
    Ticked,
    WeightsWanted,
    Work,
    WorkDone,
    WorkerFailed,
    WorkerReady,
)
from actor.link.backoff import FIRST_S, Waiting
from actor.link.heartbeat import Pulse
from actor.link.weights import Holding
from protocol.codecs.registry import CODECS
from protocol.errors import RESTORED, STALE, TRY_AGAIN, PeerFault, Reason, SessionFault
from protocol.messages import (
    AnyMessage,
    Evaluation,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Refusal,
    Snapshot,
    SnapshotRequest,
    Updates,
    Verdict,
    Welcome,
)
from protocol.session import ACTOR_HEARS, Outbox, Phase, follow
from protocol.snapshot import Outcome, Reconstruction

DRAIN_S = 2.0  # how long a stopping actor waits for what its worker holds back, and for verdicts


class ActorState:
    """The actor's memory of its link; ``handle`` is the only way in."""

    def __init__(self, identity: Identity, learner: str, random: Random, give_up_after_s: float = math.inf) -> None:
        self.identity, self.learner = identity, learner
        self.phase = Phase.OFFLINE
        self.welcome: Welcome | None = None  # the session in force
        self.outbox: Outbox[Work] | None = None
        self.holding: Holding | None = None  # once the worker's network is known to fit
        self.lost = 0  # gradients whose fate was never learnt
        self.sent = 0  # gradients handed to the link; each is applied, refused or lost in the end
        self.applied = self.refused = 0
        self.unlogged = 0  # of the applied, those that the learner's journal did not hold when it said so
        self.waiting = Waiting(random, give_up_after_s)
        self._hurries = False  # once for each lost link, sooner where weights still come
        self._heard_at = 0.0
        self._pulse = Pulse()
        self._worker_ready = False
        self._permitted = 0  # what the worker was last told
        self._drain_by = float("inf")
        self._owed = False  # the worker was asked for what it holds back, and has not answered
        self._last: Work | None = None  # it has, and there was no room yet
        self._finished = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about ``event``. The only code that changes this state."""
        return [] if self._finished else _HANDLERS[type(event)](self, event, now)

    # finding a learner

    def _dial(self, now: float) -> list[Effect]:
        self.phase = Phase.GREETING
        self.waiting.greeted(now)
        hello = Hello(self.identity.name, self.identity.instance, tuple(CODECS), self.identity.role)
        effects: list[Effect] = [Dial(), Send(hello)]
        if self.waiting.worth_a_line(now):
            effects.append(Announce("waiting_for_learner", {"learner": self.learner, **self.waiting.fields(now)}))
        return effects

    def _welcomed(self, welcome: Welcome, now: float) -> list[Effect]:
        if welcome.instance != self.identity.instance:
            raise SessionFault(Reason.UNEXPECTED_MESSAGE, "a welcome for another actor")
        if self.phase is Phase.ACTIVE and self._outdated(welcome):
            return []
        if self.holding is not None:
            self.holding.forget_asks(silent=self.phase is Phase.GREETING)
        self.phase = Phase.ACTIVE
        self.waiting.answered()
        if self.outbox is not None and welcome.session == self.outbox.session:
            resent = self._resend(now, patience_s=0.0)
            return [self._beat(welcome, now), *self._permit(), *resent, *self._ask_what_lacks(now)]
        before, self.welcome = self.welcome, welcome
        # before a report, whose episodes may have begun in another session
        effects = [*self._abandon(), *([] if before is None else [self._beat(welcome, now)])]
        self.outbox = Outbox(welcome.session, welcome.credit)
        if self._trains:
            effects.append(Subscribe(welcome.weights, welcome.quantity))
        if before is None or _job(before) != _job(welcome):
            self.holding, self._worker_ready = None, False
            effects.append(Configure(welcome))
        else:
            self.holding = Holding(welcome, self._trains)  # weights of another life count for nothing
        effects += self._permit()
        effects.append(Announce("welcomed", {"run": welcome.run, "epoch": welcome.epoch, "ordinal": welcome.ordinal}))
        return effects + (self._ask(now) if self._worker_ready else [])

    @property
    def weights(self) -> Reconstruction | None:
        """The newest θ that is here; None before the worker's network is known to fit."""
        return None if self.holding is None else self.holding.newest

    @property
    def round_trip_s(self) -> float:
        """Of a gradient until its verdict, a running mean; 0 before the first."""
        return self._pulse.round_trip_s

    @property
    def _trains(self) -> bool:
        return self.identity.role == "train"

    def _outdated(self, welcome: Welcome) -> bool:
        """Whether it comes from an earlier life of the learner than the one that is talking to us."""
        held = self.welcome
        return held is not None and welcome.run == held.run and welcome.epoch < held.epoch

    def _permit(self) -> list[Effect]:
        """Tells the worker how many gradients may be unanswered, where that changed.

        None without weights of the present epoch and while they show too little of what was applied, and fewer than
        credit while an old answer is missing: the window of numbers that the ledger remembers does not move without it.
        """
        shown = self.holding is not None and self.holding.usable and not self.holding.blind
        flowing = self._trains and self.phase is Phase.ACTIVE and shown
        allowed = len(self.outbox.unanswered) + self.outbox.room if flowing and self.outbox is not None else 0
        if allowed == self._permitted:
            return []
        self._permitted = allowed
        return [Permit(allowed)]

    def _abandon(self) -> list[Effect]:
        """Gives up gradients whose session is gone: they may have been applied, so they are not sent again.

        The outbox stays: should the session live after all, its numbers must not begin anew.
        """
        if self.outbox is None:
            return []
        abandoned = [sent.parcel for sent in self.outbox.unanswered.values()]
        self.outbox.unanswered.clear()
        self.lost += len(abandoned)
        return [Settle(work, restore=False) for work in abandoned]

    def _lose(self, why: str, now: float, wait_s: float = 0.0) -> list[Effect]:
        """The link is gone; what is unanswered waits for the next welcome, which may be of the same session."""
        self.phase, self._hurries = Phase.OFFLINE, True
        self.waiting.lost(now, wait_s)
        return [*self._permit(), Announce("learner_lost", {"learner": self.learner, "why": why})]

    # what the learner says

    def _message(self, event: MessageArrived, now: float) -> list[Effect]:
        message = event.message
        try:
            streams = isinstance(message, Snapshot | Updates) and self.phase is Phase.GREETING
            if streams and self._hurries:  # it flows on meanwhile, so there is somebody to hear a hello
                self._hurries = False
                self.waiting.hurry(now)
            if self.phase is Phase.OFFLINE or streams:
                return []  # the former from a link that was given up
            follow(ACTOR_HEARS, self.phase, message)
            if not self._ours(message):
                return []
            self._heard_at = now
            return self._take(message, event, now)
        except PeerFault as fault:
            return self._fault(FaultArrived(fault), now)

    def _ours(self, message: AnyMessage) -> bool:
        """Fences off what an earlier session or another life of the learner still had under way."""
        if self.welcome is None:
            return True
        if isinstance(message, Snapshot | Updates):
            return message.epoch == self.welcome.epoch
        if isinstance(message, Verdict | Heartbeat | Goodbye):
            return message.session == self.welcome.session
        return True

    def _take(self, message: AnyMessage, event: MessageArrived, now: float) -> list[Effect]:
        if isinstance(message, Verdict):
            return self._verdict(message, now)
        if isinstance(message, Snapshot | Updates):
            return self._record(message, event, now)
        if isinstance(message, Heartbeat):
            behind = self.holding is not None and self.holding.behind(message.version)
            return self._ask(now) if behind else []
        if isinstance(message, Welcome):
            return self._welcomed(message, now)
        if isinstance(message, Refusal):
            return self._refusal(message, now)
        assert isinstance(message, Goodbye)
        return self._goodbye(message, now)

    def _verdict(self, verdict: Verdict, now: float) -> list[Effect]:
        if self.outbox is None:
            return []
        effects: list[Effect] = []
        for ruling, sent in self.outbox.settle(verdict):
            applied = ruling.outcome == "applied"
            self.applied += applied
            self.unlogged += applied and verdict.unlogged
            self.refused += not applied
            if applied and self.holding is not None:
                self.holding.applied(ruling.version)
            booked = replace(sent.parcel, report=None, moments=None)  # whatever became of the gradient itself
            took_s = now - sent.sent_at if sent.tries == 1 else None
            if took_s is not None:
                self._pulse.answered(took_s)
            judged = applied or ruling.outcome in STALE  # the version of other rulings may be that of their telling
            lag_updates = max(0, ruling.version - applied - booked.base_version) if judged else None
            effects.append(Settle(booked, ruling.outcome in RESTORED, Answer(took_s, lag_updates)))
        return effects + self._permit() + self._part(now) + self._drained(now)

    def _record(self, record: Snapshot | Updates, event: MessageArrived, now: float) -> list[Effect]:
        """Takes one record, and hands its weights on unless another is already here."""
        holding = self.holding
        if holding is None:
            return []  # the worker has not said yet that its network fits
        effects: list[Effect] = []
        outcome: Outcome | None = None
        try:
            outcome = holding.take(record, event.buffers)
        except PeerFault as fault:
            effects = self._fault(FaultArrived(fault), now)
        if outcome == "diverged":
            effects.append(Announce("diverged", {"version": record.version}))
        if outcome in ("gap", "diverged"):
            effects += self._ask(now)
        weights = None if event.followed else holding.news()
        if weights is not None:
            effects.append(Adopt(weights))
        return [*effects, *self._permit(), *self._ask_target(now)]

    def _ask(self, now: float) -> list[Effect]:
        """Asks for the newest weights, unless that is already asked."""
        if self.welcome is None or self.holding is None or not self.holding.ask(now):
            return []
        return [Send(SnapshotRequest(self.welcome.session))]

    def _ask_target(self, now: float) -> list[Effect]:
        """Asks for the target network that the newest weights name, if it is not here and not already asked for."""
        if self.welcome is None or self.holding is None or not self.holding.ask_target(now):
            return []
        return [Send(SnapshotRequest(self.welcome.session, True))]

    def _ask_what_lacks(self, now: float) -> list[Effect]:
        if self.holding is None or not self._worker_ready:
            return []
        return [*(self._ask(now) if self.holding.lacks_weights() else []), *self._ask_target(now)]

    def _refusal(self, refusal: Refusal, now: float) -> list[Effect]:
        told: Effect = Announce("refused", self.waiting.refused(refusal.reason, refusal.detail))
        if refusal.reason == Reason.WRONG_PROTOCOL:
            return [told, *self._finish(2)]
        if refusal.reason == Reason.UNKNOWN_SESSION and self.phase is not Phase.GREETING:
            effects = self._abandon()
            if self.phase is Phase.DRAINING:
                return [told, *effects, *self._finish(0)]
            return [told, *effects, *self._lose("the learner does not know this session", now)]
        return [told]

    def _goodbye(self, goodbye: Goodbye, now: float) -> list[Effect]:
        told: Effect = Announce("dismissed", {"why": goodbye.detail})
        if goodbye.final or self.phase is Phase.DRAINING:
            return [told, *self._abandon(), *self._finish(0)]
        return [told, *self._abandon(), *self._lose("the learner said goodbye", now, FIRST_S)]

    def _fault(self, event: FaultArrived, now: float) -> list[Effect]:
        told: Effect = Announce("fault", {"reason": str(event.fault.reason), "detail": event.fault.detail})
        if event.fault.reason is Reason.WRONG_PROTOCOL and self.phase is Phase.GREETING:
            return [told, *self._finish(2)]  # a learner of another version refuses in its own
        return [told]

    # what the worker says

    def _worker_is_ready(self, event: WorkerReady, now: float) -> list[Effect]:
        if self.welcome is None:
            return []
        self._worker_ready = True
        self.holding = Holding(self.welcome, self._trains)
        return [*self._permit(), *self._ask(now)]

    def _worker_failed(self, event: WorkerFailed, now: float) -> list[Effect]:
        effects: list[Effect] = [Announce("worker_failed", {"detail": event.detail, "traceback": event.trace})]
        if self.welcome is not None and self.phase in (Phase.ACTIVE, Phase.DRAINING):
            effects.append(Send(Goodbye(self.welcome.session, True, event.detail[:500])))
        return effects + self._finish(event.exit_code)

    def _evaluated(self, event: EvaluationDone, now: float) -> list[Effect]:
        """Tells the score of weights that this session handed out, and asks for the next ones to play with."""
        holding, welcome = self.holding, self.welcome
        if not self._worker_ready or holding is None or welcome is None or self.phase is Phase.DRAINING:
            return []
        held = holding.newest
        if not held.held or held.version != event.version or event.epoch not in (None, held.epoch):
            return []  # newer weights came meanwhile, and with them another evaluation began
        holding.want_next()
        if self.phase is not Phase.ACTIVE:
            return []
        numbers = (event.version, event.episodes, event.mean, event.std, event.ci95, event.seed)
        return [Send(Evaluation(welcome.session, *numbers)), *self._ask(now)]

    def _wanted(self, event: WeightsWanted, now: float) -> list[Effect]:
        if self.holding is None or self.phase is Phase.DRAINING:
            return []
        self.holding.want_next()
        return self._ask(now) if self.phase is Phase.ACTIVE else []

    def _work_done(self, event: WorkDone, now: float) -> list[Effect]:
        work, welcome, outbox = event.work, self.welcome, self.outbox
        if not self._trains or not self._worker_ready or welcome is None or outbox is None:
            return [Settle(work, restore=False)]  # from a worker that another job has replaced
        taking = self.phase is Phase.ACTIVE or self._owed  # a gradient may have been under way when the stop came
        if not taking or not outbox.room or work.epoch != welcome.epoch:
            return [Settle(work, restore=True)]  # never sent, so nothing can have been applied
        return [self._sent(work, outbox, now), *self._permit()]

    def _sent(self, work: Work, outbox: Outbox[Work], now: float) -> Effect:
        """Numbers a gradient and keeps it until its verdict."""
        gradient = Gradient(
            session=outbox.session,
            sequence=outbox.next_sequence,
            base_version=work.base_version,
            codec=work.codec,
            length=work.length,
            count=work.count,
            report=work.report,
        )
        buffers = [work.payload] if work.moments is None else [work.payload, work.moments]
        outbox.send(gradient, buffers, work, now)
        self.sent += 1
        self._pulse.made()
        return Send(gradient, buffers)

    def _last_work_done(self, event: LastWorkDone, now: float) -> list[Effect]:
        self._owed, self._last = False, event.work
        return [*self._part(now), *self._drained(now)]

    def _part(self, now: float) -> list[Effect]:
        """Sends what a leaving worker held back, once there is room."""
        work, outbox, welcome = self._last, self.outbox, self.welcome
        if work is None or outbox is None or welcome is None or not outbox.room:
            return []
        self._last = None
        if self.phase is not Phase.DRAINING or work.epoch != welcome.epoch:
            return [Settle(work, restore=False)]
        return [self._sent(work, outbox, now)]

    # time and the end

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        self._pulse.worker = event
        if self.phase in (Phase.OFFLINE, Phase.GREETING):
            if self.waiting.hopeless(now):
                fields = {"learner": self.learner, **self.waiting.fields(now)}
                return [Announce("gave_up", fields), *self._finish(TRY_AGAIN)]
            return self._dial(now) if now >= self.waiting.hello_at else []
        assert self.welcome is not None
        if self.phase is Phase.DRAINING:
            return self._drained(now)
        if now - self._heard_at > (self.welcome if self.holding is None else self.holding).silence_s:
            return self._lose("silence", now)
        effects = self._resend(now, self.welcome.silence_s)
        if self._pulse.due(now, self.welcome.heartbeat_s):
            effects += [self._beat(self.welcome, now), *self._ask_what_lacks(now)]
        return effects

    def _beat(self, welcome: Welcome, now: float) -> Effect:
        return Send(self._pulse.beat(now, welcome.session, self.weights.version if self.weights is not None else 0))

    def _resend(self, now: float, patience_s: float) -> list[Effect]:
        if self.outbox is None:
            return []
        return [Send(sent.message, sent.buffers) for sent in self.outbox.overdue(now, patience_s)]

    def _stop(self, event: StopRequested, now: float) -> list[Effect]:
        if self.phase is not Phase.ACTIVE:  # nobody to part from, or asked for the second time
            return self._finish(0)
        self._owed = self._trains and self.holding is not None and self.holding.usable  # it may be at work
        self.phase, self._drain_by = Phase.DRAINING, now + DRAIN_S
        return [*self._permit(), *([Leave()] if self._owed else ()), *self._drained(now)]

    def _drained(self, now: float) -> list[Effect]:
        """Once every verdict is here, or for too long was not: goodbye."""
        unfinished = self._owed or self._last is not None or bool(self.outbox and self.outbox.unanswered)
        if self.phase is not Phase.DRAINING or (unfinished and now < self._drain_by):
            return []
        assert self.welcome is not None
        goodbye = Send(Goodbye(self.welcome.session, True, "the actor was asked to stop"))
        return [goodbye, *self._abandon(), *self._finish(0)]

    def _finish(self, exit_code: int) -> list[Effect]:
        self.phase, self._finished = Phase.CLOSED, True
        return [Finish(exit_code)]


def _job(welcome: Welcome) -> tuple[object, ...]:
    """What a worker is built from: with the same of these it can go on after the learner came back."""
    return (welcome.run, welcome.seed, welcome.quantity, welcome.layout.digest, welcome.table_digest)


_HANDLERS: dict[type[Any], Callable[[ActorState, Any, float], list[Effect]]] = {
    Started: lambda state, _, now: state._dial(now),
    MessageArrived: ActorState._message,
    FaultArrived: ActorState._fault,
    WorkDone: ActorState._work_done,
    LastWorkDone: ActorState._last_work_done,
    EvaluationDone: ActorState._evaluated,
    WeightsWanted: ActorState._wanted,
    WorkerReady: ActorState._worker_is_ready,
    WorkerFailed: ActorState._worker_failed,
    Ticked: ActorState._ticked,
    StopRequested: ActorState._stop,
}
