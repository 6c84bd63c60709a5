"""What an actor tells of its rollouts: nothing is told twice, and nothing is lost while no gradient takes it along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from actor.algorithms.losses import LossStats
from actor.algorithms.report import MAX_EPISODES, ReportBuilder
from actor.algorithms.rollout import Rollout
from protocol.messages import Episode, Losses, Metric, Report

NOTHING = np.zeros((1, 1), np.float32)
NO = np.zeros((1, 1), np.bool_)
ROLLOUT = Rollout(
    *(NOTHING, NOTHING, NOTHING, None, None, NOTHING, NO, NO, ~NO, NO, NOTHING, NOTHING),
    finals=[],
    episodes=[(5.0, 3)],
    env_steps=4,
)


def measured(mean: float, count: int) -> tuple[Metric, ...]:
    return (Metric("distance", mean, count),)


def test_rollouts_add_up_until_one_is_taken() -> None:
    builder = ReportBuilder()
    builder.add(ROLLOUT, measured(1.0, 3))
    builder.explained_variance = 0.25
    builder.add(replace(ROLLOUT, episodes=[(7.0, 1)]), measured(5.0, 1))
    report, moments = builder.take()
    assert report == Report(8, (Episode(5.0, 3), Episode(7.0, 1)), Losses(), 0, 0.25, measured(2.0, 4))
    assert moments is None
    assert builder.take() == (None, None)


def test_the_losses_are_those_of_the_rollout_before() -> None:
    builder = ReportBuilder()
    stats = LossStats(terms=np.array([-0.25], np.float32), errors=np.array([2.0], np.float32))
    builder.learnt(stats, 0.625, 0.75)
    builder.add(ROLLOUT, ())
    report, _ = builder.take()
    assert report is not None
    told = (stats.policy_loss, stats.value_loss, stats.entropy, stats.approx_kl, stats.clip_fraction)
    assert report.losses == Losses(*told, 0.625, 0.75)
    assert told[0] == 0.25


def test_a_report_that_never_left_is_told_with_the_next_one() -> None:
    builder = ReportBuilder()
    builder.add(ROLLOUT, measured(1.0, 1))
    first, _ = builder.take()
    assert first is not None
    builder.restore(first)
    assert builder.take()[0] == first
    builder.add(ROLLOUT, measured(3.0, 1))
    builder.restore(first)
    again, _ = builder.take()
    assert again == Report(8, first.episodes * 2, Losses(), 0, None, measured(2.0, 2))


def test_means_of_the_moments_count_every_row() -> None:
    builder = ReportBuilder()
    for mean in (0.0, 2.0):
        builder.add(replace(ROLLOUT, moments=(4, np.array([mean]), np.zeros(1))), ())
    report, moments = builder.take()
    assert moments is not None
    assert report is not None
    assert (report.observations, moments.count, moments.mean.tolist()) == (8, 8, [1.0])


def test_episodes_are_bounded() -> None:
    builder = ReportBuilder()
    for _ in range(2):
        builder.add(replace(ROLLOUT, episodes=[(1.0, 1)] * MAX_EPISODES), ())
    report, _ = builder.take()
    assert report is not None
    assert len(report.episodes) == MAX_EPISODES
