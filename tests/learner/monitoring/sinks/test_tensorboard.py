"""Live event files, through TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.monitoring.sinks.sink import SinkFollower
from learner.monitoring.sinks.tensorboard import SUFFIX, TensorBoardSink
from tests.learner.courses import moment
from tests.learner.monitoring.sinks.fakes import CONFIG, RESULT, STARTED, follow

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
)


def test_tensorboard_reads_the_charts_and_the_experiment(tmp_path: Path) -> None:
    follow(TensorBoardSink(tmp_path))
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(SUFFIX)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(each.step, each.value) for each in found.Scalars("rollout/ep_rew_mean")] == [(2000, 20.0), (3000, 30.0)]
    assert [(each.step, each.value) for each in found.Scalars("metrics/success")] == [(2000, 0.25), (3000, 0.375)]
    assert [(each.step, each.value) for each in found.Scalars("eval/mean_reward")] == [(2000, 33.0)]
    (experiment,) = found.Tensors("experiment")
    assert '"env": "CartPole-v1"' in experiment.tensor_proto.string_val[0].decode()


def test_points_are_on_disk_while_the_run_goes_on_and_a_later_life_takes_back_what_was_lost(tmp_path: Path) -> None:
    first, second = (SinkFollower(TensorBoardSink(tmp_path), CONFIG, lambda: 0.0) for _ in range(2))
    for line in (STARTED, moment(2), moment(3), moment(4)):
        first(line)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [each.step for each in found.Scalars("train/n_updates")][:1] == [2000]
    first(RESULT)
    for line in (STARTED | {"env_steps": 3000}, moment(5), RESULT):
        second(line)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [each.step for each in found.Scalars("train/n_updates")] == [2000, 5000]
