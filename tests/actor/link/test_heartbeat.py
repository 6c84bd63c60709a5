"""What a heartbeat tells of the link."""

from __future__ import annotations

import pytest

from actor.events import Ticked
from actor.link.heartbeat import FADING, Pulse
from protocol.messages import Fault, Heartbeat


def beat(pulse: Pulse, now: float, worker: Ticked, session: int = 1) -> Heartbeat:
    pulse.worker = worker
    return pulse.beat(now, session, 0)


def work_s(pulse: Pulse, now: float, waited_s: float) -> float:
    return beat(pulse, now, Ticked(0, waited_s)).work_s


def test_work_is_the_time_between_gradients_without_the_waits() -> None:
    pulse = Pulse()
    assert work_s(pulse, 10.0, 1.0) == 0.0  # nothing to compare with
    for _ in range(4):
        pulse.made()
    assert work_s(pulse, 12.0, 2.2) == pytest.approx(0.2)
    assert work_s(pulse, 13.0, 2.2) == 0.0  # none was made
    pulse.made()
    assert work_s(pulse, 14.0, 9.0) == 0.0  # all of it was waiting


def test_round_trips_fade_from_the_first_on() -> None:
    pulse = Pulse()
    assert pulse.round_trip_s == 0.0
    pulse.answered(0.5)
    assert pulse.round_trip_s == 0.5
    pulse.answered(1.5)
    assert pulse.round_trip_s == pytest.approx(FADING * 0.5 + (1 - FADING) * 1.5)


def test_times_are_whole_milliseconds_and_the_age_is_rounded() -> None:
    told = beat(Pulse(), 1.0, Ticked(7, 4.0, 1.0009, 2.5, 0.25, 12.6))
    assert told == Heartbeat(1, 7, 0, 0.0, 0.0, 1000, 2500, 250, 4000, 13)
    assert beat(Pulse(), 1.0, Ticked(0, residual_age=float("inf"))).residual_age == 0


def test_faults_are_those_of_the_session_and_a_new_kind_does_not_wait() -> None:
    pulse = Pulse()

    def told(session: int, *faults: Fault) -> tuple[bool, tuple[Fault, ...]]:
        pulse.worker = Ticked(0, faults=faults)
        return pulse.due(0.0, 9.0), pulse.beat(0.0, session, 0).faults

    assert told(1) == (False, ())
    assert told(1, Fault("raised", 2, "boom")) == (True, (Fault("raised", 2, "boom"),))
    assert told(1, Fault("raised", 5, "boom")) == (False, (Fault("raised", 5, "boom"),))
    assert told(2, Fault("raised", 5, "boom")) == (False, ())
    assert told(2, Fault("raised", 6, "boom"), Fault("hung", 1)) == (
        True,
        (Fault("raised", 1, "boom"), Fault("hung", 1)),
    )
    assert told(2, Fault("raised", 1, "of a new worker"))[1] == (Fault("raised", 1, "of a new worker"),)
