"""What the learner decides, one behaviour at a time: events in, effects out, with the real θ where one is needed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
import pytest

from learner.admission.sessions import MAX_EVALUATORS
from learner.apply_batch import apply_batch
from learner.config import Experiment, RunSettings, learner_settings
from learner.durability.checkpoint_schedule import SAVE_S, STOPS
from learner.events import (
    Announce,
    ApplyBatch,
    BestFailed,
    BestWritten,
    CheckpointFailed,
    CheckpointWritten,
    Effect,
    Event,
    FaultArrived,
    Finish,
    JournalBegan,
    KeysRevoked,
    LeadBest,
    MessageArrived,
    Publish,
    Send,
    StopRequested,
    Ticked,
    WriteBest,
    WriteCheckpoint,
)
from learner.monitoring.scaling import scaling
from learner.monitoring.summary import summarize
from learner.optim.norms import make_norm_check
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import age_rule
from learner.progress import Best, Progress
from learner.shutdown import Stage
from learner.state import BATCH_LIMIT, Address, LearnerState
from learner.stream.writer import StreamWriter
from protocol.codecs.registry import Sparse, codec
from protocol.errors import FrameFault, Reason
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.messages import (
    ROLES,
    Episode,
    Evaluation,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    Report,
    Role,
    Ruling,
    Snapshot,
    SnapshotRequest,
    Updates,
    Verdict,
    Welcome,
    decode,
    encode,
)

P = 4
EPOCH = 3
A, B = b"route a", b"route b"
TABLE = b"\x80"
LAYOUT = Layout((Entry("w", (P,)),))
ONES = np.ones(P, np.float32)
SNAPSHOT_S = 0.001  # what the math thread says that a snapshot took

E = TypeVar("E")


class Learner:
    """A state and its θ under a clock that only the test moves."""

    def __init__(self, run: dict[str, Any], learner: dict[str, Any], version: int) -> None:
        settings = learner_settings({"anneal": "none", "learning_rate": 0.5, **learner})
        theta = np.zeros(P, np.float32)
        optimizer = make_optimizer(settings, theta)
        screen = make_norm_check(settings, P)
        self.parameters = Parameters(
            theta,
            version,
            optimizer,
            age_rule(settings),
            screen,
            LAYOUT,
        )
        self.stream = StreamWriter(self.parameters, budgeted=settings.downlink_kbps is not None)
        manifest = Manifest(
            run="run",
            env="toy",
            seed=7,
            layout=LAYOUT,
            actor_table=TABLE,
            actor_digest=digest_of(TABLE),
            created="once",
        )
        self.now = 0.0
        self.state = LearnerState(
            Experiment(run=RunSettings(**run), learner=settings),
            manifest,
            Address(EPOCH, "tcp://*:1"),
            self.stream.key_frame(EPOCH),
            Progress(version=version),
            Random(0),
            self.now,
        )

    def post(self, event: Event) -> list[Effect]:
        effects = self.state.handle(event, self.now)
        self.state.validate()
        return effects

    def hear(self, message: Any, *buffers: bytes, route: bytes = A, key: str = "") -> list[Effect]:
        return self.post(MessageArrived(route, message, buffers, 100, key))

    def tick(self, now: float) -> list[Effect]:
        self.now = now
        return self.post(Ticked())

    def passes(self, until: float) -> list[Effect]:
        """Time, with ticks as close to each other as a daemon's."""
        effects: list[Effect] = []
        while self.now < until:
            effects += self.tick(min(until, self.now + 0.5))
        return effects

    def join(self, instance: int = 1, route: bytes = A) -> Welcome:
        return sent(self.hear(hello(instance), route=route), Welcome)

    def does(self, effects: list[Effect], unlogged: str | None = None) -> list[Effect]:
        """The math thread's answer to the one batch among the effects. unlogged: why it is in no journal."""
        order = only(effects, ApplyBatch)
        event = apply_batch(self.parameters, self.stream, order, EPOCH)
        record_s = SNAPSHOT_S if event.record is not None else 0.0
        return self.post(replace(event, math_s=0.01, record_s=record_s, key_frame_s=0.0, unlogged=unlogged))

    def applies(self, session: int, sequence: int = 1, base_version: int = 0) -> list[Effect]:
        """One gradient from its arrival to what follows on its application."""
        return self.does(self.hear(gradient(session, sequence, base_version), payload()))

    @property
    def peer(self) -> Any:
        (peer,) = self.state.peers.values()
        return peer


def learner(run: dict[str, Any] | None = None, version: int = 0, **settings: Any) -> Learner:
    return Learner(run or {}, settings, version)


def hello(instance: int = 1, name: str = "actor", role: Role = "train") -> Hello:
    return Hello(name, instance, ("f32",), role)


def gradient(session: int, sequence: int = 1, base_version: int = 0, **fields: Any) -> Gradient:
    return Gradient(
        **{
            "session": session,
            "sequence": sequence,
            "base_version": base_version,
            "codec": "f32",
            "length": P,
            "count": P,
            **fields,
        }
    )


def payload(vector: np.ndarray = ONES) -> bytes:
    return vector.astype("<f4").tobytes()


def report(steps: int = 1, *scores: float) -> Report:
    return Report(steps, tuple(Episode(score, 1) for score in scores))


def every(effects: list[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def only(effects: list[Effect], kind: type[E]) -> E:
    (found,) = every(effects, kind)
    return found


def messages(effects: list[Effect], kind: type[E]) -> list[E]:
    return [send.message for send in every(effects, Send) if isinstance(send.message, kind)]


def sent(effects: list[Effect], kind: type[E]) -> E:
    (found,) = messages(effects, kind)
    return found


def ruling(effects: list[Effect]) -> Ruling:
    (found,) = sent(effects, Verdict).rulings
    return found


def announced(effects: list[Effect]) -> list[str]:
    return [announce.event for announce in every(effects, Announce)]


# greeting


def test_a_welcome_hands_over_all_that_an_actor_needs() -> None:
    it = learner(credit=3, heartbeat_s=2.0, silence_s=9.0)
    effects = it.hear(hello(instance=5))
    welcome = sent(effects, Welcome)
    assert (welcome.instance, welcome.run, welcome.epoch, welcome.ordinal, welcome.seed) == (5, "run", EPOCH, 0, 7)
    assert (welcome.credit, welcome.heartbeat_s, welcome.silence_s, welcome.quantity) == (3, 2.0, 9.0, "update")
    assert (welcome.layout, welcome.table, welcome.table_digest) == (LAYOUT, TABLE, digest_of(TABLE))
    assert welcome.session > 0
    assert announced(effects) == ["actor_joined"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"anneal": "linear", "anneal_steps": 1000, "anneal_floor": 0.25}, (1000, 0.25)), ({"anneal": "none"}, (0, 1.0))],
)
def test_a_welcome_tells_how_the_rate_falls(settings: dict[str, Any], told: tuple[int, float]) -> None:
    welcome = learner(**settings).join()
    assert (welcome.anneal_steps, welcome.anneal_floor) == told


def test_a_repeated_hello_of_one_life_gets_the_same_session_over_the_new_route() -> None:
    it = learner()
    first = it.join()
    effects = it.hear(hello(), route=B)
    assert sent(effects, Welcome) == first
    assert (only(effects, Send).route, announced(effects)) == (B, [])
    it.hear(Heartbeat(first.session, 0, 0), route=B)
    assert it.peer.route == B


def test_what_comes_late_over_an_earlier_connection_takes_no_answers_there() -> None:
    """A learner that stood still reads the old connection and the new one at once, in any order."""
    it = learner()
    session = it.join().session
    it.hear(hello(), route=B)
    it.hear(gradient(session), payload(), route=B)  # sent again over the new connection
    late = it.hear(Heartbeat(session, 0, 0), route=A)
    assert late == []
    assert it.peer.route == B
    it.hear(hello(), route=b"a hello that nobody waits for any more")
    assert it.peer.route == B


def test_another_life_gets_another_session_and_the_next_ordinal() -> None:
    it = learner()
    first, second = it.join(1), it.join(2, B)
    assert first.session != second.session
    assert (first.ordinal, second.ordinal) == (0, 1)


def test_an_actor_that_cannot_read_keys_is_refused_by_the_codec_s_name() -> None:
    it = learner()
    refusal = sent(it.hear(Hello("actor", 1, ("i8",))), Refusal)
    assert refusal.reason == Reason.UNKNOWN_CODEC
    assert "f32" in refusal.detail
    assert not it.state.peers


