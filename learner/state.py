"""Everything the learner decides. Pure and synchronous: events in, effects out; ``now`` is an argument.

The story of one gradient: it is heard (session, sequence, credit), admitted (what its header claims), judged by age,
and waits in the queue until the math thread is idle; then all that wait go as one batch. While that is applied more
gather: under load batches grow and the cost of each gradient falls. The outcome becomes a verdict, θ's new version a
snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from learner.admission.control import AdmissionControl
from learner.admission.credit import first, grant
from learner.admission.notices import Notices
from learner.admission.queue import FairQueue, GroupPolicy
from learner.admission.reports import Reports
from learner.admission.sessions import Sessions
from learner.config import Experiment
from learner.durability.checkpoint_schedule import CheckpointSchedule
from learner.events import (
    APPLIED,
    ApplyBatch,
    BatchApplied,
    BestFailed,
    BestWritten,
    CheckpointFailed,
    CheckpointWritten,
    Effect,
    Event,
    FaultArrived,
    Finish,
    Job,
    JournalBegan,
    KeyFrame,
    KeysRevoked,
    MessageArrived,
    MessageSent,
    Send,
    StopRequested,
    Ticked,
)
from learner.progress import Progress, learning_rate
from learner.shutdown import Shutdown, Stage
from learner.stream.best import BestCheckpoint, why_lost
from learner.stream.publisher import Publisher
from protocol.errors import STALE, TRY_AGAIN, Reason, SessionFault
from protocol.manifest import Manifest
from protocol.messages import (
    AnyMessage,
    Evaluation,
    Gradient,
    Heartbeat,
    Hello,
    Refusal,
    Ruling,
    SnapshotRequest,
)
from protocol.session import HEARD_FROM_ANY, SPAN, Peer, Phase, Seen, follow

BATCH_LIMIT = 256  # gradients in one batch, so that a verdict never waits for a whole fleet's work


@dataclass(frozen=True, slots=True)
class Address:
    """Where this life of the learner can be reached. epoch: counts the run's lives. weights: as in a welcome."""

    epoch: int
    weights: str


