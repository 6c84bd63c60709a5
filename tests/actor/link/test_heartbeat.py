"""What a heartbeat tells of the link."""

from __future__ import annotations

import pytest

from actor.compression.running_mean import DECAY
from actor.link.heartbeat import HeartbeatBuilder
from actor.stats import WorkerStats
from protocol.messages import Fault, Heartbeat


def beat(builder: HeartbeatBuilder, now: float, worker: WorkerStats, session: int = 1) -> Heartbeat:
    builder.worker = worker
    return builder.build(now, session, 0)


def work_s(builder: HeartbeatBuilder, now: float, waited_s: float) -> float:
    return beat(builder, now, WorkerStats(wait_s=waited_s)).work_s


def test_work_is_the_time_between_gradients_without_the_waits() -> None:
    builder = HeartbeatBuilder()
    assert work_s(builder, 10.0, 1.0) == 0.0  # nothing to compare with
    for _ in range(4):
        builder.count_gradient()
    assert work_s(builder, 12.0, 2.2) == pytest.approx(0.2)
    assert work_s(builder, 13.0, 2.2) == 0.0  # none was made
    builder.count_gradient()
    assert work_s(builder, 14.0, 9.0) == 0.0  # all of it was waiting


def test_round_trips_fade_from_the_first_on() -> None:
    builder = HeartbeatBuilder()
    assert builder.round_trip_s == 0.0
    builder.record_round_trip(0.5)
    assert builder.round_trip_s == 0.5
    builder.record_round_trip(1.5)
    assert builder.round_trip_s == pytest.approx(DECAY * 0.5 + (1 - DECAY) * 1.5)


def test_times_are_whole_milliseconds_and_the_age_is_rounded() -> None:
    worker = WorkerStats(env_steps=7, wait_s=4.0, collect_s=1.0009, learn_s=2.5, compress_s=0.25, residual_age=12.6)
    told = beat(HeartbeatBuilder(), 1.0, worker)
    assert told == Heartbeat(1, 7, 0, 0.0, 0.0, 1000, 2500, 250, 4000, 13)
    assert beat(HeartbeatBuilder(), 1.0, WorkerStats(residual_age=float("inf"))).residual_age == 0


def test_faults_are_those_of_the_session_and_a_new_kind_does_not_wait() -> None:
    builder = HeartbeatBuilder()

    def told(session: int, *faults: Fault) -> tuple[bool, tuple[Fault, ...]]:
        builder.worker = WorkerStats(faults=faults)
        return builder.is_due(0.0, 9.0), builder.build(0.0, session, 0).faults

    assert told(1) == (False, ())
    assert told(1, Fault("raised", 2, "boom")) == (True, (Fault("raised", 2, "boom"),))
    assert told(1, Fault("raised", 5, "boom")) == (False, (Fault("raised", 5, "boom"),))
    assert told(2, Fault("raised", 5, "boom")) == (False, ())
    assert told(2, Fault("raised", 6, "boom"), Fault("hung", 1)) == (
        True,
        (Fault("raised", 1, "boom"), Fault("hung", 1)),
    )
    assert told(2, Fault("raised", 1, "of a new worker"))[1] == (Fault("raised", 1, "of a new worker"),)