def test_more_actors_than_allowed_are_refused() -> None:
    it = learner(max_actors=1)
    it.join(1)
    assert sent(it.hear(hello(2), route=B), Refusal).reason == Reason.DRAINING


@pytest.mark.parametrize("message", [gradient(99), Heartbeat(99, 0, 0), SnapshotRequest(99), Goodbye(99, True, "")])
def test_an_unknown_session_is_refused(message: Message) -> None:
    it = learner()
    it.join()
    assert sent(it.hear(message, payload(), route=B), Refusal).reason == Reason.UNKNOWN_SESSION
    assert it.state.progress.faults[Reason.UNKNOWN_SESSION] == 1
    assert it.peer.route == A


def test_what_only_a_learner_says_is_refused() -> None:
    it = learner()
    session = it.join().session
    effects = it.hear(Verdict(session, 1, (Ruling(1, "applied", 1),)))
    assert sent(effects, Refusal).reason == Reason.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("reason", [Reason.MALFORMED_FRAME, Reason.WRONG_PROTOCOL, Reason.OVERSIZE])
def test_garbage_is_counted_and_answered(reason: Reason) -> None:
    it = learner()
    effects = it.post(FaultArrived(B, FrameFault(reason, "why"), 50))
    assert only(effects, Send) == Send(B, Refusal(reason, "why"))
    assert (it.state.progress.faults[reason], it.state.progress.received_bytes) == (1, 50)


# one gradient


def test_an_applied_gradient_gets_a_verdict_and_a_snapshot() -> None:
    it = learner()
    session = it.join().session
    effects = it.applies(session)
    assert ruling(effects) == Ruling(1, "applied", 1, 1.0)
    published = only(effects, Publish)
    assert (published.message.version, published.message.epoch) == (1, EPOCH)
    np.testing.assert_array_equal(np.frombuffer(published.buffers[0], "<f4"), -0.5 * ONES)
    assert (it.state.progress.version, it.state.progress.rulings["applied"], it.peer.gradients) == (1, 1, 1)


@pytest.mark.parametrize(("optimizer", "first"), [("preconditioned", Send), ("sgd", Publish)])
def test_weights_with_its_own_updates_find_an_actor_that_knows_of_them(optimizer: str, first: type) -> None:
    """It would use them twice. Where its own are not in its weights, who waits for a permit goes on with the newest."""
    it = learner(optimizer=optimizer)
    effects = it.applies(it.join().session)
    order = [type(effect) for effect in effects if isinstance(effect, Send | Publish)]
    assert order[0] is first
    assert set(order) == {Send, Publish}


def test_what_arrives_during_a_batch_goes_with_the_next() -> None:
    it = learner(credit=3)
    session = it.join().session
    first = it.hear(gradient(session, 1), payload())
    assert it.hear(gradient(session, 2), payload()) == it.hear(gradient(session, 3), payload()) == []
    second = it.does(first)
    assert [job.sequence for job in only(second, ApplyBatch).jobs] == [2, 3]
    assert [r.version for r in sent(it.does(second), Verdict).rulings] == [2, 3]
    assert not it.state.busy


def test_two_peers_of_one_batch_get_verdicts_of_their_own() -> None:
    it = learner()
    one, two = it.join(1, A).session, it.join(2, B).session
    busy = it.hear(gradient(one, 1), payload())
    it.hear(gradient(one, 2), payload())
    it.hear(gradient(two, 1), payload(), route=B)
    effects = it.does(it.does(busy))
    answers = {send.route: send.message for send in every(effects, Send)}
    assert answers == {
        A: Verdict(one, 2, (Ruling(2, "applied", 2),)),
        B: Verdict(two, 2, (Ruling(1, "applied", 3),)),
    }


def test_a_batch_is_no_larger_than_its_limit() -> None:
    it = learner(credit=BATCH_LIMIT + 10, credit_lag=4 * BATCH_LIMIT)
    session = it.join().session
    busy = it.hear(gradient(session, 1), payload())
    for sequence in range(2, BATCH_LIMIT + 5):
        it.hear(gradient(session, sequence), payload())
    effects = it.does(busy)
    assert len(only(effects, ApplyBatch).jobs) == BATCH_LIMIT
    assert len(only(it.does(effects), ApplyBatch).jobs) == 3


def test_a_duplicate_in_the_queue_is_passed_over() -> None:
    it = learner()
    session = it.join().session
    busy = it.hear(gradient(session, 1), payload())
    assert it.hear(gradient(session, 1), payload()) == []
    assert len(only(busy, ApplyBatch).jobs) == 1


@pytest.mark.parametrize("outcome", ["applied", Reason.STALE_UPDATES])
def test_a_duplicate_gets_the_same_ruling_again(outcome: str) -> None:
    it = learner(version=9, max_lag_updates=9 if outcome == "applied" else 8)
    session = it.join().session
    first = it.hear(gradient(session, 1), payload())
    answer = ruling(it.does(first) if outcome == "applied" else first)
    assert answer.outcome == outcome
    again = it.hear(gradient(session, 1, report=report(5)), payload())
    assert ruling(again) == answer
    assert every(again, ApplyBatch) == []
    assert it.state.progress.rulings == {outcome: 1}
    assert it.state.progress.env_steps == 0


def test_a_number_answered_long_ago_is_a_duplicate() -> None:
    it = learner(credit=1, most_credit=1)
    session = it.join().session
    for sequence in range(1, 10):
        it.applies(session, sequence)
    assert ruling(it.hear(gradient(session, 1), payload())).outcome == Reason.DUPLICATE
    assert it.state.progress.version == 9


def test_an_overdrawn_gradient_is_refused_for_good() -> None:
    it = learner(credit=1, most_credit=1)
    session = it.join().session
    busy = it.hear(gradient(session, 1), payload())
    overdrawn = ruling(it.hear(gradient(session, 2), payload()))
    assert (overdrawn.outcome, overdrawn.scale) == (Reason.OVERDRAWN, 0.0)
    it.does(busy)
    assert ruling(it.hear(gradient(session, 2), payload())) == overdrawn


def test_stale_by_updates_on_arrival() -> None:
    it = learner(version=10, max_lag_updates=4)
    session = it.join().session
    assert ruling(it.hear(gradient(session, base_version=5), payload())) == Ruling(1, Reason.STALE_UPDATES, 10, 0.0)
    assert every(it.hear(gradient(session, 2, base_version=6), payload()), ApplyBatch)


def test_stale_by_updates_at_apply() -> None:
    """Young enough when it came, too old when its turn was there."""
    it = learner(credit=3, max_lag_updates=1)
    session = it.join().session
    busy = it.hear(gradient(session, 1), payload())
    it.hear(gradient(session, 2), payload())
    it.hear(gradient(session, 3), payload())
    rulings = sent(it.does(it.does(busy)), Verdict).rulings
    assert [r.outcome for r in rulings] == ["applied", Reason.STALE_UPDATES]
    assert (it.state.progress.version, it.state.progress.rulings[Reason.STALE_UPDATES]) == (2, 1)


def test_stale_by_seconds_counts_from_when_newer_weights_were_published() -> None:
    it = learner(max_lag_s=5.0)
    session = it.join().session
    it.now = 100.0  # nothing newer for a hundred seconds: as fresh as ever
    it.applies(session, 1)
    it.now = 105.0
    it.applies(session, 2, base_version=0)
    it.now = 105.1
    assert ruling(it.hear(gradient(session, 3, base_version=0), payload())).outcome == Reason.STALE_SECONDS
    assert every(it.hear(gradient(session, 4, base_version=1), payload()), ApplyBatch)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"length": P + 1}, Reason.WRONG_LENGTH),
        ({"count": P + 1}, Reason.MALFORMED_PAYLOAD),
        ({"codec": "zip"}, Reason.UNKNOWN_CODEC),
        ({"base_version": 1}, Reason.FUTURE_VERSION),
    ],
)
def test_a_header_that_cannot_be_is_dropped_before_the_math_thread(fields: dict[str, Any], reason: Reason) -> None:
    it = learner()
    effects = it.hear(gradient(it.join().session, **fields), payload())
    assert ruling(effects).outcome == reason
    assert every(effects, ApplyBatch) == []


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        (np.array([1, np.nan, 1, 1]), Reason.NOT_FINITE),
        (np.array([np.inf, 1, 1, 1]), Reason.NOT_FINITE),
        (np.full(P, 1e7), Reason.NORM_EXCEEDED),
    ],
)
def test_bad_numbers_change_nothing(vector: np.ndarray, reason: Reason) -> None:
    it = learner()
    effects = it.does(it.hear(gradient(it.join().session), payload(vector)))
    assert ruling(effects) == Ruling(1, reason, 0, 0.0)
    assert every(effects, Publish) == []
    assert not it.parameters.theta.any()


