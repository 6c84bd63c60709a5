"""What a heartbeat tells of the link."""

from __future__ import annotations

import pytest

from actor.pulse import FADING, Pulse


def test_work_is_the_time_between_gradients_without_the_waits() -> None:
    pulse = Pulse()
    assert pulse.beat(10.0, 1.0) == 0.0  # nothing to compare with
    for _ in range(4):
        pulse.made()
    assert pulse.beat(12.0, 2.2) == pytest.approx(0.2)
    assert pulse.beat(13.0, 2.2) == 0.0  # none was made
    pulse.made()
    assert pulse.beat(14.0, 9.0) == 0.0  # all of it was waiting


def test_round_trips_fade_from_the_first_on() -> None:
    pulse = Pulse()
    assert pulse.round_trip_s == 0.0
    pulse.answered(0.5)
    assert pulse.round_trip_s == 0.5
    pulse.answered(1.5)
    assert pulse.round_trip_s == pytest.approx(FADING * 0.5 + (1 - FADING) * 1.5)
