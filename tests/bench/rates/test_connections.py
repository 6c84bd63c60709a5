"""That a crowd is served by a real learner, each connection as often as the others; how fast is no matter."""

from __future__ import annotations

import sys

import pytest

from tests.bench.rates.connections import TOLD, measure, medians


@pytest.mark.skipif(sys.platform != "linux", reason="the crowd waits by epoll, and asks Linux for processor time")
def test_every_connection_of_a_crowd_is_answered() -> None:
    found = measure(3, 0.5, 0.0)
    assert set(found["outcomes"]) == {"applied"}
    assert found["answers"][0] > 0
    assert set(medians([found])) == set(TOLD)
