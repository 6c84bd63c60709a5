"""What an actor decides about its link, one behaviour at a time: events in, effects out, a clock of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from actor.events import (
    Adopt,
    Announce,
    Configure,
    Dial,
    Effect,
    EvaluationDone,
    Event,
    FaultArrived,
    Feedback,
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
from actor.link.drain import DRAIN_S
from actor.link.weights import LEAST_UNREFLECTED
from actor.state import ActorState
from actor.stats import WorkerStats
from protocol import snapshot as records
from protocol.buffers import Buffer
from protocol.codecs.registry import codec
from protocol.errors import FrameFault, Reason
from protocol.layout import Entry, Layout
from protocol.messages import (
    AnyMessage,
    Evaluation,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Refusal,
    Report,
    Role,
    Ruling,
    Snapshot,
    SnapshotRequest,
    Updates,
    Verdict,
    Welcome,
)
from protocol.session import SPAN, Phase
from protocol.updates import Entry as Applied
from protocol.updates import pack, theta_digest

LAYOUT = Layout((Entry("w", (2,)),))
INSTANCE = 77
WELCOME = Welcome(
    instance=INSTANCE,
    run="run",
    epoch=1,
    session=9,
    ordinal=0,
    seed=0,
    credit=2,
    heartbeat_s=1.0,
    silence_s=5.0,
    quantity="update",
    weights="tcp://*:5",
    layout=LAYOUT,
    table=b"",
    table_digest=bytes(8),
)
NEXT_LIFE = msgspec.structs.replace(WELCOME, epoch=2, session=10)
ANOTHER_RUN = msgspec.structs.replace(WELCOME, run="another", session=11, seed=1)

E = TypeVar("E")


class Actor:
    """A state under a clock that only the test moves."""

    def __init__(self, seed: int = 0, role: Role = "train", give_up_after_s: float = math.inf) -> None:
        self.now = 0.0
        self.state = ActorState(Identity("me", INSTANCE, role), "tcp://learner:1", Random(seed), give_up_after_s)

    def post(self, event: Event) -> list[Effect]:
        effects = self.state.handle(event, self.now)
        self.state.validate()
        return effects

    def hear(self, message: AnyMessage, buffers: Sequence[Buffer] = ()) -> list[Effect]:
        return self.post(MessageArrived(message, buffers))

    def tick(self, now: float, env_steps: int = 0) -> list[Effect]:
        self.now = now
        return self.post(Ticked(WorkerStats(env_steps=env_steps)))

    def snapshot(self, version: int, epoch: int = 1) -> list[Effect]:
        return self.hear(*key(version, epoch))

    def hands_in(self, base_version: int = 0, epoch: int = 1) -> list[Effect]:
        return self.post(WorkDone(work(base_version, epoch)))

    def alive_until(self, now: float) -> None:
        """Hears heartbeats every second and keeps what it says to itself."""
        while self.now < now:
            self.now = min(now, self.now + 1.0)
            self.hear(Heartbeat(9, 0, 0))


def dialling(give_up_after_s: float = math.inf) -> Actor:
    actor = Actor(give_up_after_s=give_up_after_s)
    actor.post(Started())
    return actor


def active(welcome: Welcome = WELCOME, give_up_after_s: float = math.inf) -> Actor:
    """Welcomed, built, with weights of version 0."""
    actor = dialling(give_up_after_s)
    actor.hear(welcome)
    actor.post(WorkerReady())
    actor.snapshot(0, welcome.epoch)
    return actor


def key(version: int, epoch: int = 1) -> tuple[Snapshot, Sequence[Buffer]]:
    return records.key_frame(epoch, version, LAYOUT.digest, np.full(2, version, np.float32))


def work(base_version: int = 0, epoch: int = 1) -> Work:
    encoded = codec("f32").encode(np.ones(2, np.float32))
    return Work(epoch, base_version, "f32", 2, encoded.count, encoded.buffer, np.ones(2, np.float32), Report(4))


def verdict(*sequences: int, outcome: str = "applied", session: int = 9, credit: int = 2) -> Verdict:
    return Verdict(session, credit, tuple(Ruling(sequence, outcome, 1) for sequence in sequences))


def every(effects: list[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def only(effects: list[Effect], kind: type[E]) -> E:
    (found,) = every(effects, kind)
    return found


def messages(effects: list[Effect], kind: type[E]) -> list[E]:
    return [send.message for send in every(effects, Send) if isinstance(send.message, kind)]


def sequences(effects: list[Effect]) -> list[int]:
    return [gradient.sequence for gradient in messages(effects, Gradient)]


def announced(effects: list[Effect]) -> list[str]:
    return [announce.event for announce in every(effects, Announce)]


# finding a learner


def test_it_dials_and_says_hello() -> None:
    effects = Actor().post(Started())
    assert isinstance(effects[0], Dial)
    (hello,) = messages(effects, Hello)
    assert (hello.name, hello.instance) == ("me", INSTANCE)
    assert {"f32", "topk_i8"} <= set(hello.codecs)


def waits(seed: int, attempts: int) -> list[float]:
    """Seconds between one hello and the next while nobody answers."""
    actor = Actor(seed)
    actor.post(Started())
    times = [0.0]
    while len(times) <= attempts:
        if every(actor.tick(actor.now + 0.01), Dial):
            times.append(actor.now)
    return [later - earlier for earlier, later in pairwise(times)]


def test_back_off_doubles_up_to_a_bound() -> None:
    for n, wait in enumerate(waits(seed=1, attempts=8)):
        middle = min(15.0, 0.5 * 2**n)
        assert 0.5 * middle <= wait <= 1.5 * middle + 0.02


def test_back_off_is_jittered() -> None:
    assert waits(1, 3) != waits(2, 3)


def test_a_learner_that_is_away_for_days_is_waited_for() -> None:
    actor = dialling()
    for n in range(3000):
        actor.tick(n * 30.0)
    assert actor.state.phase is Phase.GREETING


def test_it_says_that_it_waits() -> None:
    actor = dialling()
    told = [line for n in range(1, 200) for line in announced(actor.tick(n * 0.5))]
    assert told
    assert set(told) == {"waiting_for_learner"}


def test_it_gives_up_where_it_was_told_to() -> None:
    actor = Actor(give_up_after_s=60.0)
    actor.post(Started())
    assert actor.tick(59.9) != []
    effects = actor.tick(60.0)
    assert only(effects, Announce).fields["waited"] == "no learner for 1 min"
    assert (announced(effects), only(effects, Finish).exit_code) == (["gave_up"], 75)
    assert actor.tick(99.0) == []


def test_who_waits_says_that_a_learner_refused_it_until_there_is_a_session() -> None:
    actor = dialling()
    actor.hear(Refusal("unexpected_message", "this key may not train"))
    backoff = actor.state.backoff
    assert backoff.log_fields(1.0)["why"] == "the learner refused: this key may not train"
    backoff.end()
    assert "why" not in backoff.log_fields(1.0)


def test_a_learner_that_came_and_went_is_waited_for_anew() -> None:
    actor = active(give_up_after_s=60.0)
    actor.alive_until(100.0)
    actor.tick(106.0)
    assert actor.state.phase is Phase.OFFLINE
    assert not [effect for effect in actor.tick(165.9) if isinstance(effect, Finish)]
    assert only(actor.tick(166.0), Finish).exit_code == 75


def test_weights_that_flow_tell_that_a_hello_would_be_heard() -> None:
    actor = active()
    for n in range(80):  # silence, and hellos that are further and further apart
        actor.tick(10.0 + n * 0.5)
    assert actor.state.backoff.hello_at - actor.now > 2.0
    actor.hear(*key(3))
    assert actor.state.phase is Phase.GREETING
    told = [effect for _ in range(4) for effect in actor.tick(actor.now + 0.5)]
    assert len(messages(told, Hello)) == 1


def test_a_welcome_configures_subscribes_and_ends_the_waiting() -> None:
    actor = dialling()
    effects = actor.hear(WELCOME)
    assert only(effects, Configure).welcome == WELCOME
    assert only(effects, Subscribe).address == "tcp://*:5"
    assert announced(effects) == ["welcomed"]
    assert every(actor.tick(1.0), Dial) == []


def test_a_welcome_for_another_actor_is_no_welcome() -> None:
    actor = dialling()
    effects = actor.hear(msgspec.structs.replace(WELCOME, instance=1))
    assert (announced(effects), actor.state.phase) == (["fault"], Phase.GREETING)


@pytest.mark.parametrize("reason", [Reason.DRAINING, Reason.UNKNOWN_SESSION, Reason.OVER_QUOTA])
def test_a_refused_hello_is_said_again_later(reason: Reason) -> None:
    actor = dialling()
    assert announced(actor.hear(Refusal(reason, "not now"))) == ["refused"]
    assert every(actor.tick(100.0), Dial)


def test_another_protocol_version_is_no_use_waiting_for() -> None:
    assert only(dialling().hear(Refusal(Reason.WRONG_PROTOCOL, "")), Finish) == Finish(2)


def test_a_learner_of_another_version_refuses_in_its_own() -> None:
    fault = FaultArrived(FrameFault(Reason.WRONG_PROTOCOL, "version 2"))
    assert only(dialling().post(fault), Finish) == Finish(2)
    assert every(active().post(fault), Finish) == []


@pytest.mark.parametrize("reason", [Reason.MALFORMED_FRAME, Reason.UNKNOWN_KIND])
def test_garbage_is_told_and_not_fatal(reason: Reason) -> None:
    actor = active()
    assert announced(actor.post(FaultArrived(FrameFault(reason, "?")))) == ["fault"]
    assert actor.state.phase is Phase.ACTIVE


# weights


def test_a_ready_worker_asks_for_weights_and_gets_them_with_its_permits() -> None:
    actor = dialling()
    assert every(actor.hear(WELCOME), Permit) == []
    assert messages(actor.post(WorkerReady()), SnapshotRequest) == [SnapshotRequest(9)]
    effects = actor.snapshot(3)
    weights = only(effects, Adopt).weights
    assert (weights.epoch, weights.version, weights.theta.tolist()) == (1, 3, [3.0, 3.0])
    assert only(effects, Permit).credit == 2


def test_weights_before_the_network_is_built_are_passed_over() -> None:
    actor = dialling()
    actor.hear(WELCOME)
    assert actor.snapshot(3) == []


def test_older_weights_are_not_adopted() -> None:
    actor = active()
    actor.snapshot(5)
    assert actor.snapshot(4) == actor.snapshot(5) == []


def test_weights_of_an_earlier_life_are_fenced_off() -> None:
    actor = active(NEXT_LIFE)
    assert actor.snapshot(99, epoch=1) == []
    assert every(actor.snapshot(1, epoch=2), Adopt)


def delta(base_version: int) -> list[Any]:
    held = key(base_version)[0]
    return list(records.delta(held, base_version + 1, "f32", codec("f32").encode(np.ones(2, np.float32))))


def test_a_gap_asks_for_a_key_once_per_heartbeat() -> None:
    actor = active()
    assert messages(actor.hear(*delta(4)), SnapshotRequest) == [SnapshotRequest(9)]
    assert actor.hear(*delta(5)) == []
    actor.now = 1.0
    assert messages(actor.hear(*delta(6)), SnapshotRequest) == [SnapshotRequest(9)]
    assert every(actor.snapshot(7), Adopt)
    assert every(actor.hear(*delta(7)), Adopt)


def updates(base_version: int, version: int, epoch: int = 1) -> tuple[Updates, list[bytes]]:
    """Each update takes 1 from both parameters."""
    encoded = codec("f32").encode(np.ones(2, np.float32))
    applied, payload = pack([Applied("f32", 2, encoded.buffer, 1.0)] * (version - base_version))
    return Updates(epoch, version, base_version, LAYOUT.digest, 2, applied), [payload]


BEHIND = WELCOME.credit_lag


def applied(actor: Actor, *versions: int) -> list[Effect]:
    """One gradient after the other makes these versions while no record comes; what the last verdict leads to."""
    effects: list[Effect] = []
    for version in versions:
        actor.hands_in()
        effects = actor.hear(Verdict(9, 2, (Ruling(actor.state.gradients.sent, "applied", version),)))
    return effects


def test_gradients_stop_while_weights_do_not_show_what_they_did() -> None:
    """Or they would all be taken at one θ, each a repetition of the step before."""
    actor = active()
    assert every(applied(actor, *range(1, BEHIND)), Permit) == []
    assert only(applied(actor, BEHIND), Permit).credit == 0
    effects = actor.snapshot(1)  # shows one of them
    assert (only(effects, Permit).credit, len(every(effects, Adopt))) == (2, 1)


def test_the_learner_says_how_far_weights_may_be_behind() -> None:
    actor = active(msgspec.structs.replace(WELCOME, credit_lag=6))
    assert every(applied(actor, *range(1, 6)), Permit) == []
    assert only(applied(actor, 6), Permit).credit == 0


def test_what_others_did_stops_nobody_before_some_of_it_was_ones_own() -> None:
    """In a large fleet much is always on its way."""
    actor = active()
    others = range(100, 100 * LEAST_UNREFLECTED, 100)
    assert every(applied(actor, *others), Permit) == []
    assert only(applied(actor, 100 * LEAST_UNREFLECTED), Permit).credit == 0


def test_rulings_that_come_out_of_order_are_shown_by_the_same_weights() -> None:
    actor = active()
    applied(actor, BEHIND + 1, *range(1, BEHIND))
    assert only(actor.snapshot(BEHIND), Permit).credit == 2
    assert actor.state.weight_cache is not None
    assert actor.state.weight_cache.unreflected == 1


def test_weights_without_which_nothing_is_made_are_asked_for_where_they_were_published() -> None:
    """A stream of which little comes because little is published, a thin one, is not pressed for keys."""
    actor = active()
    assert messages(applied(actor, *range(1, BEHIND + 1)), SnapshotRequest) == []
    assert actor.hear(Heartbeat(9, 0, 0)) == []
    assert actor.hear(Heartbeat(9, BEHIND, BEHIND)) == []  # it may be under way
    assert messages(actor.hear(Heartbeat(9, BEHIND, BEHIND)), SnapshotRequest) == [SnapshotRequest(9)]


def test_gradients_that_made_no_version_of_their_own_stop_nobody() -> None:
    actor = active()
    for sequence in range(1, 2 * BEHIND):
        actor.hands_in()
        assert not every(actor.hear(Verdict(9, 2, (Ruling(sequence, Reason.STALE_UPDATES, 99),))), Permit)
    assert not every(applied(actor, *(0 for _ in range(2 * BEHIND))), Permit)


def test_another_life_begins_with_nothing_unseen() -> None:
    actor = active()
    applied(actor, *range(1, BEHIND + 1))
    actor.hear(NEXT_LIFE)
    assert only(actor.snapshot(0, epoch=2), Permit).credit == 2


def test_who_is_stopped_while_weights_lag_hands_in_what_is_held_back() -> None:
    actor = active()
    applied(actor, *range(1, BEHIND + 1))
    assert every(actor.post(StopRequested("SIGTERM")), Leave)
    assert sequences(actor.post(LastWorkDone(work()))) == [BEHIND + 1]


def test_a_heartbeat_asks_for_what_should_have_come_since_the_one_before() -> None:
    actor = active()
    assert actor.hear(Heartbeat(9, 5, 5)) == []  # it may be under way
    assert messages(actor.hear(Heartbeat(9, 6, 6)), SnapshotRequest) == [SnapshotRequest(9)]


def test_a_heartbeat_asks_for_nothing_that_has_come() -> None:
    actor = active()
    actor.hear(Heartbeat(9, 5, 5))
    actor.snapshot(5)
    assert actor.hear(Heartbeat(9, 6, 6)) == []


def test_updates_are_followed_from_a_key_on() -> None:
    actor = active()
    actor.snapshot(5)
    weights = only(actor.hear(*updates(5, 7)), Adopt).weights
    assert (weights.version, weights.theta.tolist()) == (7, [3.0, 3.0])
    assert actor.hear(*updates(5, 7)) == []


def test_updates_that_overtook_their_key_are_kept_for_it() -> None:
    actor = active()
    assert messages(actor.hear(*updates(5, 6)), SnapshotRequest) == [SnapshotRequest(9)]
    assert actor.hear(*updates(6, 7)) == []
    weights = only(actor.snapshot(5), Adopt).weights
    assert (weights.version, weights.theta.tolist()) == (7, [3.0, 3.0])


def test_a_record_behind_which_another_waits_is_taken_and_not_handed_on() -> None:
    actor = active()
    actor.snapshot(5)
    record, buffers = updates(5, 6)
    assert actor.post(MessageArrived(record, buffers, followed=True)) == []
    weights = only(actor.hear(*updates(6, 7)), Adopt).weights
    assert (weights.version, weights.theta.tolist()) == (7, [3.0, 3.0])


def test_what_was_passed_by_is_handed_on_when_nothing_good_follows() -> None:
    actor = active()
    actor.snapshot(5)
    record, buffers = updates(5, 6)
    actor.post(MessageArrived(record, buffers, followed=True))
    effects = actor.hear(*updates(8, 9))
    assert only(effects, Adopt).weights.version == 6
    assert messages(effects, SnapshotRequest) == [SnapshotRequest(9)]


def test_a_key_that_travels_for_long_is_asked_for_more_and_more_seldom() -> None:
    actor = active()
    asked = []
    actor.hear(*updates(50, 51))
    for tenth in range(1, 200):
        actor.now = tenth / 10
        if messages(actor.hear(*updates(50 + tenth, 51 + tenth)), SnapshotRequest):
            asked.append(actor.now)
    assert asked == [1.0, 3.0, 7.0, 15.0]


def test_other_bits_than_the_learners_are_told_and_replaced() -> None:
    actor = active()
    actor.snapshot(5)
    record, buffers = updates(5, 6)
    effects = actor.hear(msgspec.structs.replace(record, digest=bytes(8)), buffers)
    assert announced(effects) == ["diverged"]
    assert messages(effects, SnapshotRequest) == [SnapshotRequest(9)]
    assert only(effects, Permit).credit == 0
    assert not actor.state.weight_cache.target.held  # type: ignore[union-attr]
    after = actor.snapshot(6)
    assert only(after, Adopt).weights.theta.tolist() == [6.0, 6.0]
    assert only(after, Permit).credit == 2


def test_the_right_bits_have_the_right_digest() -> None:
    actor = active()
    actor.snapshot(5)
    record, buffers = updates(5, 6)
    told = msgspec.structs.replace(record, digest=theta_digest(np.full(2, 4, np.float32)))
    assert only(actor.hear(told, buffers), Adopt).weights.version == 6


def test_weights_for_another_network_are_a_fault() -> None:
    actor = active()
    other = Layout((Entry("v", (2,)),)).digest
    assert announced(actor.hear(*records.key_frame(1, 9, other, np.zeros(2, np.float32)))) == ["fault"]


def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    actor = dialling()
    actor.hear(WELCOME)
    actor.post(WorkerReady())
    assert messages(actor.tick(0.9), SnapshotRequest) == []
    assert messages(actor.tick(2.0), SnapshotRequest) == [SnapshotRequest(9)]


# the target network


def targeted(version: int, target: int, env_steps: int = 0, epoch: int = 1) -> tuple[Snapshot, Sequence[Buffer]]:
    record, buffers = key(version, epoch)
    return msgspec.structs.replace(record, target=target, env_steps=env_steps), buffers


def ready() -> Actor:
    """Welcomed and built, without weights."""
    actor = dialling()
    actor.hear(WELCOME)
    actor.post(WorkerReady())
    return actor


def held(effects: list[Effect]) -> tuple[int, int | None, list[float] | None]:
    weights = only(effects, Adopt).weights
    return weights.version, weights.target_version, None if weights.target is None else weights.target.tolist()


def test_weights_of_a_run_without_a_target_have_none() -> None:
    actor = ready()
    weights = only(actor.snapshot(3), Adopt).weights
    assert (weights.target, weights.target_version, weights.env_steps) == (None, None, 0)


def test_a_record_that_is_its_own_target_is_both() -> None:
    effects = ready().hear(*targeted(4, 4, env_steps=900))
    weights = only(effects, Adopt).weights
    assert (held(effects), weights.env_steps, only(effects, Permit).credit) == ((4, 4, [4.0, 4.0]), 900, 2)
    assert weights.target is weights.theta  # no second copy
    assert messages(effects, SnapshotRequest) == []


def test_no_work_begins_before_the_target_is_here() -> None:
    actor = ready()
    effects = actor.hear(*targeted(7, 4))
    assert (every(effects, Adopt), every(effects, Permit)) == ([], [])
    assert messages(effects, SnapshotRequest) == [SnapshotRequest(9, True)]
    effects = actor.hear(*targeted(4, 4))
    assert held(effects) == (7, 4, [4.0, 4.0])
    assert only(effects, Permit).credit == 2


def test_the_old_target_serves_until_the_new_one_is_here() -> None:
    actor = ready()
    actor.hear(*targeted(0, 0))
    effects = actor.hear(*targeted(7, 5))
    assert held(effects) == (7, 0, [0.0, 0.0])
    assert messages(effects, SnapshotRequest) == [SnapshotRequest(9, True)]
    assert held(actor.hear(*targeted(8, 5))) == (8, 0, [0.0, 0.0])
    assert held(actor.hear(*targeted(5, 5))) == (8, 5, [5.0, 5.0])
    assert actor.hear(*targeted(5, 5)) == []


def test_a_target_is_asked_for_once_per_heartbeat_until_it_comes() -> None:
    actor = ready()
    actor.hear(*targeted(7, 4))
    assert messages(actor.hear(*targeted(8, 4)), SnapshotRequest) == []
    assert messages(actor.tick(0.9), SnapshotRequest) == []
    assert messages(actor.tick(2.0), SnapshotRequest) == [SnapshotRequest(9, True)]
    actor.hear(*targeted(4, 4))
    assert messages(actor.tick(4.0), SnapshotRequest) == []


def test_a_newer_target_than_the_one_asked_for_serves_as_well() -> None:
    actor = ready()
    actor.hear(*targeted(7, 4))
    assert held(actor.hear(*targeted(9, 9))) == (9, 9, [9.0, 9.0])
    assert messages(actor.tick(2.0), SnapshotRequest) == []


def test_the_target_of_an_earlier_life_counts_for_nothing() -> None:
    actor = ready()
    actor.hear(*targeted(9, 9))
    actor.tick(5.1)
    actor.tick(5.2)
    actor.hear(NEXT_LIFE)
    assert actor.hear(*targeted(9, 9)) == []
    assert every(actor.hear(*targeted(6, 3, epoch=2)), Adopt) == []
    assert held(actor.hear(*targeted(3, 3, epoch=2))) == (6, 3, [3.0, 3.0])


# evaluating


def judge() -> Actor:
    """Evaluates; welcomed and built, without weights."""
    actor = Actor(role="evaluate")
    actor.post(Started())
    actor.hear(WELCOME)
    actor.post(WorkerReady())
    return actor


def done(version: int, epoch: int | None = None) -> EvaluationDone:
    return EvaluationDone(version, 10, 200.0, 5.0, 3.0, 7, epoch)


def test_an_evaluating_actor_says_so_and_asks_for_one_snapshot() -> None:
    actor = Actor(role="evaluate")
    (hello,) = messages(actor.post(Started()), Hello)
    assert hello.role == "evaluate"
    assert every(actor.hear(WELCOME), Subscribe) == []
    assert messages(actor.post(WorkerReady()), SnapshotRequest) == [SnapshotRequest(9)]
    effects = actor.snapshot(3)
    assert only(effects, Adopt).weights.version == 3
    assert every(effects, Permit) == []


def test_heartbeats_of_newer_weights_do_not_interrupt_an_evaluation() -> None:
    actor = judge()
    actor.snapshot(3)
    assert actor.hear(Heartbeat(9, 5, 8)) == []
    assert messages(actor.tick(2.0), SnapshotRequest) == []


def test_a_score_is_told_and_the_next_snapshot_asked_for() -> None:
    actor = judge()
    actor.snapshot(3)
    effects = actor.post(done(3))
    assert [send.message for send in every(effects, Send)] == [
        Evaluation(9, 3, 10, 200.0, 5.0, 3.0, 7),
        SnapshotRequest(9),
    ]
    assert only(actor.snapshot(5), Adopt).weights.version == 5
    assert messages(actor.tick(2.0), SnapshotRequest) == []


def test_weights_that_are_not_newer_are_asked_for_again_at_the_next_heartbeat() -> None:
    actor = judge()
    actor.snapshot(3)
    actor.post(done(3))
    assert actor.snapshot(3) == []
    assert messages(actor.tick(0.5), SnapshotRequest) == []
    assert messages(actor.tick(1.0), SnapshotRequest) == [SnapshotRequest(9)]
    assert actor.snapshot(3) == []
    assert messages(actor.tick(2.0), SnapshotRequest) == [SnapshotRequest(9)]
    assert every(actor.snapshot(4), Adopt)
    assert messages(actor.tick(3.0), SnapshotRequest) == []


def test_who_only_watches_asks_for_the_next_snapshot_without_a_score() -> None:
    actor = judge()
    assert messages(actor.post(WeightsWanted()), SnapshotRequest) == [SnapshotRequest(9)]
    actor.snapshot(3)
    effects = actor.post(WeightsWanted())
    assert [send.message for send in every(effects, Send)] == [SnapshotRequest(9)]
    actor.snapshot(3)
    assert messages(actor.tick(1.0), SnapshotRequest) == [SnapshotRequest(9)]
    assert only(actor.snapshot(5), Adopt).weights.version == 5


def test_who_watches_a_link_that_is_down_asks_when_it_is_up() -> None:
    actor = judge()
    actor.snapshot(3)
    actor.tick(5.1)
    assert actor.post(WeightsWanted()) == []
    actor.tick(5.2)
    assert messages(actor.hear(WELCOME), SnapshotRequest) == [SnapshotRequest(9)]


def test_a_target_network_means_nothing_to_an_evaluation() -> None:
    effects = judge().hear(*targeted(7, 4))
    assert held(effects) == (7, None, None)
    assert messages(effects, SnapshotRequest) == []


def test_a_score_of_other_weights_than_are_held_is_not_told() -> None:
    actor = judge()
    actor.snapshot(3)
    assert actor.post(done(2)) == []
    assert actor.post(done(3, epoch=2)) == []
    assert messages(actor.post(done(3, epoch=1)), Evaluation)


def test_a_score_that_comes_while_the_link_is_down_is_lost_and_the_next_one_is_not() -> None:
    actor = judge()
    actor.snapshot(3)
    actor.tick(5.1)
    assert actor.post(done(3)) == []
    actor.tick(5.2)
    assert messages(actor.hear(WELCOME), SnapshotRequest) == [SnapshotRequest(9)]


def test_another_life_of_the_learner_is_evaluated_anew() -> None:
    actor = judge()
    actor.snapshot(3)
    actor.tick(5.1)
    actor.tick(5.2)
    assert messages(actor.hear(NEXT_LIFE), SnapshotRequest) == [SnapshotRequest(10)]
    assert actor.post(done(3)) == []
    assert only(actor.snapshot(3, epoch=2), Adopt).weights.epoch == 2


def test_an_evaluating_actor_sends_no_gradients() -> None:
    actor = judge()
    actor.snapshot(3)
    assert messages(actor.hands_in(3), Gradient) == []


def test_an_evaluating_actor_that_is_stopped_says_goodbye() -> None:
    actor = judge()
    actor.snapshot(3)
    assert messages(actor.post(StopRequested("SIGTERM")), Goodbye)


# gradients


def test_gradients_are_numbered_and_carry_their_report() -> None:
    actor = active()
    (first,) = messages(actor.hands_in(base_version=0), Gradient)
    (second,) = messages(actor.hands_in(base_version=0), Gradient)
    assert (first.sequence, second.sequence, first.session, first.report) == (1, 2, 9, Report(4))


def test_an_applied_gradient_returns_its_permit() -> None:
    actor = active()
    actor.hands_in()
    settled = only(actor.hear(verdict(1)), Settle)
    assert (settled.restore, actor.state.gradients.applied, actor.state.gradients.refused) == (False, 1, 0)


@pytest.mark.parametrize(
    ("outcome", "restore"),
    [
        (Reason.STALE_UPDATES, True),
        (Reason.STALE_SECONDS, True),
        (Reason.DRAINING, True),
        (Reason.OVERDRAWN, True),
        (Reason.OVER_QUOTA, True),
        (Reason.QUARANTINED, False),
        (Reason.NOT_FINITE, False),
        (Reason.NORM_EXCEEDED, False),
        (Reason.MALFORMED_PAYLOAD, False),
        (Reason.DUPLICATE, False),
        ("a_reason_of_the_future", False),
    ],
)
def test_refused_work_goes_back_unless_it_is_beyond_repair(outcome: str, restore: bool) -> None:
    actor = active()
    actor.hands_in()
    assert only(actor.hear(verdict(1, outcome=outcome)), Settle).restore is restore
    assert actor.state.gradients.refused == 1


def test_a_verdict_told_twice_settles_once() -> None:
    actor = active()
    actor.hands_in()
    actor.hear(verdict(1))
    assert actor.hear(verdict(1)) == []


def test_a_verdict_of_another_session_is_fenced_off() -> None:
    actor = active()
    actor.hands_in()
    assert actor.hear(verdict(1, session=8)) == []


def test_other_credit_is_other_permits() -> None:
    actor = active()
    actor.hands_in()
    assert only(actor.hear(verdict(1, credit=5)), Permit).credit == 5


def test_work_of_an_earlier_life_is_put_back_and_not_sent() -> None:
    actor = active(NEXT_LIFE)
    effects = actor.hands_in(epoch=1)
    assert (only(effects, Settle).restore, messages(effects, Gradient)) == (True, [])


def test_permits_shrink_while_an_old_answer_is_missing() -> None:
    """The window of numbers is bounded, so the worker must not be let on although credit is left."""
    actor = active()
    actor.hands_in()
    permits: list[Permit] = []
    for sequence in range(2, SPAN * 2 + 1):
        permits += every(actor.hands_in(), Permit)
        permits += every(actor.hear(verdict(sequence)), Permit)
    assert permits[-1].credit == 1
    unsent = actor.hands_in()  # it was under way already
    assert (only(unsent, Settle).restore, messages(unsent, Gradient)) == (True, [])
    assert every(actor.hear(verdict(1)), Permit)[-1].credit == 2
    assert sequences(actor.hands_in()) == [5]


def test_an_overdue_gradient_is_sent_again_under_its_number() -> None:
    actor = active()
    first = actor.hands_in()
    actor.alive_until(6.0)
    again = actor.tick(6.0)
    assert messages(again, Gradient) == messages(first, Gradient)
    assert every(again, Send)[0].buffers == every(first, Send)[0].buffers
    assert sequences(actor.tick(6.1)) == []


# its share of the run


def with_share(share: float, session: int = 9) -> Heartbeat:
    return Heartbeat(session, 0, 0, share=share)


def shared(effects: list[Effect]) -> list[float]:
    return [told.share for told in every(effects, Share)]


def test_a_share_is_told_by_the_welcome_and_by_heartbeats_once_each_time_that_it_changes() -> None:
    actor = dialling()
    assert shared(actor.hear(msgspec.structs.replace(WELCOME, share=0.5))) == [0.5]
    actor.post(WorkerReady())
    told = [shared(actor.hear(with_share(share))) for share in (0.5, 0.25, 0.25, 0.125, 0.5)]
    assert told == [[], [0.25], [], [0.125], [0.5]]


def test_a_learner_that_knows_of_no_shares_tells_none() -> None:
    actor = dialling()
    assert shared(actor.hear(WELCOME)) == []
    assert shared(actor.hear(Heartbeat(9, 0, 0))) == []


def test_a_heartbeat_tells_a_share_and_asks_for_weights() -> None:
    actor = active(msgspec.structs.replace(WELCOME, share=1.0))
    actor.hear(Heartbeat(9, 3, 3, share=1.0))
    actor.now = 2.0
    effects = actor.hear(Heartbeat(9, 3, 3, share=0.5))
    assert shared(effects) == [0.5]
    assert len(messages(effects, SnapshotRequest)) == 1


def test_a_share_of_another_session_is_fenced_off() -> None:
    assert shared(active().hear(with_share(0.5, session=8))) == []


def test_a_welcome_back_to_the_same_session_tells_what_has_changed() -> None:
    """The learner does not say it again."""
    actor = active(msgspec.structs.replace(WELCOME, share=0.5))
    actor.tick(5.1)
    actor.tick(7.0)
    assert actor.state.phase is Phase.GREETING
    assert shared(actor.hear(msgspec.structs.replace(WELCOME, share=0.25))) == [0.25]


def test_a_new_session_has_a_share_of_its_own_which_the_worker_hears_before_it_may_go_on() -> None:
    actor = active(msgspec.structs.replace(WELCOME, share=0.5))
    actor.hands_in()
    actor.tick(5.1)
    actor.tick(7.0)
    effects = actor.hear(msgspec.structs.replace(NEXT_LIFE, share=1.0))
    assert shared(effects) == [1.0]
    actor.tick(13.0)
    actor.tick(15.0)
    assert shared(actor.hear(msgspec.structs.replace(NEXT_LIFE, epoch=3, session=11))) == [0.0]  # of an older version


# silence, and coming back


def test_heartbeats_tell_of_the_link() -> None:
    actor = active()
    actor.tick(1.0)
    actor.hands_in()
    actor.now = 1.5
    actor.hear(verdict(1))
    actor.now = 2.0
    (beat,) = messages(actor.post(Ticked(WorkerStats(wait_s=0.4))), Heartbeat)
    assert [beat.round_trip_s, beat.work_s] == pytest.approx([0.5, 0.6])


def test_heartbeats_tell_where_the_time_went() -> None:
    actor = active()
    actor.now = 1.0
    worker = WorkerStats(collect_s=1.5, learn_s=0.25, compress_s=0.125, wait_s=0.4, residual_age=12.4)
    (beat,) = messages(actor.post(Ticked(worker)), Heartbeat)
    assert (beat.collect_ms, beat.learn_ms, beat.compress_ms, beat.wait_ms) == (1500, 250, 125, 400)
    assert beat.residual_age == 12


def test_heartbeats_tell_of_progress() -> None:
    actor = active()
    actor.snapshot(4)
    assert messages(actor.tick(1.0, env_steps=50), Heartbeat) == [Heartbeat(9, 50, 4)]
    assert messages(actor.tick(1.5, env_steps=60), Heartbeat) == []


@pytest.mark.parametrize("welcome", [WELCOME, NEXT_LIFE, ANOTHER_RUN])
def test_a_learner_hears_how_far_the_actor_is_before_any_gradient(welcome: Welcome) -> None:
    """A report may hold episodes that began in an earlier session, and a learner that starts again knows no step."""
    actor = lost()
    actor.tick(5.25, env_steps=70)
    sent = [each.message for each in every(actor.hear(welcome), Send)]
    assert isinstance(sent[0], Heartbeat)
    assert (sent[0].session, sent[0].progress) == (welcome.session, 70)
    assert not any(isinstance(message, Heartbeat) for message in sent[1:])


def test_a_silent_learner_is_lost_and_dialled_again() -> None:
    actor = active()
    assert announced(actor.tick(5.0)) == []
    lost = actor.tick(5.1)
    assert (announced(lost), only(lost, Permit).credit) == (["learner_lost"], 0)
    again = actor.tick(5.2)
    assert isinstance(again[0], Dial)
    assert messages(again, Hello)[0].instance == INSTANCE


def test_a_key_that_takes_longer_than_silence_is_waited_for_in_the_end() -> None:
    """Nothing can be heard behind it: with the same patience each time the link would be given up for ever."""
    actor = dialling()
    actor.hear(WELCOME)
    actor.post(WorkerReady())  # asks for the first key
    assert announced(actor.tick(5.1)) == ["learner_lost"]
    actor.tick(5.2)
    assert messages(actor.hear(WELCOME), SnapshotRequest) == [SnapshotRequest(9)]
    assert announced(actor.tick(15.2)) == []
    assert only(actor.snapshot(3), Permit).credit == 2
    actor.alive_until(20.0)
    assert announced(actor.tick(30.1)) == ["learner_lost"]  # the link is known to be thin, and so the patience stays


def test_a_welcome_that_comes_twice_makes_nobody_more_patient() -> None:
    actor = dialling()
    actor.hear(WELCOME)
    actor.post(WorkerReady())
    actor.hear(WELCOME)
    assert announced(actor.tick(5.1)) == ["learner_lost"]


def lost() -> Actor:
    """With one gradient unanswered, and dialling again."""
    actor = active()
    actor.hands_in()
    actor.tick(5.1)
    actor.tick(5.2)
    return actor


def test_the_same_session_goes_on_where_it_was() -> None:
    actor = lost()
    actor.now = 6.0
    effects = actor.hear(WELCOME)
    assert sequences(effects) == [1]
    assert not every(effects, Configure)
    assert not every(effects, Settle)
    assert only(effects, Permit).credit == 2
    assert actor.state.gradients.lost == 0
    assert sequences(actor.hands_in()) == [2]


def test_another_session_gives_up_what_is_unanswered() -> None:
    actor = lost()
    effects = actor.hear(NEXT_LIFE)
    assert (only(effects, Settle).restore, actor.state.gradients.lost) == (False, 1)
    assert every(effects, Configure) == []  # the same job: the worker goes on
    assert messages(effects, SnapshotRequest) == [SnapshotRequest(10)]
    assert every(effects, Permit) == []  # none before there are weights of this life
    assert only(actor.snapshot(0, epoch=2), Permit).credit == 2
    assert sequences(actor.hands_in(epoch=2)) == [1]


def test_another_run_builds_the_worker_anew() -> None:
    actor = lost()
    effects = actor.hear(ANOTHER_RUN)
    assert only(effects, Configure).welcome == ANOTHER_RUN
    assert messages(effects, SnapshotRequest) == []


@pytest.mark.parametrize(
    "changed", [{"learning_rate": 0.5}, {"anneal_steps": 9}, {"anneal_floor": 0.5}, {"anneal_points": ((0, 0.5),)}]
)
def test_a_run_that_goes_on_with_another_rate_builds_the_worker_anew(changed: dict[str, Any]) -> None:
    """By the rate that it was built with it would take its own updates for longer or shorter than they are."""
    welcome = msgspec.structs.replace(NEXT_LIFE, **changed)
    assert only(lost().hear(welcome), Configure).welcome == welcome


def test_work_for_another_run_goes_nowhere() -> None:
    """It was under way when the run changed; its epoch and its length may be the same, its residual is not."""
    actor = lost()
    actor.hear(ANOTHER_RUN)
    effects = actor.hands_in(epoch=1)
    assert (only(effects, Settle).restore, messages(effects, Gradient)) == (False, [])


def test_work_that_finishes_while_the_link_is_down_is_put_back() -> None:
    assert only(lost().hands_in(), Settle).restore


def test_weights_that_flow_on_while_the_link_is_down_are_passed_over() -> None:
    assert lost().snapshot(9) == []


def test_what_a_link_that_was_given_up_still_brings_is_passed_over() -> None:
    """As after a stop: all that came meanwhile is read once the link has been judged silent."""
    actor = active()
    actor.hands_in()
    assert announced(actor.tick(5.1)) == ["learner_lost"]
    assert actor.hear(verdict(1)) == []
    assert actor.hear(Heartbeat(9, 0, 0)) == []


def test_a_late_welcome_of_an_earlier_life_is_fenced_off() -> None:
    actor = active(NEXT_LIFE)
    assert actor.hear(WELCOME) == []
    assert actor.state.welcome == NEXT_LIFE


def test_a_session_that_the_learner_does_not_know_is_given_up() -> None:
    actor = active()
    actor.hands_in()
    effects = actor.hear(Refusal(Reason.UNKNOWN_SESSION, ""))
    assert (only(effects, Settle).restore, only(effects, Permit).credit, actor.state.gradients.lost) == (False, 0, 1)
    assert every(actor.tick(0.1), Dial)


def test_numbers_go_on_if_the_session_lives_after_all() -> None:
    actor = active()
    actor.hands_in()
    actor.hear(Refusal(Reason.UNKNOWN_SESSION, "a late one"))
    actor.tick(0.1)
    actor.hear(WELCOME)
    assert sequences(actor.hands_in()) == [2]


@pytest.mark.parametrize("reason", [Reason.MALFORMED_MESSAGE, Reason.DRAINING, "something new"])
def test_other_refusals_leave_the_session_alone(reason: str) -> None:
    actor = active()
    assert announced(actor.hear(Refusal(reason, "?"))) == ["refused"]
    assert actor.state.phase is Phase.ACTIVE


# the end


def test_a_final_goodbye_ends_the_actor() -> None:
    actor = active()
    actor.hands_in()
    effects = actor.hear(Goodbye(9, True, "solved"))
    assert effects[-1] == Finish(0)
    assert actor.tick(9.0) == []


def test_a_goodbye_that_is_not_final_is_waited_out() -> None:
    actor = active()
    actor.hands_in()
    effects = actor.hear(Goodbye(9, False, "restarting"))
    assert (announced(effects), every(effects, Finish)) == (["dismissed", "learner_lost"], [])
    assert not only(effects, Settle).restore
    assert every(actor.tick(0.4), Dial) == []
    assert every(actor.tick(0.6), Dial)


def test_a_goodbye_of_another_session_is_fenced_off() -> None:
    assert active().hear(Goodbye(8, True, "late")) == []


def held_back(actor: Actor) -> list[Effect]:
    """The worker answers a request to leave."""
    return actor.post(LastWorkDone(work()))


def test_a_signal_asks_for_what_is_held_back_and_waits_for_every_verdict() -> None:
    actor = active()
    actor.hands_in()
    effects = actor.post(StopRequested("SIGTERM"))
    assert every(effects, Leave)
    assert only(effects, Permit).credit == 0
    assert sequences(held_back(actor)) == [2]
    assert every(actor.hear(verdict(1)), Finish) == []
    effects = actor.hear(verdict(2))
    assert messages(effects, Goodbye)
    assert effects[-1] == Finish(0)


def test_a_gradient_under_way_when_the_signal_came_is_sent() -> None:
    actor = active()
    actor.post(StopRequested("SIGTERM"))
    assert sequences(actor.hands_in()) == [1]
    held_back(actor)
    assert only(actor.hands_in(), Settle).restore  # nobody works any more


def test_what_is_held_back_waits_for_room() -> None:
    actor = active()
    actor.hands_in()
    actor.hands_in()
    actor.post(StopRequested("SIGTERM"))
    assert held_back(actor) == []
    effects = actor.hear(verdict(1))
    assert sequences(effects) == [3]
    assert every(effects, Finish) == []
    assert actor.hear(verdict(2, 3))[-1] == Finish(0)


def test_a_verdict_tells_how_long_it_took_where_the_gradient_was_sent_once() -> None:
    actor = active()
    actor.hands_in()
    actor.now = 0.5
    assert only(actor.hear(verdict(1)), Settle).feedback == Feedback(0.5, 0, 1)
    actor.hands_in()
    actor.now = 0.6
    actor.hear(WELCOME)  # again: it is sent again
    assert only(actor.hear(verdict(2)), Settle).feedback == Feedback(None, 0, 1)


def test_a_worker_that_holds_nothing_back_lets_its_actor_go() -> None:
    actor = active()
    actor.post(StopRequested("SIGTERM"))
    assert actor.post(LastWorkDone(None))[-1] == Finish(0)


def test_a_worker_that_does_not_answer_is_not_waited_for_long() -> None:
    actor = active()
    actor.post(StopRequested("SIGTERM"))
    assert every(actor.tick(DRAIN_S - 0.1), Finish) == []
    assert only(actor.tick(DRAIN_S), Finish) == Finish(0)


def test_a_signal_without_weights_to_work_with_ends_at_once() -> None:
    assert ready().post(StopRequested("SIGINT"))[-1] == Finish(0)


def test_verdicts_are_not_waited_for_for_ever() -> None:
    actor = active()
    actor.hands_in()
    actor.post(StopRequested("SIGTERM"))
    assert every(actor.tick(DRAIN_S - 0.1), Finish) == []
    assert only(actor.tick(DRAIN_S), Finish) == Finish(0)


@pytest.mark.parametrize(
    "answer", [Refusal(Reason.UNKNOWN_SESSION, ""), Goodbye(9, False, "restarting"), Goodbye(9, True, "")]
)
def test_a_stopping_actor_does_not_come_back(answer: AnyMessage) -> None:
    actor = active()
    actor.hands_in()
    actor.post(StopRequested("SIGTERM"))
    assert only(actor.hear(answer), Finish) == Finish(0)


def test_a_second_signal_does_not_wait() -> None:
    actor = active()
    actor.hands_in()
    actor.post(StopRequested("SIGTERM"))
    assert only(actor.post(StopRequested("SIGTERM")), Finish) == Finish(0)


@pytest.mark.parametrize("where", [dialling, lost])
def test_a_signal_without_a_learner_ends_at_once(where: Any) -> None:
    assert only(where().post(StopRequested("SIGTERM")), Finish) == Finish(0)


@pytest.mark.parametrize("exit_code", [1, 2])
def test_a_worker_that_fails_says_goodbye(exit_code: int) -> None:
    effects = active().post(WorkerFailed("x" * 900, exit_code))
    (goodbye,) = messages(effects, Goodbye)
    assert len(goodbye.detail) == 500
    assert effects[-1] == Finish(exit_code)


# invariants, which every other test here checks after each event


def permits_more(state: ActorState) -> None:
    """The link's credit grows, and nobody tells the worker."""
    assert state.gradients.outbox is not None
    state.gradients.outbox.credit += 1


def forgets_a_gradient(state: ActorState) -> None:
    assert state.gradients.outbox is not None
    state.gradients.outbox.unanswered.clear()


def changes_the_session(state: ActorState) -> None:
    state.welcome = NEXT_LIFE


def takes_more_than_was_granted(state: ActorState) -> None:
    state.gradients.most_credit = 0


def waits_in_a_session(state: ActorState) -> None:
    state.backoff.start(1.0, 0.0)


@pytest.mark.parametrize(
    ("violate", "sentence"),
    [
        (permits_more, "2 permits, and 3 are allowed"),
        (forgets_a_gradient, "1 gradients were sent, and 0 have a fate or wait for one"),
        (changes_the_session, "the outbox is of session 9, not 10"),
        (takes_more_than_was_granted, "1 unanswered, at most 0 granted"),
        (waits_in_a_session, "it waits for a learner while it has a session"),
    ],
)
def test_a_state_that_breaks_an_invariant_says_which(violate: Callable[[ActorState], None], sentence: str) -> None:
    actor = active()
    actor.hands_in()
    violate(actor.state)
    with pytest.raises(AssertionError, match=sentence):
        actor.state.validate()
