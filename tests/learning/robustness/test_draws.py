"""That both systems get the same draws, and that a score is only of runs that both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actor.config import read_settings
from learner.config import actor_table
from learner.launch.experiment_file import load
from tests.learning.defaults.tasks import TASKS
from tests.learning.robustness.draws import CASES, COUNT, DRAWS, ENVS, HALF, MIDDLES, Case
from tests.learning.robustness.report import OURS, PEER, holds, scores, write

CASE = Case("CartPole", 1_000, 0.0, 500.0)


@pytest.mark.parametrize("draw", range(COUNT))
def test_every_draw_is_an_experiment_within_a_decade(draw: int) -> None:
    drawn = DRAWS[draw]
    experiment = load(None, drawn.farflung, {})
    ours, theirs = read_settings(actor_table(experiment)), drawn.stable_baselines
    for name, middle in MIDDLES.items():
        assert middle / HALF * 0.9 <= drawn.plain[name] <= middle * HALF * 1.1
    both = [
        (experiment.learner.learning_rate, "learning_rate", drawn.learning_rate),
        (ours.passes, "n_epochs", drawn.passes),
        (ours.entropy_weight, "ent_coef", drawn.entropy_weight),
        (ours.clip, "clip_range", drawn.clip),
        (ours.gae_lambda, "gae_lambda", 1.0 - drawn.one_minus_lambda),
        (ours.discount, "gamma", 1.0 - drawn.one_minus_discount),
    ]
    for own, name, expected in both:
        assert own == theirs[name] == pytest.approx(expected)
    assert (ours.minibatches, ours.envs) == (drawn.minibatches, ENVS)
    assert abs(ours.rollout_steps * ENVS - drawn.rollout) <= ENVS / 2
    assert theirs["n_steps"] == theirs["batch_size"] * drawn.minibatches
    assert abs(theirs["n_steps"] - drawn.rollout) <= drawn.minibatches / 2


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


@pytest.mark.parametrize(("ours", "theirs", "held"), [(0.65, 0.5, True), (0.64, 0.5, False), (0.0, 0.0, False)])
def test_nothing_is_better_than_nothing(ours: float, theirs: float, held: bool) -> None:
    assert holds(ours, theirs) is held


def test_the_table_says_what_is_missed(tmp_path: Path) -> None:
    pytest.importorskip("rliable")
    case = CASES[0]
    records = [
        {"system": system, "task": case.task, "draw": draw, "return_mean_100": mean, "commit": "abc"}
        for draw in range(8)
        for system, mean in ((OURS, 400.0), (PEER, 390.0))
    ]
    assert write(records, tmp_path) is False
    text = (tmp_path / "ROBUSTNESS.md").read_text(encoding="utf-8")
    assert "1.03 (missed)" in text
    assert "| CartPole | 50 k | 8 | 0.84 (0.84 to 0.84) | 0.81 (0.81 to 0.81) |" in text


def test_every_case_is_a_task() -> None:
    assert all(case.task in TASKS for case in CASES)
