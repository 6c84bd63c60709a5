"""Everything an actor decides about its link. Pure and synchronous: events in, effects out; ``now`` is an argument.

It dials until a learner welcomes it, keeps each gradient until its verdict, follows the weight stream, and begins anew
when the learner falls silent or comes back with another life. The worker knows none of this: it sees permits and
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from actor.events import (
    Adopt,
    Announce,
    Configure,
    Dial,
    Effect,
    Event,
    FaultArrived,
    Finish,
    MessageArrived,
    Permit,
    Send,
    Settle,
    Started,
    StopRequested,
    Subscribe,
    Ticked,
    Weights,
    Work,
    WorkDone,
    WorkerFailed,
    WorkerReady,
)
from protocol.codecs import CODECS
from protocol.errors import PeerFault, Reason, SessionFault
from protocol.messages import (
    AnyMessage,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Refusal,
    Snapshot,
    SnapshotRequest,
    Verdict,
    Welcome,
)
from protocol.session import ACTOR_HEARS, Outbox, Phase, follow
from protocol.snapshot import Reconstruction

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 15.0  # between hellos that nobody answers; doubled each time, jittered
DOUBLINGS = 5  # reach the longest; an actor may wait for days, and 2.0**1024 is no float
QUIET_ATTEMPTS = 3  # a learner that starts at the same time needs a few seconds; that is no news
DRAIN_S = 2.0  # how long a stopping actor waits for the verdicts it is owed
RESTORED = {  # WIRE.md, section 8; any other reason, one that we do not know included, is never restored
    Reason.DRAINING,
    Reason.OVERDRAWN,
    Reason.WRONG_LENGTH,
    Reason.UNKNOWN_CODEC,
    Reason.FUTURE_VERSION,
    Reason.STALE_UPDATES,
    Reason.STALE_SECONDS,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this process is. name: for people. instance: random for each process life."""

    name: str
    instance: int