def test_a_payload_of_another_size_is_refused() -> None:
    it = learner()
    effects = it.does(it.hear(gradient(it.join().session), payload()[:-1]))
    assert ruling(effects).outcome == Reason.MALFORMED_PAYLOAD


NAN_PAYLOAD, LARGE = payload(np.full(P, np.nan)), payload(np.full(P, 1e7))


@pytest.mark.parametrize(
    ("header", "body", "settings", "outcome", "scores"),
    [
        ({}, payload(), {}, "applied", [3.0]),
        ({}, payload(), {"max_lag_s": 1.0}, Reason.STALE_SECONDS, [3.0]),
        ({}, payload(), {"max_lag_updates": 0}, Reason.STALE_UPDATES, [3.0]),
        ({}, payload(), {"quota_gradients_per_s": 0.1}, Reason.OVER_QUOTA, [3.0]),
        ({"base_version": 9}, payload(), {}, Reason.FUTURE_VERSION, []),
        ({"length": P + 1}, payload(), {}, Reason.WRONG_LENGTH, []),
        ({"codec": "zip"}, payload(), {}, Reason.UNKNOWN_CODEC, []),
        ({}, payload()[1:], {}, Reason.MALFORMED_PAYLOAD, []),
        ({}, NAN_PAYLOAD, {}, Reason.NOT_FINITE, []),
        ({}, LARGE, {}, Reason.NORM_EXCEEDED, []),
    ],
)
def test_steps_are_booked_once_whatever_becomes_of_a_gradient_and_episodes_unless_that_tells_against_its_sender(
    header: dict[str, Any], body: bytes, settings: dict[str, Any], outcome: str, scores: list[float]
) -> None:
    it = learner(staleness_rule="none", **settings)
    session = it.join().session
    it.does(it.hear(gradient(session, 1), payload()))
    it.now = 3.0
    it.tick(3.0)
    judged = gradient(session, 2, report=report(7, 3.0), **header)
    for _ in range(2):
        effects = it.hear(judged, body)
        if every(effects, ApplyBatch):
            effects = it.does(effects)
        assert ruling(effects).outcome == outcome
    progress = it.state.progress
    assert (progress.env_steps, it.peer.env_steps) == (7, 7)
    assert (progress.episodes, list(progress.scores)) == (len(scores), scores)


@pytest.mark.parametrize(("body", "base_version"), [(NAN_PAYLOAD, 0), (LARGE, 0), (payload(), 9), (payload()[1:], 0)])
def test_a_target_is_not_reached_by_what_a_refused_gradient_reports(body: bytes, base_version: int) -> None:
    it = learner({"until_return": 10.0})
    session = it.join().session
    for sequence in range(1, 4):
        effects = it.hear(gradient(session, sequence, base_version, report=report(100, *[50.0] * 100)), body)
        if every(effects, ApplyBatch):
            it.does(effects)
    it.applies(session, 4)
    assert (it.state.shutdown.stage, it.state.progress.episodes) == (Stage.RUNNING, 0)


def test_a_late_gradient_s_episodes_count_towards_the_target_that_a_later_one_reaches() -> None:
    it = learner({"until_return": 10.0}, max_lag_updates=0)
    session = it.join().session
    it.applies(session, 1)
    late = it.hear(gradient(session, 2, 0, report=report(100, *[50.0] * 100)), payload())
    assert ruling(late).outcome == Reason.STALE_UPDATES
    assert it.state.shutdown.stage is Stage.RUNNING
    it.applies(session, 3, 1)
    assert it.state.shutdown.solved


def test_a_batch_of_which_nothing_was_applied_does_not_end_the_run() -> None:
    it = learner({"until_return": 10.0}, max_lag_updates=0)
    session = it.join().session
    busy = it.hear(gradient(session, 1), payload())
    it.hear(gradient(session, 2, 0, report=report(100, *[50.0] * 100)), payload())
    late = it.does(it.does(busy))
    assert ruling(late).outcome == Reason.STALE_UPDATES
    assert (it.state.shutdown.stage, it.state.progress.episodes) == (Stage.RUNNING, 100)
    it.applies(session, 3, 1)
    assert it.state.shutdown.solved


def test_a_batch_that_reaches_the_target_and_the_limit_has_solved_the_task() -> None:
    it = learner({"until_return": 10.0, "until_steps": 50})
    session = it.join().session
    it.does(it.hear(gradient(session, report=report(100, *[50.0] * 100)), payload()))
    assert (it.state.shutdown.solved, it.state.shutdown.exit_code) == (True, 0)


def test_episodes_may_have_begun_in_earlier_reports_and_in_an_earlier_session() -> None:
    it = learner()
    session = it.join().session

    def ends(sequence: int, steps: int, *lengths: int) -> list[str]:
        told = Report(steps, tuple(Episode(1.0, length) for length in lengths))
        effects = it.hear(gradient(session, sequence, report=told), payload())
        return announced([*effects, *it.does(effects)])

    assert ends(1, 10) == []
    assert ends(2, 10, 15, 5) == []
    assert it.state.progress.episodes == 2
    assert ends(3, 10, 11) == ["report_doubted"]
    assert ends(4, 10, 20, 1) == []  # told once for each session
    assert (it.state.progress.episodes, it.state.progress.reports_doubted) == (2, 2)
    it.hear(Heartbeat(session, 100, 0))  # it stepped before this session, too
    assert ends(5, 10, 80) == []
    assert it.state.progress.episodes == 3


def test_the_rate_is_annealed_by_reported_steps() -> None:
    it = learner(anneal="linear", anneal_steps=100, anneal_floor=0.0)
    effects = it.hear(gradient(it.join().session, report=report(50)), payload())
    assert only(effects, ApplyBatch).rate == 0.25


# the weight stream


def test_a_snapshot_request_is_answered_with_the_newest_record() -> None:
    it = learner()
    session = it.join().session
    assert sent(it.hear(SnapshotRequest(session)), Snapshot).version == 0
    it.applies(session)
    assert sent(it.hear(SnapshotRequest(session)), Snapshot).version == 1


def test_a_run_without_a_target_answers_with_the_newest() -> None:
    it = learner()
    session = it.join().session
    it.applies(session)
    answer = sent(it.hear(SnapshotRequest(session, True)), Snapshot)
    assert (answer.version, answer.target) == (1, None)


def test_the_target_network_stays_while_weights_move_on() -> None:
    it = learner(target_interval_steps=100, staleness_rule="none")  # every update moves θ by the same
    session = it.join().session
    for sequence, steps in ((1, 60), (2, 60), (3, 60), (4, 60)):
        it.now += 1.0  # so that each version is published
        effects = it.does(it.hear(gradient(session, sequence, report=report(steps)), payload()))
        record = only(effects, Publish).message
        assert (record.version, record.env_steps) == (sequence, 60 * sequence)
        assert record.target == (0, 2, 2, 4)[sequence - 1]
        answer = it.hear(SnapshotRequest(session, True))
        kept = sent(answer, Snapshot)
        assert kept.version == kept.target == record.target
        np.testing.assert_array_equal(np.frombuffer(only(answer, Send).buffers[0], "<f4"), -0.5 * kept.version * ONES)
        assert sent(it.hear(SnapshotRequest(session)), Snapshot).version == sequence


def test_a_resumed_run_begins_with_its_weights_as_the_target() -> None:
    it = learner(version=12, target_interval_steps=100)
    assert sent(it.hear(SnapshotRequest(it.join().session, True)), Snapshot).target == 12


def test_training_begins_when_weights_are_first_asked_for() -> None:
    it = learner()
    session = it.join().session
    assert it.state.training_since is None
    for now in (4.0, 9.0):
        it.now = now
        it.hear(SnapshotRequest(session))
    assert it.state.training_since == 4.0


def test_what_a_burst_left_unpublished_follows_on_a_tick() -> None:
    it = learner(publish_interval_s=1.0)
    session = it.join().session
    assert every(it.applies(session, 1), Publish)
    assert every(it.applies(session, 2), Publish) == []
    assert every(it.tick(0.5), ApplyBatch) == []
    late = it.tick(1.5)
    assert not only(late, ApplyBatch).jobs
    assert only(it.does(late), Publish).message.version == 2
    assert every(it.tick(9.0), ApplyBatch) == []


def sparse(session: int, sequence: int, base_version: int) -> tuple[Gradient, bytes]:
    """One coordinate: thinner than half a key, as a dense payload is not."""
    encoded = codec("topk_i8").encode(Sparse(P, np.array([2], np.int32), np.ones(1, np.float32)))
    message = gradient(session, sequence, base_version, codec="topk_i8", count=encoded.count)
    return message, encoded.buffer


