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


def test_one_that_could_not_start_is_tried_again_after_a_while() -> None:
    """Its server came later: it is charted from then on, from where the life began."""

    class Late(Recorder):
        attempts = 0

        def start(self, *given: object) -> None:
            self.attempts += 1
            if self.attempts < 3:
                raise OSError("no network")
            self.calls.append(("start", given, {}))

    sink: Any = Late()
    follower = SinkFollower(sink, CONFIG, lambda: 0.0)
    heard: list[str] = []
    for line in (STARTED, *(moment(10 * number) for number in range(1, 9)), RESULT):
        try:
            follower(line)
            heard.append(line["event"])
        except NotStarted:
            heard.append("not started")
        except OSError as error:
            heard.append(str(error))
    waits = ["not started"] * 3
    assert heard == ["no network", *waits, "no network", *waits, "progress", "finished"]
    assert [name for name, *_ in sink.calls] == ["start", "scalars", "end"]
    assert sink.named("start") == [(("test-7", CONFIG, 2000), {})]
