"""What a worker tells: nothing of two rollouts is lost, but for episodes that no message would hold."""

from __future__ import annotations

import numpy as np
import pytest

from actor.algorithms import reports
from actor.algorithms.losses import LossStats
from actor.algorithms.reports import joined, losses_of
from protocol.messages import Episode, Losses, Report


def test_steps_and_episodes_add_up_and_the_rest_is_the_later_ones() -> None:
    earlier = Report(10, (Episode(1.0, 5),), Losses(policy=1.0), 4)
    later = Report(20, (Episode(2.0, 6),), Losses(policy=2.0), 7)
    assert joined(earlier, later) == Report(30, (Episode(1.0, 5), Episode(2.0, 6)), Losses(policy=2.0), 7)
    assert joined(None, later) is later


def test_the_newest_episodes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_EPISODES", 2)
    three = [Report(1, (Episode(float(n), 1),), Losses()) for n in range(3)]
    both = joined(joined(three[0], three[1]), three[2])
    assert [episode.score for episode in both.episodes] == [1.0, 2.0]
    assert both.env_steps == 3


def test_losses_have_the_names_of_the_wire() -> None:
    log_ratios = np.log(np.array([1.0, 1.5], np.float32))
    stats = LossStats(
        np.array([-1.0, -3.0], np.float32), np.array([2.0, 4.0], np.float32), log_ratios=log_ratios, clip=0.2
    )
    told = losses_of(stats, 6.0, 7.0)
    assert (told.policy, told.value, told.entropy) == (2.0, stats.value_loss, 0.0)
    assert (told.kl, told.clipped) == (stats.approx_kl, 0.5)
    assert (told.gradient_norm, told.residual_norm) == (6.0, 7.0)