class LearnerState:
    """The learner's memory and its judgement; ``handle`` is the only way in."""

    def __init__(
        self,
        experiment: Experiment,
        manifest: Manifest,
        address: Address,
        key: KeyFrame,
        progress: Progress,
        random: Random,
        now: float,
    ) -> None:
        self.experiment, self.settings, self.manifest = experiment, experiment.learner, manifest
        self.address, self.progress = address, progress
        self.sessions = Sessions(self.settings, manifest, address.epoch, address.weights, progress, random)
        self.best = BestCheckpoint(progress)  # for the best evaluated θ
        self.reports = Reports(progress)
        self.notices = Notices()
        asked = self.settings
        group = asked.group
        gather = GroupPolicy(group.aggregate_window, group.aggregate_wait_s, group.least_senders) if group else None
        self.admission = AdmissionControl(self.settings, manifest.layout.length)
        self.queue = FairQueue(gather, self.admission.is_quarantined, whole=asked.quantity == "gradient")
        self.busy = False  # a batch is with the math thread
        self.training_since: float | None = None  # when the first actor of this life was handed weights to step with
        self.saving = CheckpointSchedule(self.settings, progress, now)
        self.shutdown = Shutdown(experiment.run, self.settings.drain_s, self.saving)
        self.publisher = Publisher(self.settings, key, self.best, progress.env_steps, now)
        self._beat_at = self._ticked_at = now

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about ``event``. The only code that changes this state."""
        if isinstance(event, MessageSent):  # also of the last goodbyes
            self.progress.sent(event.message, event.wire_bytes)
            return []
        if self.shutdown.over:
            return []
        return self.notices.bounded(_HANDLERS[type(event)](self, event, now), now)

    def validate(self, sessions: Collection[int] | None = None) -> None:
        """What holds after every event. Raises AssertionError, which names what does not.

        sessions: whose books are looked at; None: all, and whether they agree with each other.
        """
        waiting, most = self.queue.waiting(), max(self.settings.credit, self.settings.most_credit)
        if sessions is None:
            self.sessions.validate()
        for peer in self.peers.values() if sessions is None else map(self.peers.__getitem__, sessions):
            ledger, waits = peer.ledger, waiting[peer.session]
            assert waits <= most, f"{waits} gradients of {peer.name} wait, {most} are granted"
            assert len(ledger.pending) <= most, f"{len(ledger.pending)} of {peer.name} are unanswered, of {most}"
            assert len(ledger.rulings) <= 2 * SPAN * most, f"{len(ledger.rulings)} answers to {peer.name} are kept"
            assert not ledger.pending & ledger.rulings.keys(), f"a gradient of {peer.name} is answered and waits"
        told, updates = self.publisher.version, self.progress.version
        assert told <= updates, f"version {told} was published, θ is at {updates}"

    # what peers say

    def _message(self, event: MessageArrived, now: float) -> list[Effect]:
        self.progress.received_bytes += event.wire_bytes
        message = event.message
        try:
            if isinstance(message, Hello):
                return self._hello(message, event, now)
            if isinstance(message, Refusal):  # never answered with a refusal (WIRE.md, section 3)
                self.progress.faults[Reason.UNEXPECTED_MESSAGE] += 1
                return []
            peer = self._peer(message, event, now)
            if isinstance(message, Gradient):
                return self._gradient(message, event, peer, now)
            if isinstance(message, SnapshotRequest):
                return self._snapshot_request(message, peer, now)
            if isinstance(message, Heartbeat):
                return self._heartbeat(message, peer, now)
            if isinstance(message, Evaluation):
                return self.best.score(message, peer, now)
            return self._forget(peer, "left")
        except SessionFault as fault:
            return self._fault(FaultArrived(event.route, fault, 0), now)

    def _peer(self, message: AnyMessage, event: MessageArrived, now: float) -> Peer:
        """The session that a message names, which thereby gave a sign of life."""
        follow(HEARD_FROM_ANY, Phase.ACTIVE, message)  # a kind that only a learner sends names no session at all
        peer = self.peers.get(getattr(message, "session", 0))
        if peer is None or peer.public_key != event.public_key:
            raise SessionFault(Reason.UNKNOWN_SESSION, "no such session in this life of the learner; say hello")
        peer.receive(message, event.route, now)
        peer.received_bytes += event.wire_bytes
        return peer

    def _fault(self, event: FaultArrived, now: float) -> list[Effect]:
        self.progress.received_bytes += event.wire_bytes
        self.progress.faults[event.fault.reason] += 1
        return [Send(event.route, Refusal(event.fault.reason, event.fault.detail))]

    def _revoked(self, event: KeysRevoked, now: float) -> list[Effect]:
        gone = [peer for peer in self.peers.values() if peer.role in event.lost.get(peer.public_key, ())]
        self.queue.drop({peer.session for peer in gone})
        effects = [
            effect for peer in gone for effect in self._forget(peer, why_lost(peer.role, event.lost[peer.public_key]))
        ]
        return effects + self.best.revoke(event.lost)

    def _hello(self, hello: Hello, event: MessageArrived, now: float) -> list[Effect]:
        if not self.shutdown.running:
            raise SessionFault(Reason.DRAINING, "the learner is stopping")
        peer, new, yielding = self.sessions.open(hello, event.route, event.public_key, now, event.roles)
        effects = [effect for other, why in yielding for effect in self._forget(other, why)]
        effects.append(Send(event.route, self.sessions.welcome(peer, local=event.local)))
        return [*effects, self.sessions.joined(peer)] if new else effects

    @property
    def peers(self) -> dict[int, Peer]:
        """Everybody who has a session."""
        return self.sessions.peers

    def _snapshot_request(self, request: SnapshotRequest, peer: Peer, now: float) -> list[Effect]:
        if peer.trains and self.training_since is None:
            self.training_since = now
        answered = self.publisher.answer(request, peer, self.progress.version)
        return answered or self._next_batch(now)

    def _heartbeat(self, beat: Heartbeat, peer: Peer, now: float) -> list[Effect]:
        told = self.sessions.record_heartbeat(peer, beat, now)
        peer.life_steps = max(peer.life_steps, beat.progress)
        if peer.trains:
            training = self.sessions.training
            if self.settings.group is None:
                peer.credit = grant(peer.credit, beat.round_trip_s, beat.work_s, training, self.settings)
            else:
                peer.credit = first(training, self.settings)  # who waits for a group is not far: more would be late
            self.publisher.record_heartbeat(peer, beat.round_trip_s, training, now)
        return told

    # one gradient

    def _gradient(self, gradient: Gradient, event: MessageArrived, peer: Peer, now: float) -> list[Effect]:
        self.progress.received(gradient.codec, event.wire_bytes)
        reason = self.admission.check_rate(peer, event.wire_bytes, now)  # also for what was seen before
        try:
            seen = peer.ledger.classify(gradient.sequence)
        except SessionFault as fault:
            return self._out_of_order(gradient, fault, peer, now)
        if seen is Seen.PENDING:
            return []
        if seen is Seen.ANSWERED:
            ruling = peer.ledger.rulings[gradient.sequence]
            return [Send(peer.route, peer.verdict([ruling], unlogged=self._unlogged))]
        return self._new_gradient(gradient, event, peer, reason, now)

    def _out_of_order(self, gradient: Gradient, fault: SessionFault, peer: Peer, now: float) -> list[Effect]:
        """Answers a number that no honest actor uses. An overdrawn one keeps this answer if it comes again."""
        ruling = Ruling(gradient.sequence, fault.reason, self.progress.version, 0.0)
        if fault.reason is Reason.OVERDRAWN:
            most = len(peer.ledger.pending) >= peer.ledger.credit  # which nobody was ever granted
            struck = self.admission.record_outcome(peer.sender, peer.name, fault.reason, now) if most else []
            return [*struck, *self._rule_on(peer, [ruling])]
        self.progress.rulings[fault.reason] += 1
        return [Send(peer.route, peer.verdict([ruling], unlogged=self._unlogged))]

    def _new_gradient(
        self, gradient: Gradient, event: MessageArrived, peer: Peer, reason: Reason | None, now: float
    ) -> list[Effect]:
        began = self.reports.collected_from(gradient, peer, self.publisher.published.env_steps_at)
        report, effects = (None, []) if reason is Reason.QUARANTINED else self.reports.receive(gradient, peer, now)
        if report is not None:
            self.sessions.shares.record(peer.session, report.env_steps, now)
        lag_s = self.publisher.published.lag_s(gradient.base_version, now)
        reason = reason or self._turned_away(gradient, lag_s)
        if reason is not None:
            self.reports.count(report, reason, began)
            ruling = Ruling(gradient.sequence, reason, self.progress.version, 0.0)
            effects += self.admission.record_outcome(peer.sender, peer.name, reason, now)
            effects += [*self._rule_on(peer, [ruling]), *self.shutdown.check_limit(self.progress, now)]
            return effects + self._drained(now)
        moments = (report.observations, event.buffers[1]) if report and report.observations else None
        job = Job(
            session=peer.session,
            sequence=gradient.sequence,
            base_version=gradient.base_version,
            codec=gradient.codec,
            length=gradient.length,
            count=gradient.count,
            buffer=event.buffers[0],
            moments=moments,
            lag_s=lag_s,
            sender=peer.sender,
            arrived=now,
            report=report,
            collected_from=None if report is None else began,
        )
        self.queue.add(peer.sender, job, now)
        return [*effects, *self._next_batch(now)]

    def _turned_away(self, gradient: Gradient, lag_s: float) -> Reason | None:
        """Why a gradient is dropped on arrival, before anything is decoded; None if it may wait for its batch."""
        if not self.shutdown.running:
            return Reason.DRAINING
        reason = self.admission.check_header(gradient, self.progress.version, lag_s)
        if reason in STALE:
            self.progress.record_lag(self.progress.version - gradient.base_version, lag_s)
        return reason

    def _next_batch(self, now: float, *, ticked: bool = False) -> list[Effect]:
        """Hands all that waits to the math thread, if it is idle; with nothing but a record or a key to make, that.

        ticked: a record that a burst left unpublished is reason enough.
        """
        if self.busy:
            return []
        waiting = (self._present(now), now)
        hurry = not self.shutdown.running
        ready = self.queue.ready(*waiting, hurry=hurry)
        news = self.progress.version + ready > self.publisher.version
        listening = self.sessions.training > 0
        above, key = self.publisher.plan(news, listening, self.progress.env_steps, now)
        allowance = self.publisher.budget
        budget = (allowance.available(now), allowance.affords_key_frame(now))
        if not (ready or key or (ticked and above is not None)):
            return []
        self.busy = True
        jobs = self.queue.next_batch(BATCH_LIMIT, *waiting, hurry=hurry)
        rate = learning_rate(self.settings, self.progress.env_steps)
        counters = self.progress.saved() if self.saving.journaled else {}
        return [ApplyBatch(jobs, rate, above, key, *budget, counters)]

    def _present(self, now: float) -> int:
        """Senders that train and are listened to: a group waits for them, and nothing else asks."""
        senders = self.sessions.senders if self.settings.group is not None else ()
        return sum(not self.admission.is_quarantined(sender, now) for sender in senders)

    def _batch_applied(self, event: BatchApplied, now: float) -> list[Effect]:
        self.busy = False
        told = self.saving.record_batch(event)  # first, for verdicts say it
        if event.unlogged is not None and self.saving.stops:
            self.shutdown.abort(TRY_AGAIN)
            return [*told, *self._end()]  # nobody hears of this batch: its gradients stay unanswered
        self.progress.advance(event.version, event.math_s, now)
        self.progress.snapshots += event.record is not None
        self.progress.noise = event.noise
        effects = self.publisher.publish(event, self.sessions.training, self.progress.env_steps, now)
        verdicts = self._verdicts(event, now)
        # Whoever waits for a permit should go on with the newest weights. With local steps his own updates are in his
        # already, and where the stream's show them before he knows that he would use them twice.
        effects = verdicts + effects if self.settings.quantity == "update" else effects + verdicts
        if any(outcome.outcome == APPLIED for outcome in event.outcomes):
            effects += self.shutdown.check_target(self.progress, now)
        effects += self.shutdown.check_limit(self.progress, now)
        effects += self._next_batch(now)
        return told + effects + self._drained(now)

    def _verdicts(self, event: BatchApplied, now: float) -> list[Effect]:
        """One verdict for each peer of the batch."""
        rulings: dict[int, list[Ruling]] = {}
        effects: list[Effect] = []
        for outcome in event.outcomes:
            if outcome.outcome != APPLIED:
                peer = self.peers.get(outcome.session)
                name = "one that left" if peer is None else peer.name
                effects += self.admission.record_outcome(outcome.sender, name, outcome.outcome, now)
            else:
                self.progress.record_applied(outcome.report, outcome.collected_from)
            self.reports.count(outcome.report, outcome.outcome, outcome.collected_from)
            self.progress.record_lag(outcome.lag_updates, outcome.lag_s)
            self.progress.waits.observe(now - outcome.arrived)
            ruling = Ruling(outcome.sequence, outcome.outcome, outcome.version, outcome.scale)
            rulings.setdefault(outcome.session, []).append(ruling)
        for session, ruled in rulings.items():
            effects += self._rule_on(self.peers.get(session), ruled)
        return effects

    def _rule_on(self, peer: Peer | None, rulings: Sequence[Ruling]) -> list[Effect]:
        """Books rulings and answers them. A peer that left while it was judged gets no answer; the count stays true."""
        for ruling in rulings:
            self.progress.rulings[ruling.outcome] += 1
        if peer is None:
            return []
        return [Send(peer.route, peer.settle(rulings, unlogged=self._unlogged))]

    @property
    def _unlogged(self) -> bool:
        """What verdicts say of the journal."""
        return self.saving.journal_failure is not None

    # time, disk, the end

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        effects = [*self.admission.tick(now), *self.queue.tick(self._present(now), now), *self.notices.tick(now)]
        stalled_s, self._ticked_at = now - self._ticked_at, now
        if stalled_s > self.settings.heartbeat_s:
            self.sessions.extend_deadlines(stalled_s, now)
        for peer in self.sessions.silent(now):
            self.progress.sessions_lost += peer.trains
            effects += self._forget(peer, "silent")
        if now - self._beat_at >= self.settings.heartbeat_s:
            self._beat_at = now
            self.sessions.shares.tick(now)
            effects += self.sessions.heartbeats(self.publisher.version)
        else:
            effects += self.sessions.heartbeats(self.publisher.version, changed=True)
        if self.shutdown.running and self.saving.due(now):
            effects += self.saving.order(now)
        effects += self._next_batch(now, ticked=True)
        return effects + self._drained(now)

    def _checkpoint_written(self, event: CheckpointWritten, now: float) -> list[Effect]:
        return [*self.saving.written(event, now), *self._drained(now)]

    def _checkpoint_failed(self, event: CheckpointFailed, now: float) -> list[Effect]:
        self.shutdown.checkpoint_failed()
        return [*self.saving.failed(event, now), *self._drained(now)]

    def _best_saved(self, event: BestWritten | BestFailed, now: float) -> list[Effect]:
        return [*self.best.written(event), *self._drained(now)]

    def _forget(self, peer: Peer, why: str) -> list[Effect]:
        """Ends a session; what waits of it is still applied, for it was admitted."""
        peer.phase = Phase.CLOSED
        self.sessions.close(peer)
        self.admission.forget(peer)
        self.best.forget(peer.session)
        self.publisher.forget(peer.session)
        return [self.sessions.left(peer, why)]

    def _stop(self, event: StopRequested, now: float) -> list[Effect]:
        return [*self.shutdown.begin(event.detail, event.exit_code, now), *self._drained(now)]

    def _drained(self, now: float) -> list[Effect]:
        """The last steps, each once the one before is done: the batches, a checkpoint, the goodbyes, the end."""
        shutdown = self.shutdown
        if shutdown.stage is not Stage.DRAINING:
            return []
        effects: list[Effect] = []
        if shutdown.late(now) or not (self.busy or self.queue.ready(self._present(now), now, hurry=True)):
            effects += self._send_home(self.queue.drain())
        effects += shutdown.advance(now, applying=self.busy, waiting=bool(self.queue), writing=bool(self.best.writing))
        return [*effects, *self._end()] if shutdown.over else effects

    def _end(self) -> list[Effect]:
        """The goodbyes, and no further word."""
        return [*self.sessions.goodbyes(self.shutdown.final), Finish(self.shutdown.exit_code)]

    def _send_home(self, jobs: Sequence[Job]) -> list[Effect]:
        """What no group comes together for any more."""
        effects: list[Effect] = []
        for job in jobs:
            self.reports.count(job.report, Reason.DRAINING, job.collected_from)
            ruling = Ruling(job.sequence, Reason.DRAINING, self.progress.version, 0.0)
            effects += self._rule_on(self.peers.get(job.session), [ruling])
        return effects


_HANDLERS: dict[type[Any], Callable[[LearnerState, Any, float], list[Effect]]] = {
    MessageArrived: LearnerState._message,
    FaultArrived: LearnerState._fault,
    KeysRevoked: LearnerState._revoked,
    BatchApplied: LearnerState._batch_applied,
    CheckpointWritten: LearnerState._checkpoint_written,
    CheckpointFailed: LearnerState._checkpoint_failed,
    JournalBegan: lambda state, *_: state.saving.journal_began(),
    BestWritten: LearnerState._best_saved,
    BestFailed: LearnerState._best_saved,
    Ticked: LearnerState._ticked,
    StopRequested: LearnerState._stop,
}
