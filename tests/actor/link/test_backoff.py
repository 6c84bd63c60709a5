"""An actor that waits: when it says so, for how long, and when it has waited enough. Time is an argument."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from actor.link.backoff import LONGEST_S, RARELY_S, Backoff


def lines(until: float) -> list[float]:
    """When it says that it waits, of hellos as they come."""
    backoff, said, now = Backoff(Random(1)), [], 0.0
    while now < until:
        backoff.record_hello(now)
        if backoff.should_log(now):
            said.append(now)
        now = backoff.hello_at
    return said


def test_lines_come_when_the_wait_has_doubled_and_then_once_an_hour() -> None:
    said = lines(24 * 3600.0)
    assert 0.0 < said[0] < 10.0
    for before, after in pairwise(said):
        due = before + min(before, RARELY_S)
        assert due <= after <= due + 2 * LONGEST_S
    assert len(said) < 40


def test_it_gives_up_after_as_long_as_it_was_told_to_each_time_anew() -> None:
    backoff = Backoff(Random(1), give_up_after_s=60.0)
    backoff.record_hello(5.0)
    assert (backoff.is_over(64.9), backoff.is_over(65.0)) == (False, True)
    backoff.end()
    assert (backoff.is_over(1e9), backoff.waited_s(1e9)) == (False, 0.0)
    backoff.start(1000.0, 0.5)
    assert (backoff.is_over(1059.0), backoff.is_over(1060.0)) == (False, True)
    assert not Backoff(Random(1)).is_over(1e12)


@pytest.mark.parametrize(
    ("waited_s", "words"), [(0.0, "0 s"), (59.4, "59 s"), (600.0, "10 min"), (7199.0, "120 min"), (93_600.0, "26 h")]
)
def test_what_it_says(waited_s: float, words: str) -> None:
    backoff = Backoff(Random(1))
    backoff.record_hello(0.0)
    assert backoff.log_fields(waited_s)["waited"] == f"no learner for {words}"