def test_what_was_applied_is_published_as_it_came() -> None:
    it = learner()
    session = it.join().session
    update, buffer = sparse(session, 1, 0)
    record = only(it.does(it.hear(update, buffer)), Publish)
    assert isinstance(record.message, Updates)
    assert (record.message.base_version, record.message.version, record.buffers) == (0, 1, [buffer])


def test_who_asks_amid_updates_gets_a_key_of_what_is_applied_by_then() -> None:
    it = learner()
    session = it.join().session
    it.does(it.hear(*sparse(session, 1, 0)))
    asked = it.hear(SnapshotRequest(session))
    order = only(asked, ApplyBatch)
    assert (list(order.jobs), order.key_frame) == ([], True)
    answer = only(it.does(asked), Send)
    assert isinstance(answer.message, Snapshot)
    assert (answer.message.version, answer.route) == (1, A)


def test_who_asks_during_a_batch_is_answered_behind_it() -> None:
    it = learner()
    session = it.join().session
    it.does(it.hear(*sparse(session, 1, 0)))
    busy = it.hear(*sparse(session, 2, 1))
    assert it.hear(SnapshotRequest(session)) == []
    after = it.does(busy)
    assert only(after, ApplyBatch).key_frame
    assert sent(it.does(after), Snapshot).version == 2


def test_nobody_training_nothing_is_published() -> None:
    it = learner()
    session = it.join().session
    busy = it.hear(*sparse(session, 1, 0))
    waiting = it.hear(*sparse(session, 2, 0))
    it.hear(Goodbye(session, True, ""))
    after = it.does(busy)  # what was ordered while it was there
    assert waiting == []
    assert every(it.does(after), Publish) == []
    assert every(it.tick(1.0), ApplyBatch) == []
    late = it.hear(SnapshotRequest(it.join(2, B).session), route=B)
    effects = it.does(late)
    assert sent(effects, Snapshot).version == only(effects, Publish).message.version == 2


def test_snapshots_are_paced_by_what_they_cost() -> None:
    it = learner(publish_share=0.1)
    session = it.join().session
    assert every(it.applies(session, 1), Publish)
    it.now = SNAPSHOT_S * 5
    assert every(it.applies(session, 2), Publish) == []
    it.now = SNAPSHOT_S * 20
    assert every(it.applies(session, 3), Publish)


def test_lies_about_steps_neither_count_nor_poison_what_is_published() -> None:
    """A counter of 2^53 or more would be a snapshot that no actor can read, in this life and in those after it."""
    it = learner()
    session = it.join().session
    for sequence in (1, 2):
        it.now += 1.0  # late enough for a snapshot of each
        effects = it.does(it.hear(gradient(session, sequence, report=report((1 << 53) - 1)), payload()))
        published = only(effects, Publish)
        assert decode(encode(published.message, published.buffers))[0] == published.message
    it.does(it.hear(gradient(session, 3, report=report(10)), payload()))
    assert it.state.progress.env_steps == it.peer.env_steps == 10


def test_a_sum_at_its_end_is_still_published() -> None:
    it = learner()
    it.state.progress.env_steps = (1 << 53) - 5
    effects = it.does(it.hear(gradient(it.join().session, report=report(10)), payload()))
    published = only(effects, Publish)
    assert published.message.env_steps == (1 << 53) - 1
    assert decode(encode(published.message, published.buffers))[0] == published.message


# evaluation

JUDGE = b"route of the evaluator"


def judge(it: Learner, instance: int = 50, route: bytes = JUDGE, key: str = "") -> int:
    """The session of an evaluating actor."""
    return sent(it.hear(hello(instance, "judge", "evaluate"), route=route, key=key), Welcome).session


def score(session: int, version: int, mean: float, std: float = 1.0, ci95: float = 0.6) -> Evaluation:
    return Evaluation(session, version, 10, mean, std, ci95, 5)


def hands_out(it: Learner, session: int) -> int:
    """Version of what an evaluating session is sent when it asks."""
    return sent(it.hear(SnapshotRequest(session), route=JUDGE), Snapshot).version


def scores(it: Learner, session: int, version: int, mean: float, **fields: float) -> list[Effect]:
    return it.hear(score(session, version, mean, **fields), route=JUDGE)


def test_watching_a_run_does_not_begin_it_and_changes_no_seed() -> None:
    it = learner()
    effects = it.hear(hello(50, "judge", "evaluate"), route=JUDGE)
    assert announced(effects) == ["evaluator_joined"]
    hands_out(it, sent(effects, Welcome).session)
    assert it.state.training_since is None
    assert (it.state.sessions.training, it.state.sessions.evaluating) == (0, 1)
    assert it.join().ordinal == 0
    assert it.state.progress.sessions_granted == 1


def test_each_role_is_refused_what_the_other_says() -> None:
    it = learner()
    trains, evaluates = it.join().session, judge(it)
    wrong = it.hear(gradient(evaluates), payload(), route=JUDGE), it.hear(score(trains, 0, 1.0))
    for effects in wrong:
        assert sent(effects, Refusal).reason == Reason.UNEXPECTED_MESSAGE
        assert len(effects) == 1
    assert it.state.progress.faults[Reason.UNEXPECTED_MESSAGE] == 2
    assert it.state.progress.evaluations == 0


def test_one_life_of_an_actor_has_one_role() -> None:
    it = learner()
    it.join(1)
    effects = it.hear(hello(1, role="evaluate"))
    assert sent(effects, Refusal).reason == Reason.UNEXPECTED_MESSAGE
    assert it.peer.trains


def test_evaluators_are_few_because_each_may_hold_a_snapshot() -> None:
    it = learner()
    for instance in range(MAX_EVALUATORS):
        judge(it, instance + 1, b"judge %d" % instance)
    effects = it.hear(hello(99, role="evaluate"), route=JUDGE)
    assert sent(effects, Refusal).reason == Reason.DRAINING
    assert it.join(100)


def test_the_best_theta_is_written_as_it_was_when_it_was_handed_out() -> None:
    it = learner()
    session = it.join().session
    it.applies(session, 1)
    evaluates = judge(it)
    assert hands_out(it, evaluates) == 1
    it.now = 1.0
    it.applies(session, 2)
    effects = scores(it, evaluates, 1, 100.0)
    order = only(effects, WriteBest)
    assert announced(effects) == ["evaluated"]
    assert order.record[0].version == 1
    np.testing.assert_array_equal(np.frombuffer(order.record[1][0], "<f4"), -0.5 * ONES)
    assert order.score == {"episodes": 10, "mean": 100.0, "std": 1.0, "ci95": 0.6, "seed": 5}
    progress = it.state.progress
    assert (progress.evaluations, progress.evaluated_best_mean) == (1, None)  # until it is on disk
    assert announced(it.post(BestWritten(1, Path("best")))) == ["best_checkpoint"]
    assert (progress.evaluated_best_mean, progress.evaluated_best_version) == (100.0, 1)


@pytest.mark.parametrize("mean", [100.0, 99.0])
def test_a_tie_and_a_worse_score_keep_the_earlier(mean: float) -> None:
    it = learner()
    evaluates = judge(it)
    hands_out(it, evaluates)
    scores(it, evaluates, 0, 100.0)
    assert every(scores(it, evaluates, 0, mean), WriteBest) == []
    it.post(BestWritten(0, Path("best")))
    effects = scores(it, evaluates, 0, mean)
    assert (announced(effects), every(effects, WriteBest)) == (["evaluated"], [])
    assert it.state.progress.evaluations == 3


def test_a_score_of_another_record_than_the_pinned_one_is_told_and_not_kept() -> None:
    it = learner()
    session, evaluates = it.join().session, judge(it)
    assert every(scores(it, evaluates, 0, 5.0), WriteBest) == []  # nothing was handed out yet
    hands_out(it, evaluates)
    it.applies(session)
    hands_out(it, evaluates)
    assert every(scores(it, evaluates, 0, 5.0), WriteBest) == []
    assert every(scores(it, evaluates, 1, 5.0), WriteBest)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mean": float("nan")}, Reason.NOT_FINITE),
        ({"mean": float("inf")}, Reason.NOT_FINITE),
        ({"std": float("nan")}, Reason.NOT_FINITE),
        ({"std": float("inf"), "ci95": float("inf")}, Reason.NOT_FINITE),
        ({"ci95": float("nan")}, Reason.NOT_FINITE),
        ({"ci95": float("-inf")}, Reason.NOT_FINITE),
        ({"ci95": -0.1}, Reason.MALFORMED_MESSAGE),
        ({"std": -0.1}, Reason.MALFORMED_MESSAGE),
    ],
)
def test_scores_that_no_evaluation_has_are_refused(fields: dict[str, float], reason: Reason) -> None:
    it = learner()
    evaluates = judge(it)
    hands_out(it, evaluates)
    assert sent(scores(it, evaluates, 0, **{"mean": 1.0, **fields}), Refusal).reason == reason
    assert it.state.progress.evaluations == 0


