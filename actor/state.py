"""Everything an actor decides about its link. Pure and synchronous: events in, effects out; ``now`` is an argument.

It dials until a learner welcomes it, keeps each gradient until its verdict, follows the weight stream, and begins anew
when the learner falls silent or comes back with another life. The worker knows none of this: it sees permits and
weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from actor.events import (
    Adopt,
    Announce,
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
    Share,
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
from actor.link.backoff import FIRST_S, Backoff
from actor.link.drain import Drain
from actor.link.heartbeat import HeartbeatBuilder
from actor.link.in_flight import APPLIED, GradientsInFlight
from actor.link.weights import WeightCache
from actor.stats import LinkStats
from protocol.codecs.registry import CODECS
from protocol.errors import TRY_AGAIN, PeerFault, Reason, SessionFault
from protocol.messages import (
    AnyMessage,
    Evaluation,
    Goodbye,
    Heartbeat,
    Hello,
    Refusal,
    Snapshot,
    Updates,
    Verdict,
    Welcome,
)
from protocol.session import ACTOR_HEARS, Phase, follow
from protocol.snapshot import Outcome, Reconstruction


class ActorState:
    """The actor's memory of its link; ``handle`` is the only way in."""

    def __init__(self, identity: Identity, learner: str, random: Random, give_up_after_s: float = math.inf) -> None:
        self.identity, self.learner = identity, learner
        self.phase = Phase.OFFLINE
        self.welcome: Welcome | None = None  # the session in force
        self.gradients = GradientsInFlight()
        self.weight_cache: WeightCache | None = None  # once the worker's network is known to fit
        self.backoff = Backoff(random, give_up_after_s)
        self.drain = Drain()
        self._may_hurry = False  # once for each lost link, sooner where weights still come
        self._heard_at = 0.0
        self._heartbeats = HeartbeatBuilder()
        self._permitted = 0  # what the worker was last told
        self._share = 0.0  # likewise

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about ``event``. The only code that changes this state."""
        return [] if self.phase is Phase.CLOSED else _HANDLERS[type(event)](self, event, now)

    def validate(self) -> None:
        """Asserts what holds between any two events; for tests, which call it after each."""
        in_session = self.phase in (Phase.ACTIVE, Phase.DRAINING)
        assert not in_session or self.welcome is not None, f"{self.phase.value} without a welcome"
        assert not in_session or self.backoff.since is None, "it waits for a learner while it has a session"
        assert self.phase is not Phase.GREETING or self.backoff.since is not None, "it greets and waits for nobody"
        if self.welcome is None:
            assert self.gradients.outbox is None, "there is an outbox without a session"
            assert self.weight_cache is None, "there are weights without a session"
            assert self.gradients.sent == 0, "gradients were sent without a session"
        else:
            self.gradients.validate(self.welcome.session, self.welcome.epoch)
        assert self._trains or self.gradients.sent == 0, "an actor that only plays sent a gradient"
        ending = self.phase in (Phase.DRAINING, Phase.CLOSED)
        if self.weight_cache is not None:  # what was held back is sent without a permit
            self.weight_cache.validate(self.gradients.most_credit + ending)
        assert ending or not self.drain.awaits_worker, "the worker was asked to leave while the actor goes on"
        assert ending or self.drain.held_back is None, "what a leaving worker held back waits while the actor goes on"
        if self.phase is not Phase.CLOSED:
            assert self._permitted == self._allowed(), f"{self._permitted} permits, and {self._allowed()} are allowed"

    def stats(self) -> LinkStats:
        """What metrics show of the link."""
        gradients, cache = self.gradients, self.weight_cache
        return LinkStats(
            sent=gradients.sent,
            applied=gradients.applied,
            refused=gradients.refused,
            lost=gradients.lost,
            unlogged=gradients.unlogged,
            unanswered=gradients.unanswered,
            credit=gradients.credit,
            unreflected=0 if cache is None else cache.unreflected,
            weights_version=self._weights_version,
            round_trip_s=self._heartbeats.round_trip_s,
            connected=self.phase in (Phase.ACTIVE, Phase.DRAINING),
            run="" if self.welcome is None else self.welcome.run,
        )

    # finding a learner

    def _dial(self, now: float) -> list[Effect]:
        self.phase = Phase.GREETING
        self.backoff.record_hello(now)
        hello = Hello(self.identity.name, self.identity.instance, tuple(CODECS), self.identity.role)
        effects: list[Effect] = [Dial(), Send(hello)]
        if self.backoff.should_log(now):
            effects.append(Announce("waiting_for_learner", {"learner": self.learner, **self.backoff.log_fields(now)}))
        return effects

    def _welcomed(self, welcome: Welcome, now: float) -> list[Effect]:
        if welcome.instance != self.identity.instance:
            raise SessionFault(Reason.UNEXPECTED_MESSAGE, "a welcome for another actor")
        if self.phase is Phase.ACTIVE and self._is_outdated(welcome):
            return []
        if self.weight_cache is not None:
            self.weight_cache.forget_requests(silent=self.phase is Phase.GREETING)
        self.phase = Phase.ACTIVE
        self.backoff.end()
        before = self.welcome
        if before is not None and welcome.session == before.session:
            resent = self.gradients.resend(now, patience_s=0.0)
            told = [*self._tell_share(welcome.share), *self._permit()]
            return [self._heartbeat(before, now), *told, *resent, *self._request_what_lacks(now)]
        self.welcome = welcome
        # before a report, whose episodes may have begun in another session
        effects = [*self.gradients.abandon(), *([] if before is None else [self._heartbeat(welcome, now)])]
        self.gradients.open_session(welcome.session, welcome.credit)
        if self._trains:
            effects.append(Subscribe(welcome.weights, welcome.quantity))
        if before is None or _job(before) != _job(welcome):
            self.weight_cache = None
            effects.append(Configure(welcome))
        elif self.weight_cache is not None:
            self.weight_cache = WeightCache(welcome, self._trains)  # weights of another life count for nothing
        effects += [*self._tell_share(welcome.share), *self._permit()]
        effects.append(Announce("welcomed", {"run": welcome.run, "epoch": welcome.epoch, "ordinal": welcome.ordinal}))
        return effects + self._request(now)

    @property
    def weights(self) -> Reconstruction | None:
        """The newest θ that is here; None before the worker's network is known to fit."""
        return None if self.weight_cache is None else self.weight_cache.newest

    @property
    def _weights_version(self) -> int:
        return 0 if self.weight_cache is None else self.weight_cache.newest.version

    @property
    def _trains(self) -> bool:
        return self.identity.role == "train"

    def _is_outdated(self, welcome: Welcome) -> bool:
        """Whether it comes from an earlier life of the learner than the one that is talking to us."""
        held = self.welcome
        return held is not None and welcome.run == held.run and welcome.epoch < held.epoch

    def _allowed(self) -> int:
        """How many gradients may be unanswered.

        None without weights of the present epoch and while they show too little of what was applied, and fewer than
        credit while an old answer is missing: the window of numbers that the ledger remembers does not move without it.
        """
        cache = self.weight_cache
        shown = cache is not None and cache.usable and not cache.too_far_behind
        flowing = self._trains and self.phase is Phase.ACTIVE and shown
        return self.gradients.unanswered + self.gradients.room if flowing else 0

    def _permit(self) -> list[Effect]:
        """Tells the worker how many gradients may be unanswered, where that changed."""
        allowed = self._allowed()
        if allowed == self._permitted:
            return []
        self._permitted = allowed
        return [Permit(allowed)]

    def _tell_share(self, share: float) -> list[Effect]:
        """Tells the worker which part of all steps is its own, where that changed."""
        if share == self._share:
            return []
        self._share = share
        return [Share(share)]

    def _lose(self, why: str, now: float, wait_s: float = 0.0) -> list[Effect]:
        """The link is gone; what is unanswered waits for the next welcome, which may be of the same session."""
        self.phase, self._may_hurry = Phase.OFFLINE, True
        self.backoff.start(now, wait_s)
        return [*self._permit(), Announce("learner_lost", {"learner": self.learner, "why": why})]

    # what the learner says

    def _message(self, event: MessageArrived, now: float) -> list[Effect]:
        message = event.message
        try:
            streams = isinstance(message, Snapshot | Updates) and self.phase is Phase.GREETING
            if streams and self._may_hurry:  # it flows on meanwhile, so there is somebody to answer a hello
                self._may_hurry = False
                self.backoff.hurry(now)
            if self.phase is Phase.OFFLINE or streams:
                return []  # the former from a link that was given up
            follow(ACTOR_HEARS, self.phase, message)
            if not self._is_current(message):
                return []
            self._heard_at = now
            return self._dispatch(message, event, now)
        except PeerFault as fault:
            return self._fault(FaultArrived(fault), now)

    def _is_current(self, message: AnyMessage) -> bool:
        """Fences off what an earlier session or another life of the learner still had under way."""
        if self.welcome is None:
            return True
        if isinstance(message, Snapshot | Updates):
            return message.epoch == self.welcome.epoch
        if isinstance(message, Verdict | Heartbeat | Goodbye):
            return message.session == self.welcome.session
        return True

    def _dispatch(self, message: AnyMessage, event: MessageArrived, now: float) -> list[Effect]:
        if isinstance(message, Verdict):
            return self._verdict(message, now)
        if isinstance(message, Snapshot | Updates):
            return self._record(message, event, now)
        if isinstance(message, Heartbeat):
            behind = self.weight_cache is not None and self.weight_cache.lacks_published(message.version)
            return [*self._tell_share(message.share), *(self._request(now) if behind else [])]
        if isinstance(message, Welcome):
            return self._welcomed(message, now)
        if isinstance(message, Refusal):
            return self._refusal(message, now)
        assert isinstance(message, Goodbye)
        return self._goodbye(message, now)

    def _verdict(self, verdict: Verdict, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for ruling, settle in self.gradients.settle(verdict, now):
            if ruling.outcome == APPLIED and self.weight_cache is not None:
                self.weight_cache.record_applied(ruling.version)
            if settle.feedback is not None and settle.feedback.round_trip_s is not None:
                self._heartbeats.record_round_trip(settle.feedback.round_trip_s)
            effects.append(settle)
        return [*effects, *self._permit(), *self._send_held_back(now), *self._end_drain(now)]

    def _record(self, record: Snapshot | Updates, event: MessageArrived, now: float) -> list[Effect]:
        """Applies one record, and hands its weights on unless another is already here."""
        cache = self.weight_cache
        if cache is None:
            return []  # the worker has not said yet that its network fits
        effects: list[Effect] = []
        outcome: Outcome | None = None
        try:
            outcome = cache.apply_record(record, event.buffers)
        except PeerFault as fault:
            effects = self._fault(FaultArrived(fault), now)
        if outcome == "diverged":
            effects.append(Announce("diverged", {"version": record.version}))
        if outcome in ("gap", "diverged"):
            effects += self._request(now)
        weights = None if event.followed else cache.next_for_worker()
        if weights is not None:
            effects.append(Adopt(weights))
        return [*effects, *self._permit(), *cache.request_target(now)]

    def _request(self, now: float) -> list[Effect]:
        return [] if self.weight_cache is None else self.weight_cache.request(now)

    def _request_what_lacks(self, now: float) -> list[Effect]:
        return [] if self.weight_cache is None else self.weight_cache.request_what_lacks(now)

    def _refusal(self, refusal: Refusal, now: float) -> list[Effect]:
        line: Effect = Announce("refused", self.backoff.record_refusal(refusal.reason, refusal.detail))
        if refusal.reason == Reason.WRONG_PROTOCOL:
            return [line, *self._finish(2)]
        if refusal.reason == Reason.UNKNOWN_SESSION and self.phase is not Phase.GREETING:
            effects = self.gradients.abandon()
            if self.phase is Phase.DRAINING:
                return [line, *effects, *self._finish(0)]
            return [line, *effects, *self._lose("the learner does not know this session", now)]
        return [line]

    def _goodbye(self, goodbye: Goodbye, now: float) -> list[Effect]:
        line: Effect = Announce("dismissed", {"why": goodbye.detail})
        if goodbye.final or self.phase is Phase.DRAINING:
            return [line, *self.gradients.abandon(), *self._finish(0)]
        return [line, *self.gradients.abandon(), *self._lose("the learner said goodbye", now, FIRST_S)]

    def _fault(self, event: FaultArrived, now: float) -> list[Effect]:
        line: Effect = Announce("fault", {"reason": str(event.fault.reason), "detail": event.fault.detail})
        if event.fault.reason is Reason.WRONG_PROTOCOL and self.phase is Phase.GREETING:
            return [line, *self._finish(2)]  # a learner of another version refuses in its own
        return [line]

    # what the worker says

    def _worker_is_ready(self, event: WorkerReady, now: float) -> list[Effect]:
        if self.welcome is None:
            return []
        self.weight_cache = WeightCache(self.welcome, self._trains)
        return [*self._permit(), *self._request(now)]

    def _worker_failed(self, event: WorkerFailed, now: float) -> list[Effect]:
        effects: list[Effect] = [Announce("worker_failed", {"detail": event.detail, "traceback": event.trace})]
        if self.welcome is not None and self.phase in (Phase.ACTIVE, Phase.DRAINING):
            effects.append(Send(Goodbye(self.welcome.session, True, event.detail[:500])))
        return effects + self._finish(event.exit_code)

    def _evaluated(self, event: EvaluationDone, now: float) -> list[Effect]:
        """Sends the score of weights that this session handed out, and asks for the next ones to play with."""
        cache, welcome = self.weight_cache, self.welcome
        if cache is None or welcome is None or self.phase is Phase.DRAINING:
            return []
        held = cache.newest
        if not held.held or held.version != event.version or event.epoch not in (None, held.epoch):
            return []  # newer weights came meanwhile, and with them another evaluation began
        cache.require_next()
        if self.phase is not Phase.ACTIVE:
            return []
        evaluation = Evaluation(
            session=welcome.session,
            version=event.version,
            episodes=event.episodes,
            mean=event.mean,
            std=event.std,
            ci95=event.ci95,
            seed=event.seed,
        )
        return [Send(evaluation), *self._request(now)]

    def _weights_wanted(self, event: WeightsWanted, now: float) -> list[Effect]:
        if self.weight_cache is None or self.phase is Phase.DRAINING:
            return []
        self.weight_cache.require_next()
        return self._request(now) if self.phase is Phase.ACTIVE else []

    def _work_done(self, event: WorkDone, now: float) -> list[Effect]:
        work, welcome = event.work, self.welcome
        if not self._trains or self.weight_cache is None or welcome is None:
            return [Settle(work, restore=False)]  # from a worker that another job has replaced
        sends = self.phase is Phase.ACTIVE or self.drain.awaits_worker  # it may have been under way when the stop came
        if not sends or not self.gradients.room or work.epoch != welcome.epoch:
            return [Settle(work, restore=True)]  # never sent, so nothing can have been applied
        return [self._send_gradient(work, now), *self._permit()]

    def _send_gradient(self, work: Work, now: float) -> Effect:
        self._heartbeats.count_gradient()
        return self.gradients.send(work, now)

    def _last_work_done(self, event: LastWorkDone, now: float) -> list[Effect]:
        self.drain.receive(event.work)
        return [*self._send_held_back(now), *self._end_drain(now)]

    def _send_held_back(self, now: float) -> list[Effect]:
        """Sends what a leaving worker held back, once there is room."""
        work, welcome = self.drain.held_back, self.welcome
        if work is None or welcome is None or not self.gradients.room:
            return []
        self.drain.held_back = None
        if self.phase is not Phase.DRAINING or work.epoch != welcome.epoch:
            return [Settle(work, restore=False)]
        return [self._send_gradient(work, now)]

    # time and the end

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        self._heartbeats.worker = event.worker
        if self.phase in (Phase.OFFLINE, Phase.GREETING):
            if self.backoff.is_over(now):
                fields = {"learner": self.learner, **self.backoff.log_fields(now)}
                return [Announce("gave_up", fields), *self._finish(TRY_AGAIN)]
            return self._dial(now) if now >= self.backoff.hello_at else []
        assert self.welcome is not None
        if self.phase is Phase.DRAINING:
            return self._end_drain(now)
        if now - self._heard_at > (self.welcome if self.weight_cache is None else self.weight_cache).silence_s:
            return self._lose("silence", now)
        effects: list[Effect] = [*self.gradients.resend(now, self.welcome.silence_s)]
        if self._heartbeats.is_due(now, self.welcome.heartbeat_s):
            effects += [self._heartbeat(self.welcome, now), *self._request_what_lacks(now)]
        return effects

    def _heartbeat(self, welcome: Welcome, now: float) -> Effect:
        return Send(self._heartbeats.build(now, welcome.session, self._weights_version))

    def _stop(self, event: StopRequested, now: float) -> list[Effect]:
        if self.phase is not Phase.ACTIVE:  # nobody to part from, or asked for the second time
            return self._finish(0)
        may_work = self._trains and self.weight_cache is not None and self.weight_cache.usable
        self.phase = Phase.DRAINING
        self.drain.start(now, awaits_worker=may_work)
        return [*self._permit(), *([Leave()] if may_work else ()), *self._end_drain(now)]

    def _end_drain(self, now: float) -> list[Effect]:
        """Once every verdict is here, or for too long was not: goodbye."""
        if self.phase is not Phase.DRAINING or not self.drain.is_over(now, self.gradients.unanswered):
            return []
        assert self.welcome is not None
        goodbye = Send(Goodbye(self.welcome.session, True, "the actor was asked to stop"))
        return [goodbye, *self.gradients.abandon(), *self._finish(0)]

    def _finish(self, exit_code: int) -> list[Effect]:
        self.phase = Phase.CLOSED
        return [Finish(exit_code)]


def _job(welcome: Welcome) -> tuple[object, ...]:
    """What a worker is built from: with the same of these it can go on after the learner came back."""
    rates = (welcome.learning_rate, welcome.annealing)  # a run may go on with others
    return (welcome.run, welcome.seed, welcome.quantity, welcome.layout.digest, welcome.table_digest, *rates)


_HANDLERS: dict[type[Any], Callable[[ActorState, Any, float], list[Effect]]] = {
    Started: lambda state, _, now: state._dial(now),
    MessageArrived: ActorState._message,
    FaultArrived: ActorState._fault,
    WorkDone: ActorState._work_done,
    LastWorkDone: ActorState._last_work_done,
    EvaluationDone: ActorState._evaluated,
    WeightsWanted: ActorState._weights_wanted,
    WorkerReady: ActorState._worker_is_ready,
    WorkerFailed: ActorState._worker_failed,
    Ticked: ActorState._ticked,
    StopRequested: ActorState._stop,
}
