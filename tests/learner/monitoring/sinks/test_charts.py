"""What a run's lines mean for charts."""

from __future__ import annotations

import pytest

from learner.monitoring.sinks.charts import LAG, SECONDS, Charts
from tests.learner.courses import BEGAN_UNIX_S, moment


def test_a_line_gives_each_chart_its_number_and_leaves_out_what_is_not_known() -> None:
    charts = Charts(earlier_s=100.0)
    first = charts.read(moment(0))
    assert first is not None
    assert (first.env_steps, first.unix_s) == (0, BEGAN_UNIX_S)
    assert not first.values.keys() & {"rollout/ep_rew_mean", "train/policy_gradient_loss", "metrics/success", LAG}
    later = charts.read(moment(2))
    assert later is not None
    told = {tag: later.values[tag] for tag in ("rollout/ep_rew_mean", "train/approx_kl", "metrics/success", SECONDS)}
    assert told == {"rollout/ep_rew_mean": 20.0, "train/approx_kl": 1.0, "metrics/success": 0.25, SECONDS: 102.0}


def test_lag_is_of_what_was_judged_since_the_line_before() -> None:
    charts = Charts()
    told = [moment(1), moment(2, lag_count=30, lag_sum_updates=100), moment(3, lag_count=30, lag_sum_updates=100)]
    points = [charts.read(line) for line in told]
    assert [point is not None and point.values.get(LAG) for point in points] == [2.0, 6.0, None]


@pytest.mark.parametrize(("version", "env_steps"), [(0, 1000), (20, 1000), (39, 1000), (40, 2000), (99, 3000)])
def test_a_score_stands_where_its_version_was_made(version: int, env_steps: int) -> None:
    charts = Charts()
    for index in (1, 2, 3):
        charts.read(moment(index))
    score = charts.read({"event": "evaluated", "version": version, "mean": 5.0, "unix_s": 1.0})
    assert score == (env_steps, 1.0, {"eval/mean_reward": 5.0})


def test_other_lines_and_a_score_before_any_line() -> None:
    assert Charts().read({"event": "draining"}) is None
    first = Charts().read({"event": "evaluated", "version": 3, "mean": 5.0, "unix_s": 1.0})
    assert first is not None
    assert first.env_steps == 0