def test_a_single_episode_is_too_little_for_a_best() -> None:
    it = learner()
    evaluates = judge(it)
    hands_out(it, evaluates)
    effects = scores(it, evaluates, 0, 1.0, std=0.0, ci95=float("inf"))
    assert (announced(effects), every(effects, WriteBest)) == (["evaluated"], [])


def test_the_disk_is_told_of_one_best_at_a_time_and_only_of_the_best() -> None:
    it = learner()
    evaluates = judge(it)
    hands_out(it, evaluates)
    assert only(scores(it, evaluates, 0, 1.0), WriteBest).score["mean"] == 1.0
    assert every(scores(it, evaluates, 0, 3.0), WriteBest) == every(scores(it, evaluates, 0, 2.0), WriteBest) == []
    assert only(it.post(BestWritten(0, Path("best"))), WriteBest).score["mean"] == 3.0
    assert every(it.post(BestWritten(0, Path("best"))), WriteBest) == []
    assert it.state.progress.evaluated_best_mean == 3.0


def test_a_best_that_could_not_be_written_is_no_best() -> None:
    it = learner()
    evaluates = judge(it)
    hands_out(it, evaluates)
    scores(it, evaluates, 0, 3.0)
    assert announced(it.post(BestFailed(0, "disk full"))) == ["best_checkpoint_failed"]
    assert it.state.progress.evaluated_best_mean is None
    assert every(scores(it, evaluates, 0, 2.0), WriteBest)


def test_a_resumed_run_keeps_what_was_better() -> None:
    it = learner()
    it.state.progress.best = Best(50.0, 3)
    evaluates = judge(it)
    hands_out(it, evaluates)
    assert every(scores(it, evaluates, 0, 49.0), WriteBest) == []
    assert every(scores(it, evaluates, 0, 51.0), WriteBest)


@pytest.mark.parametrize("fields", [{"mean": 1e300}, {"mean": -1e16}, {"std": 1e300}, {"ci95": 1e16}])
def test_scores_beyond_what_a_target_may_be_are_refused(fields: dict[str, float]) -> None:
    it = learner()
    evaluates = judge(it)
    hands_out(it, evaluates)
    assert sent(scores(it, evaluates, 0, **{"mean": 1.0, **fields}), Refusal).reason == Reason.MALFORMED_MESSAGE
    assert it.state.progress.evaluations == 0


class Panel:
    """Two evaluators with a key each, of which the second lies; each was handed version 0."""

    def __init__(self) -> None:
        self.it = learner()
        self.sessions = {}
        for instance, key in ((50, "honest"), (51, "liar")):
            self.sessions[key] = judge(self.it, instance, key.encode(), key)
            self.it.hear(SnapshotRequest(self.sessions[key]), route=key.encode(), key=key)

    def scores(self, key: str, mean: float) -> list[Effect]:
        self.it.now += 1.0
        return self.it.hear(score(self.sessions[key], 0, mean), route=key.encode(), key=key)

    def written(self) -> list[Effect]:
        return self.it.post(BestWritten(0, Path("best")))

    def best(self) -> tuple[float | None, str | None]:
        best = self.it.state.progress.best
        return (None, None) if best is None else (best.mean, best.public_key)


def test_each_keys_scores_compete_with_its_own_alone() -> None:
    panel = Panel()
    assert only(panel.scores("liar", 1e14), WriteBest).leads
    panel.written()
    effects = panel.scores("honest", 480.0)
    assert only(effects, Announce).fields["best"] is True
    order = only(effects, WriteBest)
    assert (order.public_key, order.leads) == ("honest", False)
    panel.written()
    assert every(panel.scores("honest", 479.0), WriteBest) == []
    assert panel.best() == (1e14, "liar")


def test_when_a_key_is_revoked_the_best_of_the_others_is_the_best() -> None:
    panel = Panel()
    for key, mean in (("liar", 1e14), ("honest", 480.0)):
        panel.scores(key, mean)
        panel.written()
    effects = panel.it.post(KeysRevoked({"liar": ROLES}))
    assert announced(effects) == ["evaluator_left", "best_dropped"]
    assert only(effects, LeadBest) == LeadBest("honest", 0)
    assert panel.best() == (None, None)  # until it is on disk
    assert announced(panel.written()) == ["best_checkpoint"]
    assert panel.best() == (480.0, "honest")
    assert only(panel.scores("honest", 481.0), WriteBest).leads


def test_a_best_that_was_being_written_when_its_key_was_revoked_does_not_count() -> None:
    panel = Panel()
    panel.scores("honest", 480.0)
    panel.written()
    assert only(panel.scores("liar", 1e14), WriteBest).leads
    panel.scores("liar", 2e14)  # waits, and is dropped with it
    assert announced(panel.it.post(KeysRevoked({"liar": ROLES}))) == ["evaluator_left"]
    effects = panel.written()
    assert (announced(effects), only(effects, LeadBest).public_key) == ([], "honest")
    panel.written()
    assert panel.best() == (480.0, "honest")


def test_without_another_evaluation_there_is_no_best_until_the_next() -> None:
    panel = Panel()
    panel.scores("liar", 1e14)
    panel.written()
    assert only(panel.it.post(KeysRevoked({"liar": ROLES})), LeadBest).public_key is None
    assert announced(panel.written()) == []
    assert panel.best() == (None, None)
    assert only(panel.scores("honest", 1.0), WriteBest).leads


def test_evaluations_of_a_sender_are_bounded_in_rate_and_what_is_beyond_is_answered() -> None:
    it = learner()
    evaluates = judge(it)
    answers = [scores(it, evaluates, 0, 1.0) for _ in range(100)]
    assert it.state.progress.evaluations == 20
    assert sent(answers[20], Refusal).reason == Reason.OVER_QUOTA
    assert it.state.progress.faults[Reason.OVER_QUOTA] == 80
    it.now += 1.0
    assert announced(scores(it, evaluates, 0, 1.0)) == ["evaluated"]


def test_a_key_without_a_role_is_refused_it_by_name() -> None:
    it = learner()
    roles: tuple[Role, Role] = ("train", "evaluate")
    for role, other in (roles, roles[::-1]):
        effects = it.post(MessageArrived(A, hello(role=role), (), 100, "key", roles=frozenset({other})))
        refusal = sent(effects, Refusal)
        assert (refusal.reason, f"may not {role}" in refusal.detail) == (Reason.UNEXPECTED_MESSAGE, True)
    assert it.state.peers == {}


def test_comings_and_goings_are_told_up_to_a_fleets_and_then_summed_up() -> None:
    it = learner()
    told: Counter[str] = Counter()
    for instance in range(3000):
        told.update(announced(it.hear(hello(instance), route=A)))  # each ends the session before
    assert told == {"actor_joined": 1024, "actor_left": 1024}
    summary = only(it.tick(1.0), Announce)
    assert (summary.event, summary.fields) == ("lines_left_out", {"actor_joined": 1976, "actor_left": 1975})
    assert announced(it.hear(hello(9000), route=A)) == ["actor_left", "actor_joined"]
    assert announced(it.hear(hello(9001), route=A)) == []
    assert announced(it.tick(2.0)) == []
    assert "lines_left_out" in announced(it.passes(62.0))


def test_an_evaluator_that_falls_silent_is_no_lost_actor() -> None:
    it = learner(silence_s=5.0)
    evaluates = judge(it)
    hands_out(it, evaluates)
    assert announced(it.passes(5.1)) == ["evaluator_left"]
    assert it.state.progress.sessions_lost == 0
    assert sent(scores(it, evaluates, 0, 1.0), Refusal).reason == Reason.UNKNOWN_SESSION


def test_the_last_best_is_waited_for_before_the_end() -> None:
    it = learner(drain_s=3.0)
    evaluates = judge(it)
    hands_out(it, evaluates)
    scores(it, evaluates, 0, 3.0)
    assert every(it.post(StopRequested("SIGTERM", 0)), WriteCheckpoint) == []
    effects = it.post(BestWritten(0, Path("best")))
    assert every(effects, WriteCheckpoint)
    effects = it.post(CheckpointWritten(0, Path("c")))
    assert sent(effects, Goodbye).session == evaluates
    assert effects[-1] == Finish(0)