class ActorState:
    """The actor's memory of its link; ``handle`` is the only way in."""

    def __init__(self, identity: Identity, learner: str, random: Random) -> None:
        self.identity, self.learner = identity, learner
        self.phase = Phase.OFFLINE
        self.welcome: Welcome | None = None  # the session in force
        self.outbox: Outbox[Work] | None = None
        self.weights: Reconstruction | None = None
        self.target: Reconstruction | None = None  # the target network's, where the stream names one
        self.lost = 0  # gradients whose fate was never learnt
        self.sent = 0  # gradients handed to the link; each is applied, refused or lost in the end
        self.applied = 0
        self.refused = 0
        self._random = random
        self._attempts = 0
        self._hello_at = 0.0  # when to say hello next
        self._heard_at = 0.0
        self._beat_at = 0.0
        self._asked_at: float | None = None  # when a snapshot was last asked for and has not come
        self._target_asked_at: float | None = None  # the same for the target network's
        self._env_steps = 0
        self._worker_ready = False
        self._permitted = 0  # what the worker was last told
        self._drain_by = float("inf")
        self._finished = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about ``event``. The only code that changes this state."""
        return [] if self._finished else _HANDLERS[type(event)](self, event, now)

    # finding a learner

    def _started(self, event: Started, now: float) -> list[Effect]:
        return self._dial(now)

    def _dial(self, now: float) -> list[Effect]:
        self.phase = Phase.GREETING
        wait = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self._attempts, DOUBLINGS)) * (
            0.5 + self._random.random()
        )
        self._hello_at = now + wait
        self._attempts += 1
        hello = Hello(self.identity.name, self.identity.instance, tuple(CODECS))
        effects: list[Effect] = [Dial(), Send(hello)]
        if self._attempts > QUIET_ATTEMPTS:
            waited = {"learner": self.learner, "attempt": self._attempts, "next_attempt_s": round(wait, 1)}
            effects.append(Announce("waiting_for_learner", waited))
        return effects

    def _welcomed(self, welcome: Welcome, now: float) -> list[Effect]:
        if welcome.instance != self.identity.instance:
            raise SessionFault(Reason.UNEXPECTED_MESSAGE, "a welcome for another actor")
        if self.phase is Phase.ACTIVE and self._outdated(welcome):
            return []
        self.phase, self._attempts, self._asked_at, self._target_asked_at = Phase.ACTIVE, 0, None, None
        if self.outbox is not None and welcome.session == self.outbox.session:
            return [*self._permit(), *self._resend(now, patience_s=0.0)]
        before, self.welcome = self.welcome, welcome
        effects = self._abandon()
        self.outbox = Outbox(welcome.session, welcome.credit)
        effects.append(Subscribe(welcome.weights))
        if before is None or _job(before) != _job(welcome):
            self.weights, self.target, self._worker_ready = None, None, False
            effects.append(Configure(welcome))
        else:
            self._hold_nothing(welcome)
        effects += self._permit()
        effects.append(Announce("welcomed", {"run": welcome.run, "epoch": welcome.epoch, "ordinal": welcome.ordinal}))
        return effects + (self._ask(now) if self._worker_ready else [])

    def _hold_nothing(self, welcome: Welcome) -> None:
        """Weights of another life of the learner count for nothing, and neither does its target network."""
        self.weights = Reconstruction(welcome.layout.digest, welcome.layout.length)
        self.target = Reconstruction(welcome.layout.digest, welcome.layout.length)

    def _outdated(self, welcome: Welcome) -> bool:
        """Whether it comes from an earlier life of the learner than the one that is talking to us."""
        held = self.welcome
        return held is not None and welcome.run == held.run and welcome.epoch < held.epoch

    def _permit(self) -> list[Effect]:
        """Tells the worker how many gradients may be unanswered, where that changed.

        None before there are weights of the present epoch, and fewer than credit while an old number's answer is
        missing: the window of numbers that the learner's ledger remembers does not move without it.
        """
        flowing = self.phase is Phase.ACTIVE and self._usable()
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
        self.phase = Phase.OFFLINE
        self._hello_at = now + wait_s
        return [*self._permit(), Announce("learner_lost", {"learner": self.learner, "why": why})]

    # what the learner says

    def _message(self, event: MessageArrived, now: float) -> list[Effect]:
        message = event.message
        try:
            if isinstance(message, Snapshot) and self.phase not in (Phase.ACTIVE, Phase.DRAINING):
                return []  # the stream flows on while the link is down
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
        if isinstance(message, Snapshot):
            return message.epoch == self.welcome.epoch
        if isinstance(message, Verdict | Heartbeat | Goodbye):
            return message.session == self.welcome.session
        return True

    def _take(self, message: AnyMessage, event: MessageArrived, now: float) -> list[Effect]:
        if isinstance(message, Verdict):
            return self._verdict(message, now)
        if isinstance(message, Snapshot):
            return self._snapshot(message, event, now)
        if isinstance(message, Heartbeat):
            return self._ask(now) if self._behind(message.version) else []
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
            self.refused += not applied
            booked = replace(sent.parcel, report=None, moments=None)  # whatever became of the gradient itself
            effects.append(Settle(booked, restore=ruling.outcome in RESTORED))
        return effects + self._permit() + self._drained(now)

    def _snapshot(self, snapshot: Snapshot, event: MessageArrived, now: float) -> list[Effect]:
        if self.weights is None or self.welcome is None:
            return []  # the worker has not said yet that its network fits
        outcome = self.weights.apply(snapshot, event.buffers)
        targeted = self._take_target(snapshot, event, outcome == "taken")
        if outcome == "taken":
            self._asked_at = None
        elif not targeted:
            return self._ask(now) if outcome == "gap" else []
        return [*self._adopt(), *self._ask_target(now)]

    def _take_target(self, snapshot: Snapshot, event: MessageArrived, newest: bool) -> bool:
        """Whether this record is the target network's, and a newer one than is held."""
        if self.weights is None or self.target is None or snapshot.target != snapshot.version:
            return False
        if newest:
            self.target.follow(self.weights)
            return True
        return snapshot.record == "key" and self.target.apply(snapshot, event.buffers) == "taken"

    def _adopt(self) -> list[Effect]:
        """Hands over the newest weights, with the newest target network that is here; nothing before there is one."""
        held, target = self.weights, self.target
        if held is None or target is None or not self._usable():
            return []
        network = (target.theta, target.version) if target.held and held.target is not None else (None, None)
        weights = Weights(held.epoch, held.version, held.theta, held.moments, held.env_steps, *network)
        return [Adopt(weights), *self._permit()]

    def _usable(self) -> bool:
        """Whether there are weights to work with, and a target network where the learner keeps one."""
        if self.weights is None or self.target is None or not self.weights.held:
            return False
        return self.weights.target is None or self.target.held

    def _ask_target(self, now: float) -> list[Effect]:
        """Asks for the target network that the newest weights name, if it is not here and not already asked for."""
        if self.weights is None or self.target is None or self.welcome is None or self.weights.target is None:
            return []
        asked_at = self._target_asked_at
        if self.target.held and self.target.version >= self.weights.target:
            self._target_asked_at = None
            return []
        if asked_at is not None and now - asked_at < self.welcome.heartbeat_s:
            return []
        self._target_asked_at = now
        return [Send(SnapshotRequest(self.welcome.session, True))]

    def _behind(self, version: int) -> bool:
        return self.weights is not None and (not self.weights.held or self.weights.version < version)

    def _ask(self, now: float) -> list[Effect]:
        """Asks for the newest weights, unless that is already asked."""
        if self.welcome is None or (self._asked_at is not None and now - self._asked_at < self.welcome.heartbeat_s):
            return []
        self._asked_at = now
        return [Send(SnapshotRequest(self.welcome.session))]

    def _refusal(self, refusal: Refusal, now: float) -> list[Effect]:
        told: Effect = Announce("refused", {"reason": refusal.reason, "detail": refusal.detail})
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
        effects = self._abandon()
        return [told, *effects, *self._lose("the learner said goodbye", now, FIRST_BACKOFF_S)]

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
        self._hold_nothing(self.welcome)
        self._asked_at = self._target_asked_at = None
        return [*self._permit(), *self._ask(now)]

    def _worker_failed(self, event: WorkerFailed, now: float) -> list[Effect]:
        effects: list[Effect] = [Announce("worker_failed", {"detail": event.detail})]
        if self.welcome is not None and self.phase is Phase.ACTIVE:
            effects.append(Send(Goodbye(self.welcome.session, True, event.detail[:500])))
        return effects + self._finish(event.exit_code)

    def _work_done(self, event: WorkDone, now: float) -> list[Effect]:
        work, welcome, outbox = event.work, self.welcome, self.outbox
        if not self._worker_ready or welcome is None or outbox is None:
            return [Settle(work, restore=False)]  # from a worker that another job has replaced
        if self.phase is not Phase.ACTIVE or not outbox.room or work.epoch != welcome.epoch:
            return [Settle(work, restore=True)]  # never sent, so nothing can have been applied
        gradient = Gradient(
            session=welcome.session,
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
        return [Send(gradient, buffers), *self._permit()]

    # time and the end

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        self._env_steps = event.env_steps
        if self.phase in (Phase.OFFLINE, Phase.GREETING):
            return self._dial(now) if now >= self._hello_at else []
        assert self.welcome is not None
        if self.phase is Phase.DRAINING:
            return self._drained(now)
        if now - self._heard_at > self.welcome.silence_s:
            return self._lose("silence", now)
        effects = self._resend(now, self.welcome.silence_s)
        if now - self._beat_at >= self.welcome.heartbeat_s:
            self._beat_at = now
            held = self.weights.version if self.weights is not None else 0
            effects.append(Send(Heartbeat(self.welcome.session, self._env_steps, held)))
            if self._worker_ready and self.weights is not None and not self.weights.held:
                effects += self._ask(now)
            effects += self._ask_target(now)
        return effects

    def _resend(self, now: float, patience_s: float) -> list[Effect]:
        if self.outbox is None:
            return []
        return [Send(sent.message, sent.buffers) for sent in self.outbox.overdue(now, patience_s)]

    def _stop(self, event: StopRequested, now: float) -> list[Effect]:
        if self.phase is not Phase.ACTIVE:  # nobody to part from, or asked for the second time
            return self._finish(0)
        self.phase, self._drain_by = Phase.DRAINING, now + DRAIN_S
        return [*self._permit(), *self._drained(now)]

    def _drained(self, now: float) -> list[Effect]:
        """Once every verdict is here, or for too long was not: goodbye."""
        if self.phase is not Phase.DRAINING or (self.outbox and self.outbox.unanswered and now < self._drain_by):
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
    Started: ActorState._started,
    MessageArrived: ActorState._message,
    FaultArrived: ActorState._fault,
    WorkDone: ActorState._work_done,
    WorkerReady: ActorState._worker_is_ready,
    WorkerFailed: ActorState._worker_failed,
    Ticked: ActorState._ticked,
    StopRequested: ActorState._stop,
}
