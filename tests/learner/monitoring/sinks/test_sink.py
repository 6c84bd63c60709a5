"""From a run's lines to calls of a sink."""

from __future__ import annotations

from typing import Any

import pytest

from learner.monitoring.sinks.charts import SECONDS
from learner.monitoring.sinks.sink import NotStarted, SinkFollower
from tests.learner.courses import moment
from tests.learner.monitoring.sinks.fakes import CONFIG, LINES, RESULT, STARTED, Recorder, follow


def test_a_sink_is_started_told_and_ended() -> None:
    sink: Any = Recorder()
    follow(sink)
    assert [name for name, *_ in sink.calls] == ["start", "scalars", "scalars", "scalars", "end"]
    assert sink.named("start") == [(("test-7", CONFIG, 2000), {})]
    (((first,), _), _, ((score,), _)) = sink.named("scalars")
    assert (first.env_steps, first.values[SECONDS]) == (2000, 102.0)
    assert score.values == {"eval/mean_reward": 33.0}
    assert sink.named("end") == [((RESULT,), {})]


def test_one_that_did_not_start_is_told_nothing_and_each_line_is_a_failure() -> None:
    class Broken(Recorder):
        def start(self, *_: object) -> None:
            raise OSError("no network")

    sink: Any = Broken()
    follower = SinkFollower(sink, CONFIG, lambda: 0.0)
    with pytest.raises(OSError, match="no network"):
        follower(STARTED)
    for line in (moment(1), RESULT):
        with pytest.raises(NotStarted):
            follower(line)
    assert sink.calls == []
    assert len(LINES) == 6