# liveness


def test_an_actor_behind_a_long_link_is_granted_more_with_its_verdicts() -> None:
    it = learner(credit=2, most_credit=4)
    session = it.join().session
    for beat in range(5):
        it.hear(Heartbeat(session, beat, 0, 1.0, 0.1))
    assert sent(it.applies(session, 1), Verdict).credit == 4
    assert sent(it.hear(hello(1)), Welcome).credit == 4
    for sequence in range(2, 6):
        it.hear(gradient(session, sequence), payload())
    assert ruling(it.hear(gradient(session, 6), payload())).outcome == Reason.OVERDRAWN


def test_what_was_sent_under_a_larger_credit_is_taken() -> None:
    it = learner(credit=1, most_credit=4, credit_lag=4)
    session = it.join().session
    for beat in range(5):
        it.hear(Heartbeat(session, beat, 0, 1.0, 0.1))
    assert it.peer.credit == 4
    assert sent(it.applies(session, 1), Verdict).credit == 4
    for instance in range(2, 6):
        it.join(instance, b"route %d" % instance)
    peer = it.state.peers[session]
    for beat in range(5):
        it.hear(Heartbeat(session, beat, 0, 1.0, 0.1))
    assert peer.credit == 1
    busy = it.hear(gradient(session, 2), payload())
    for sequence in (3, 4, 5):
        assert messages(it.hear(gradient(session, sequence), payload()), Verdict) == []  # judged, not overdrawn
    assert peer.ledger.pending == {2, 3, 4, 5}
    assert sent(it.does(busy), Verdict).credit == 1  # whoever has not heard it holds 2, and sends nothing above 9
    assert messages(it.hear(gradient(session, 9), payload()), Verdict) == []
    assert ruling(it.hear(gradient(session, 10), payload())).outcome == Reason.OVERDRAWN


def test_a_grant_that_was_never_told_counts_for_nothing_and_what_is_granted_is_kept() -> None:
    it = learner(credit=2, most_credit=32)
    session = it.join().session
    busy = it.hear(gradient(session, 1), payload())
    for sequence in range(2, 40):
        it.hear(gradient(session, sequence), payload())
    assert it.peer.ledger.pending == {1, 2}
    assert it.state.progress.rulings[Reason.OVERDRAWN] == 37
    assert not it.state.admission.is_quarantined(
        it.peer.sender, it.now
    )  # what a lost verdict explains is held against nobody
    it.does(busy)
    assert messages(it.hear(gradient(session, 41), payload()), Verdict) == []


def test_an_evaluating_session_is_granted_nothing() -> None:
    it = learner()
    welcome = sent(it.hear(hello(role="evaluate")), Welcome)
    it.hear(Heartbeat(welcome.session, 0, 0, 1.0, 0.1))
    assert it.peer.credit == welcome.credit


def test_heartbeats_tell_what_is_published() -> None:
    it = learner(heartbeat_s=1.0, publish_interval_s=100.0)
    session = it.join().session
    it.applies(session, 1)
    it.applies(session, 2)
    assert messages(it.tick(0.9), Heartbeat) == []
    assert sent(it.tick(1.0), Heartbeat) == Heartbeat(session, 2, 1, share=1.0)
    assert messages(it.tick(1.5), Heartbeat) == []


def shares_told(effects: list[Effect]) -> dict[int, float]:
    """By session, in heartbeats."""
    return {beat.session: beat.share for beat in messages(effects, Heartbeat)}


def settles(it: Learner, effects: list[Effect]) -> list[Effect]:
    """The same, and what follows until the math thread is idle."""
    while orders := every(effects, ApplyBatch):
        rest = [effect for effect in effects if effect is not orders[0]]
        effects = [*rest, *it.does([orders[0]])]
    return effects


def collects(it: Learner, steps: dict[int, int], seconds: int = 8) -> list[Effect]:
    """A gradient a second of each session, which reports so many steps."""
    effects: list[Effect] = []
    for number in range(1, 1 + seconds):
        for session, count in steps.items():
            version = it.state.progress.version
            settles(it, it.hear(gradient(session, number, version, report=report(count)), payload()))
        effects += settles(it, it.tick(it.now + 1.0))
    return effects


def test_a_share_that_changed_is_told_within_a_tick_and_otherwise_with_the_next_heartbeat() -> None:
    it = learner(heartbeat_s=1.0)
    first = it.join(1)
    assert first.share == 1.0
    assert shares_told(it.tick(0.05)) == {}
    second = it.join(2, B)
    assert second.share == 0.5
    assert shares_told(it.tick(0.1)) == {first.session: 0.5}
    assert shares_told(it.tick(0.15)) == {}
    assert shares_told(it.tick(1.0)) == {first.session: 0.5, second.session: 0.5}
    assert shares_told(it.tick(1.5)) == {}


def test_shares_follow_what_gradients_report() -> None:
    it = learner(heartbeat_s=1.0)
    slow, fast = it.join(1).session, it.join(2, B).session
    collects(it, {slow: 100, fast: 300})
    assert shares_told(settles(it, it.tick(it.now + 1.0))) == pytest.approx({slow: 0.375, fast: 0.625})
    assert shares_told(it.tick(it.now + 0.05)) == {}


def test_a_share_that_wavers_waits_for_the_next_heartbeat() -> None:
    it = learner(heartbeat_s=100.0, silence_s=300.0)
    one, two = it.join(1).session, it.join(2, B).session
    assert shares_told(it.tick(0.05)) == {one: 0.5}
    assert shares_told(collects(it, {one: 100, two: 110})) == {}
    assert 0.47 < it.state.sessions.shares.of(one) < 0.5
    assert shares_told(it.tick(it.now + 0.05)) == {}
    assert shares_told(it.passes(101.0)) == {each: it.state.sessions.shares.told(each) for each in (one, two)}


def test_who_goes_on_living_and_sends_nothing_more_loses_its_share() -> None:
    it = learner(heartbeat_s=1.0)
    works, stands = it.join(1).session, it.join(2, B).session
    collects(it, {works: 100, stands: 100})
    for _ in range(60):
        it.hear(Heartbeat(stands, 800, 0), route=B)
        it.hear(Heartbeat(works, 800, 0))
        settles(it, it.tick(it.now + 1.0))
        it.state.sessions.shares.record(works, 100, it.now)
    assert shares_told(settles(it, it.tick(it.now + 1.0)))[stands] < 0.33


def test_what_is_refused_counts_for_its_share_and_what_comes_twice_does_so_once() -> None:
    it = learner(max_lag_updates=0)
    stale, other = it.join(1).session, it.join(2, B).session
    for number in range(1, 9):
        old = gradient(stale, number, 0, report=report(100))
        for _ in range(3):
            settles(it, it.hear(old, payload()))
        version = it.state.progress.version
        settles(it, it.hear(gradient(other, number, version, report=report(100)), payload(), route=B))
        settles(it, it.tick(it.now + 1.0))
    assert it.state.progress.rulings[Reason.STALE_UPDATES] == 7
    assert it.state.sessions.shares.of(stale) == pytest.approx(0.5)


def test_who_evaluates_has_no_share_and_takes_none() -> None:
    it = learner(heartbeat_s=1.0)
    trains = it.join(1).session
    welcome = sent(it.hear(hello(50, role="evaluate"), route=JUDGE), Welcome)
    assert welcome.share == 0.0
    assert shares_told(it.tick(0.05)) == {}
    assert shares_told(it.tick(1.0)) == {trains: 1.0, welcome.session: 0.0}


@pytest.mark.parametrize("left", [True, False], ids=["says goodbye", "falls silent"])
def test_a_session_that_ends_frees_its_share(left: bool) -> None:
    it = learner(heartbeat_s=100.0, silence_s=300.0)
    stays, goes = it.join(1).session, it.join(2, B).session
    it.tick(0.05)
    if left:
        it.hear(Goodbye(goes, True, ""), route=B)
        assert shares_told(it.tick(0.1)) == {stays: 1.0}
    else:
        it.passes(250.0)
        it.hear(Heartbeat(stays, 0, 0))
        effects = it.passes(330.0)
        assert announced(effects) == ["actor_left"]
        assert shares_told(effects)[stays] == 1.0
    assert set(it.state.sessions.shares) == {stays}


