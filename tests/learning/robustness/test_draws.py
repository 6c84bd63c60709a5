"""That both systems get the same draws, and that a score is only of runs that both have."""

from __future__ import annotations

from typing import Any

import pytest

from learner.launch.experiment_file import load
from tests.learning.defaults.tasks import TASKS
from tests.learning.robustness.draws import CASES, COUNT, DRAWS, ENVS, HALF, MIDDLES, Case
from tests.learning.robustness.report import OURS, PEER, scores

CASE = Case("CartPole", 1_000, 0.0, 500.0)


@pytest.mark.parametrize("draw", range(COUNT))
def test_every_draw_is_an_experiment_within_a_decade(draw: int) -> None:
    drawn = DRAWS[draw]
    experiment = load(None, drawn.farflung, {})
    assert experiment.learner.learning_rate == drawn.learning_rate
    for name, middle in MIDDLES.items():
        assert middle / HALF * 0.9 <= drawn.plain[name] <= middle * HALF * 1.1
    theirs = drawn.stable_baselines
    assert theirs["n_steps"] == theirs["batch_size"] * drawn.minibatches
    assert abs(theirs["n_steps"] - drawn.rollout) <= drawn.minibatches / 2
    assert abs(ENVS * round(drawn.rollout / ENVS) - drawn.rollout) <= ENVS / 2


def test_draws_differ_in_every_setting() -> None:
    for name in MIDDLES:
        assert len({drawn.plain[name] for drawn in DRAWS}) > 20


def record(system: str, draw: int, mean: float | None) -> dict[str, Any]:
    return {"system": system, "task": CASE.task, "draw": draw, "return_mean_100": mean, "commit": "abc"}


def test_only_draws_that_both_systems_have_count() -> None:
    records = [record(OURS, 0, 250.0), record(OURS, 1, 500.0), record(PEER, 1, None), record(PEER, 2, 500.0)]
    assert scores(records, [CASE]) == {OURS: {"CartPole": [1.0]}, PEER: {"CartPole": [0.0]}}


def test_less_than_the_worst_scores_nothing_and_more_than_the_best_more_than_one() -> None:
    case = Case("Pendulum", 1_000, -1_200.0, -150.0)
    assert case.score(-1_500.0) == 0.0
    assert case.score(-150.0) == 1.0
    assert case.score(0.0) > 1.0


def test_every_case_is_a_task() -> None:
    assert all(case.task in TASKS for case in CASES)