def test_a_welcome_that_is_said_again_tells_the_share_of_that_moment() -> None:
    it = learner(heartbeat_s=100.0, silence_s=300.0)
    it.join(1)
    it.join(2, B)
    assert sent(it.hear(hello(1)), Welcome).share == 0.5
    assert shares_told(it.tick(0.05)) == {}


def test_progress_stands_still_for_a_wedged_actor() -> None:
    it = learner()
    session = it.join().session
    for now, steps in ((1.0, 10), (2.0, 20), (3.0, 20)):
        it.now = now
        it.hear(Heartbeat(session, steps, 0))
    assert (it.peer.progress, it.peer.progressed_at, it.peer.heard_at) == (20, 2.0, 3.0)


def test_a_silent_peer_is_forgotten_and_what_it_sent_is_applied() -> None:
    it = learner(silence_s=5.0, heartbeat_s=1.0)
    session = it.join().session
    waiting = it.hear(gradient(session), payload())
    effects = it.passes(5.1)
    assert announced(effects) == ["actor_left"]
    assert (it.state.peers, it.state.progress.sessions_lost) == ({}, 1)
    effects = it.does(waiting)
    assert messages(effects, Verdict) == []
    assert (it.state.progress.version, it.state.progress.rulings["applied"]) == (1, 1)
    assert sent(it.hear(Heartbeat(session, 0, 0)), Refusal).reason == Reason.UNKNOWN_SESSION


def test_a_learner_that_stood_still_holds_it_against_nobody() -> None:
    it = learner(silence_s=5.0, heartbeat_s=1.0)
    session = it.join().session
    it.passes(3.0)
    assert announced(it.tick(23.0)) == []  # stopped and continued: what came meanwhile is not read yet
    it.hear(Heartbeat(session, 0, 0))
    assert announced(it.passes(27.0)) == []
    assert announced(it.passes(29.0)) == ["actor_left"]


def test_an_actor_that_says_goodbye_is_forgotten() -> None:
    it = learner()
    effects = it.hear(Goodbye(it.join().session, True, "bye"))
    assert announced(effects) == ["actor_left"]
    assert (it.state.peers, it.state.progress.sessions_lost) == ({}, 0)


# checkpoints


def test_a_checkpoint_every_interval_but_only_of_something_new() -> None:
    it = learner(checkpoint_interval_s=10.0)
    session = it.join().session
    it.applies(session)
    assert every(it.tick(9.9), WriteCheckpoint) == []
    it.hear(Heartbeat(session, 0, 0))
    assert only(it.tick(10.0), WriteCheckpoint).counters["sessions_granted"] == 1
    assert every(it.tick(25.0), WriteCheckpoint) == []  # one at a time
    assert announced(it.post(CheckpointWritten(1, Path("c")))) == ["checkpoint_written"]
    assert every(it.tick(40.0), WriteCheckpoint) == []


def test_a_failed_checkpoint_is_told_and_tried_again() -> None:
    it = learner(checkpoint_interval_s=10.0)
    assert every(it.tick(10.0), WriteCheckpoint)
    assert announced(it.post(CheckpointFailed(0, "disk full"))) == ["checkpoint_failed"]
    assert it.state.shutdown.stage is Stage.RUNNING
    assert it.state.progress.faults["checkpoint_failed"] == 1
    assert every(it.tick(20.0), WriteCheckpoint)


# the end


def solved(**settings: Any) -> tuple[Learner, int, list[Effect]]:
    """A learner that just heard of the episode that reaches its target."""
    it = learner({"until_return": 10.0}, **settings)
    session = it.join().session
    it.applies(session, 1)
    told = report(99, *[10.0] * 99)
    it.does(it.hear(gradient(session, 2, report=told), payload()))
    return it, session, it.does(it.hear(gradient(session, 3, report=report(1, 10.0)), payload()))


def test_reaching_the_target_writes_a_last_checkpoint_then_says_goodbye() -> None:
    it, session, effects = solved()
    assert it.state.shutdown.solved
    assert announced(effects) == ["draining"]
    assert every(effects, WriteCheckpoint)
    assert ruling(effects).outcome == "applied"
    assert every(effects, Finish) == []
    effects = it.post(CheckpointWritten(3, Path("c")))
    assert sent(effects, Goodbye) == Goodbye(session, True, "the run is over")
    assert effects[-1] == Finish(0)
    assert it.post(Ticked()) == []


def test_draining_takes_nothing_new_and_greets_nobody() -> None:
    it, session, _ = solved()
    assert ruling(it.hear(gradient(session, 4), payload())).outcome == Reason.DRAINING
    assert sent(it.hear(hello(2), route=B), Refusal).reason == Reason.DRAINING


@pytest.mark.parametrize("draining", [False, True])
def test_of_a_batch_that_the_journal_does_not_hold_nobody_hears(draining: bool) -> None:
    it = learner(durability="journal", run={"until_return": 1.0})
    session = it.join().session
    it.hear(SnapshotRequest(session))
    it.applies(session)
    asked = it.hear(gradient(session, 2), payload())
    it.hear(gradient(session, 3), payload())
    if draining:
        it.state.shutdown.solved = it.state.shutdown.final = True
        it.post(StopRequested("target reached", 0))
    effects = it.does(asked, "No space left on device")
    said, farewell, end = effects
    assert isinstance(said, Announce)
    assert (said.event, said.fields["then"]) == ("journal_failed", STOPS)
    assert sent([farewell], Goodbye) == Goodbye(session, False, "the learner stops; it may be back")
    assert end == Finish(75)
    assert it.state.progress.version == 1
    assert it.state.progress.rulings == {"applied": 1}
    assert it.tick(60.0) == []


def test_a_learner_that_goes_on_without_its_journal_says_so_with_each_verdict() -> None:
    it = learner(durability="journal", on_journal_failure="continue")
    session = it.join().session
    assert not sent(it.applies(session), Verdict).unlogged
    verdict = sent(it.does(it.hear(gradient(session, 2), payload()), "full"), Verdict)
    assert (verdict.unlogged, verdict.rulings[0].outcome) == (True, "applied")
    assert sent(it.hear(gradient(session, 2), payload()), Verdict).unlogged  # as it is when it is told again
    assert summarize(it.state, it.now).journal_failure == "full"
    assert only(it.tick(6.0), WriteCheckpoint).rebase
    it.post(JournalBegan(2))
    it.post(CheckpointWritten(2, Path("two"), based=True))
    assert not sent(it.hear(gradient(session, 2), payload()), Verdict).unlogged
    assert summarize(it.state, it.now).journal_failure is None


def test_the_batch_under_way_is_applied_before_the_last_checkpoint() -> None:
    it = learner()
    session = it.join().session
    busy = it.hear(gradient(session), payload())
    assert every(it.post(StopRequested("SIGTERM", 0)), WriteCheckpoint) == []
    effects = it.does(busy)
    assert ruling(effects).outcome == "applied"
    assert effects.index(only(effects, WriteCheckpoint)) > effects.index(every(effects, Send)[0])


def test_99_episodes_solve_nothing() -> None:
    it = learner({"until_return": 1.0})
    it.does(it.hear(gradient(it.join().session, report=report(99, *[5.0] * 99)), payload()))
    assert it.state.progress.episodes == 99
    assert it.state.shutdown.stage is Stage.RUNNING


@pytest.mark.parametrize(("until_return", "exit_code"), [(500.0, 3), (None, 0)])
def test_a_step_limit_ends_the_run(until_return: float | None, exit_code: int) -> None:
    it = learner({"until_return": until_return, "until_steps": 100})
    it.does(it.hear(gradient(it.join().session, report=report(100)), payload()))
    assert (it.state.shutdown.solved, it.state.shutdown.final) == (False, True)
    assert it.post(CheckpointWritten(1, Path("c")))[-1] == Finish(exit_code)


def test_a_stop_is_not_final() -> None:
    it = learner()
    session = it.join().session
    effects = it.post(StopRequested("SIGTERM", 0))
    assert announced(effects) == ["draining"]
    effects = it.post(CheckpointWritten(0, Path("c")))
    goodbye = sent(effects, Goodbye)
    assert (goodbye.session, goodbye.final, effects[-1]) == (session, False, Finish(0))


def test_a_second_stop_changes_nothing() -> None:
    it = learner()
    it.post(StopRequested("nobody is left", 1))
    assert it.post(StopRequested("SIGTERM", 0)) == []
    assert it.post(CheckpointWritten(0, Path("c"))) == [
        Announce("checkpoint_written", {"version": 0, "path": "c"}),
        Finish(1),
    ]


def test_a_last_checkpoint_that_fails_is_a_failure() -> None:
    it, _, _ = solved()
    effects = it.post(CheckpointFailed(3, "disk full"))
    assert announced(effects) == ["checkpoint_failed"]
    assert effects[-1] == Finish(1)


def test_a_disk_that_hangs_does_not_keep_the_learner() -> None:
    it, _, _ = solved(drain_s=3.0)
    assert every(it.tick(3.0 + SAVE_S - 0.1), Finish) == []
    assert only(it.tick(3.0 + SAVE_S), Finish) == Finish(1)


def test_a_slow_disk_gets_the_time_that_the_last_checkpoint_takes() -> None:
    it, session, _ = solved(drain_s=3.0, silence_s=60.0)
    it.does(it.tick(15.0))
    effects = it.post(CheckpointWritten(3, Path("c")))
    assert sent(effects, Goodbye).session == session
    assert effects[-1] == Finish(0)
    assert it.state.saving.version == it.state.progress.version


def test_a_checkpoint_that_was_under_way_when_it_was_to_stop_is_waited_for_too() -> None:
    it = learner(checkpoint_interval_s=1.0, drain_s=3.0)
    session = it.join().session
    assert every(it.tick(1.0), WriteCheckpoint)
    it.applies(session, 1)
    assert every(it.post(StopRequested("SIGTERM", 0)), WriteCheckpoint) == []
    it.tick(10.0)
    assert every(it.post(CheckpointWritten(0, Path("c"))), WriteCheckpoint)
    it.tick(20.0)
    assert it.post(CheckpointWritten(1, Path("c")))[-1] == Finish(0)


def test_the_batch_of_a_slow_journal_is_waited_for_and_what_waits_behind_it_is_sent_home() -> None:
    it = learner(drain_s=3.0)
    session = it.join().session
    busy = it.hear(gradient(session), payload())
    it.hear(gradient(session, 2), payload())
    it.post(StopRequested("SIGTERM", 0))
    assert ruling(it.tick(3.0)).outcome == Reason.DRAINING
    it.tick(10.0)
    effects = it.does(busy)
    assert ruling(effects).outcome == "applied"
    assert every(effects, WriteCheckpoint)
    assert it.post(CheckpointWritten(1, Path("c")))[-1] == Finish(0)


def test_a_math_thread_that_hangs_does_not_keep_the_learner() -> None:
    it = learner(drain_s=3.0)
    it.hear(gradient(it.join().session), payload())
    it.post(StopRequested("SIGTERM", 0))
    assert every(it.tick(3.0 + SAVE_S - 0.1), Finish) == []
    assert only(it.tick(3.0 + SAVE_S), Finish) == Finish(1)


def test_no_patience_still_writes_the_last_checkpoint() -> None:
    it = learner(drain_s=0.0)
    assert every(it.post(StopRequested("SIGTERM", 0)), WriteCheckpoint)


def test_what_is_on_disk_already_is_not_written_again() -> None:
    it = learner(checkpoint_interval_s=1.0)
    it.tick(1.0)
    it.post(CheckpointWritten(0, Path("c")))
    effects = it.post(StopRequested("SIGTERM", 0))
    assert every(effects, WriteCheckpoint) == []
    assert effects[-1] == Finish(0)


# keys


def test_a_session_belongs_to_the_key_that_it_was_granted_to() -> None:
    it = learner()
    welcome = sent(it.hear(hello(1), key="one"), Welcome)
    refused = sent(it.hear(Heartbeat(welcome.session, 5, 0), route=B, key="two"), Refusal)
    assert refused.reason is Reason.UNKNOWN_SESSION
    assert it.peer.route == A
    assert not it.hear(Heartbeat(welcome.session, 5, 0), key="one")
    other = sent(it.hear(hello(1), route=B, key="two"), Welcome)  # the same instance number under another key
    assert other.session != welcome.session


def test_who_loses_its_key_loses_its_sessions() -> None:
    it = learner()
    gone, stays = (sent(it.hear(hello(n), key=key), Welcome).session for n, key in ((1, "one"), (2, "two")))
    (told,) = (effect for effect in it.post(KeysRevoked({"one": ROLES})) if isinstance(effect, Announce))
    assert (told.event, told.fields["why"]) == ("actor_left", "its key was revoked")
    assert list(it.state.peers) == [stays]
    assert sent(it.hear(Heartbeat(gone, 5, 0), key="one"), Refusal).reason is Reason.UNKNOWN_SESSION


def test_who_loses_a_role_loses_the_sessions_of_that_role_and_no_score_but_with_evaluate() -> None:
    panel = Panel()
    trains = sent(panel.it.hear(hello(60), route=b"t", key="honest"), Welcome).session
    panel.scores("honest", 480.0)
    panel.written()
    effects = panel.it.post(KeysRevoked({"honest": frozenset({"train"})}))
    assert [(told.event, told.fields["why"]) for told in every(effects, Announce)] == [
        ("actor_left", "its key may not train any more")
    ]
    assert trains not in panel.it.state.peers
    assert panel.sessions["honest"] in panel.it.state.peers
    assert panel.best() == (480.0, "honest")
    effects = panel.it.post(KeysRevoked({"honest": frozenset({"evaluate"})}))
    assert [told.fields["why"] for told in every(effects, Announce)] == ["its key may not evaluate any more"] * 2
    assert panel.best() == (None, None)


def test_books_that_disagree_are_found() -> None:
    it = learner()
    session = it.join().session
    it.state.validate()
    it.state.sessions.training += 1
    with pytest.raises(AssertionError, match="sessions counted wrong"):
        it.state.validate()
    it.state.sessions.training -= 1
    it.state.sessions.shares.leave(session)
    with pytest.raises(AssertionError, match="a share of nobody, or none"):
        it.state.validate()
    it.state.sessions.shares.join(session, 0.0)
    it.state.peers[session].ledger.pending |= set(range(1, 100))
    with pytest.raises(AssertionError, match="99 of actor are unanswered"):
        it.state.validate({session})


# what more actors would add


def rounds(it: Learner, sessions: list[int], vectors: np.ndarray, steps: int = 100, held: int | None = None) -> None:
    """The sessions' messages in turn, with a report each. held: version of all their weights; None: the newest."""
    for number, vector in enumerate(vectors):
        session, base = sessions[number % len(sessions)], it.state.progress.version if held is None else held
        told = gradient(session, number // len(sessions) + 1, base, report=report(steps))
        it.now += 0.1
        it.does(it.hear(told, payload(vector), route=b"route %d" % session))


def two(it: Learner) -> list[int]:
    return [it.join(1, A).session, it.join(2, B).session]


def test_a_fleet_collects_its_batch_between_two_reports_of_one_actor() -> None:
    """However new the weights are that a message was computed at last."""
    it = learner()
    rounds(it, two(it), np.ones((40, P)))
    progress = it.state.progress
    assert (progress.message_steps.value, progress.message_steps.count) == (100.0, 40)
    assert progress.batch_steps.value == pytest.approx((2 * 100 + 38 * 200) / 40)


def test_weights_that_lag_make_the_batch_larger() -> None:
    it = learner()
    rounds(it, two(it), np.ones((8, P)), held=0)
    assert it.state.progress.batch_steps.value == pytest.approx(100 * np.mean(np.arange(1, 9)))


def test_a_message_without_a_report_has_no_steps_and_no_batch() -> None:
    it = learner()
    session = it.join().session
    it.applies(session)
    progress = it.state.progress
    assert (progress.message_steps.value, progress.message_steps.count) == (0.0, 1)
    assert progress.batch_env_steps is None


def test_the_noise_scale_of_a_run_is_that_of_its_messages() -> None:
    it, vectors = learner(), 1.0 + np.random.default_rng(0).standard_normal((100, P)).astype(np.float32)
    rounds(it, two(it), vectors)
    pairs = [(a, b) for a, b in itertools.pairwise(vectors)]
    signal = np.mean([a @ b for a, b in pairs])
    squares = np.mean([(a @ a + b @ b) / 2 for a, b in pairs])
    noise = it.state.progress.noise
    assert noise is not None
    assert noise.told
    assert noise.messages == pytest.approx((squares - signal) / signal, rel=1e-5)
    told = scaling(it.state)
    assert told is not None
    assert told.fleet.noise_steps == pytest.approx(100 * noise.messages)
    assert told.fleet.actors == 2
    assert told.fleet.math_share == pytest.approx(0.1)


def test_one_actor_has_a_batch_and_no_noise_scale() -> None:
    it = learner()
    rounds(it, [it.join().session], np.ones((100, P)))
    assert it.state.progress.batch_env_steps == 100.0
    assert it.state.progress.noise is None
    assert scaling(it.state) is None
