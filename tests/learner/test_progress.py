"""The books: the window that decides, the histogram, the rate's schedule, and what a checkpoint keeps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from learner.config import learner_settings
from learner.progress import (
    LEARNT,
    MAX_STEPS,
    MEMORY,
    MOST_METRICS,
    RENAMED,
    WINDOW,
    Averages,
    Best,
    FadingMean,
    Pace,
    Progress,
    learning_rate,
)
from protocol.messages import Applied, Episode, Heartbeat, Losses, Metric, Report, Snapshot, Updates


def report(*scores: float, env_steps: int = 10) -> Report:
    return Report(env_steps, tuple(Episode(score, 5) for score in scores), Losses(policy=1.0))


def test_nothing_is_known_before_the_first_episode() -> None:
    progress = Progress()
    progress.record(report())
    assert progress.env_steps == 10
    assert progress.return_mean is None
    assert not progress.reached(-1e9)


def test_steps_never_exceed_what_a_snapshot_can_say() -> None:
    progress = Progress(env_steps=MAX_STEPS - 10)
    progress.record(report(env_steps=9))
    assert progress.env_steps == MAX_STEPS - 1
    for _ in range(2):
        progress.record(report(env_steps=9))
        assert progress.env_steps == MAX_STEPS == (1 << 53) - 1


def test_a_target_needs_a_full_window() -> None:
    progress = Progress()
    progress.record(report(*[500.0] * (WINDOW - 1)))
    assert progress.return_mean == 500.0
    assert not progress.reached(475.0)
    progress.record(report(500.0))
    assert progress.reached(475.0)
    assert progress.reached(500.0)
    assert not progress.reached(500.1)


def test_without_a_target_nothing_is_reached() -> None:
    progress = Progress()
    progress.record(report(*[500.0] * WINDOW))
    assert not progress.reached(None)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3 * WINDOW))
def test_the_mean_is_of_the_last_hundred(scores: list[float]) -> None:
    progress = Progress()
    for score in scores:
        progress.record(report(score))
    assert progress.return_mean == pytest.approx(sum(scores[-WINDOW:]) / len(scores[-WINDOW:]), abs=1e-6)
    assert progress.episodes == len(scores)


def test_a_mean_of_zero_is_a_mean() -> None:
    progress = Progress()
    progress.record(report(*[0.0] * WINDOW))
    assert (progress.return_worst_mean, progress.return_best_mean) == (0.0, 0.0)


def test_the_best_mean_is_remembered_after_a_fall() -> None:
    progress = Progress()
    progress.record(report(*[100.0] * WINDOW))
    progress.record(report(*[0.0] * WINDOW))
    assert progress.return_mean == 0.0
    assert progress.return_best_mean == 100.0


def test_bytes_by_codec_and_what_nobody_knows_under_one_name() -> None:
    progress = Progress()
    for codec, wire_bytes in (("f32", 100), ("topk_i8+zstd", 7), ("made-up-1", 1), ("made-up-2", 2)):
        progress.received(codec, wire_bytes)
    assert progress.codec_gradients == {"f32": 1, "topk_i8+zstd": 1, "unknown": 2}
    assert progress.codec_bytes == {"f32": 100, "topk_i8+zstd": 7, "unknown": 3}
    assert (progress.gradients_received, progress.gradient_received_bytes) == (4, 110)


def test_weights_are_told_by_record() -> None:
    progress = Progress()
    snapshot = Snapshot(1, 2, "key", 0, bytes(8), "f32", 1, 1)
    progress.sent(snapshot, 40)
    progress.sent(replace(snapshot, record="delta"), 10)
    progress.sent(Updates(1, 3, 2, bytes(8), 1, (Applied("f32", 1, 4, 1.0),)), 5)
    progress.sent(Heartbeat(1, 2, 3), 3)
    assert progress.weight_bytes == {"key": 40, "delta": 10, "updates": 5}
    assert progress.sent_bytes == 58


def test_a_batch_that_makes_no_version_is_work_and_no_advance() -> None:
    progress = Progress(version=4)
    progress.advance(4, 0.5, 10.0)
    assert (progress.version, progress.math_s, progress.advanced_at) == (4, 0.5, None)
    progress.advance(6, 0.25, 20.0)
    assert (progress.version, progress.math_s, progress.advanced_at) == (6, 0.75, 20.0)


def test_a_checkpoint_keeps_the_counters_and_forgets_the_window() -> None:
    progress = Progress(version=5, received_bytes=7, snapshots=2, gradients_received=3)
    progress.record(report(1.0, 2.0))
    progress.rulings.update({"applied": 5, "stale_updates": 2})
    again = Progress.restored(progress.saved(), version=5)
    assert again.saved() == progress.saved()
    assert again.rulings == progress.rulings
    assert (again.version, again.gradients_received) == (5, 3)
    assert again.return_mean is None


def test_a_checkpoint_of_an_older_learner_is_read_under_the_names_that_it_has() -> None:
    saved = Progress(version=5, received_bytes=7, sent_bytes=9, gradients_received=3).saved()
    former = {RENAMED.get(name, name): count for name, count in saved.items()}
    assert former["bytes_up"] == 7
    assert Progress.restored(former, version=5).saved() == Progress.restored(saved, version=5).saved()


def test_the_rate_falls_in_a_straight_line_to_its_floor() -> None:
    settings = learner_settings({"learning_rate": 2.0, "anneal": "linear", "anneal_steps": 100, "anneal_floor": 0.1})
    assert learning_rate(settings, 0) == pytest.approx(2.0)
    assert learning_rate(settings, 50) == pytest.approx(1.1)
    assert learning_rate(settings, 100) == pytest.approx(0.2)
    assert learning_rate(settings, 1000) == pytest.approx(0.2)


def test_the_rate_follows_what_is_chosen() -> None:
    given = {"learning_rate": 2.0, "anneal": "cosine", "anneal_steps": 100, "anneal_floor": 0.1}
    assert [learning_rate(learner_settings(given), at) for at in (0, 50, 100)] == pytest.approx([2.0, 1.1, 0.2])
    given = {"learning_rate": 2.0, "anneal": "piecewise", "anneal_points": [[0, 0.0], [10, 1.0], [30, 0.5]]}
    assert [learning_rate(learner_settings(given), at) for at in (0, 5, 10, 20, 99)] == [0.0, 1.0, 2.0, 1.5, 1.0]


def test_the_rate_can_stand_still() -> None:
    assert learning_rate(learner_settings({"learning_rate": 2.0, "anneal": "none"}), 10**9) == 2.0


def test_the_best_evaluation_lives_through_a_checkpoint() -> None:
    progress = Progress(evaluations=4, best=Best(-2.5, 9))
    again = Progress.restored(progress.saved(), version=12)
    assert (again.evaluations, again.evaluated_best_mean, again.evaluated_best_version) == (4, -2.5, 9)
    assert "evaluated_best_mean" not in Progress().saved()


def test_a_mean_is_of_all_and_then_of_the_last() -> None:
    mean = FadingMean()
    for number in range(1, MEMORY + 1):
        mean.add(number)
    assert mean.value == pytest.approx((MEMORY + 1) / 2)
    for _ in range(10 * MEMORY):
        mean.add(7.0)
    assert mean.value == pytest.approx(7.0, abs=0.1)


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    pace.record(0.5, 10.0)
    assert [Pace().share, pace.share] == [None, None], "since when it worked is not known"
    for second in range(11, 400):
        pace.record(0.25, float(second))
    assert pace.share == pytest.approx(0.25)
    for second in range(400, 430):
        pace.record(0.75, float(second))
    assert pace.share == pytest.approx(0.75 - 0.5 / math.e, abs=0.02)
    for second in range(430, 500):
        pace.record(5.0, float(second))
    assert pace.share == 1.0
    pace.record(0.1, 0.0)
    assert pace.at == 499.0, "a clock that went back adds nothing"


def told(env_steps: int, score: float, episodes: int = WINDOW) -> Report:
    return Report(env_steps, (Episode(score, 1),) * episodes, Losses())


def test_another_task_begins_its_own_window_and_the_last_one_is_judged() -> None:
    progress = Progress(tasks=(100, 200))
    progress.record(told(99, 9.0))
    assert (progress.task, progress.return_mean, progress.return_best_mean) == (0, 9.0, 9.0)
    assert not progress.reached(5.0)  # it is the easiest of three
    progress.step(1)
    assert (progress.task, progress.return_mean, progress.return_best_mean) == (1, None, float("-inf"))
    progress.score(told(0, 9.0), collected_from=99)  # collected in the task before
    assert (progress.return_mean, progress.episodes) == (None, 2 * WINDOW)
    progress.score(told(0, 6.0), collected_from=100)
    assert (progress.return_mean, progress.reached(5.0)) == (6.0, False)
    progress.step(100)
    progress.score(told(0, 7.0), collected_from=150)
    assert not progress.reached(5.0)
    progress.score(told(0, 5.0), collected_from=200)
    assert (progress.reached(5.0), progress.reached(6.0)) == (True, False)


def test_a_run_without_stages_has_one_task() -> None:
    progress = Progress()
    progress.record(told(1, 5.0, WINDOW - 1))
    progress.score(told(0, 5.0, 1), collected_from=0)
    assert progress.reached(5.0)


def measured(*metrics: Metric, env_steps: int = 100, explained: float | None = None, policy: float = 0.0) -> Report:
    return Report(env_steps, (), Losses(policy=policy), 0, explained, metrics)


def test_means_between_two_lines_are_of_all_actors_and_weighted_by_count() -> None:
    averages = Averages()
    averages.add(measured(Metric("success", 1.0, 3), policy=1.0, explained=0.5))
    averages.add(measured(Metric("success", 0.0, 1), Metric("distance", 7.0), policy=2.0))
    averages.add(measured())  # an actor that has not learnt yet
    told = averages.take()
    assert told == {
        **dict.fromkeys(LEARNT, 0.0),
        "policy_loss": 1.5,
        "explained_variance": 0.5,
        "metrics": {"success": 0.75, "distance": 7.0},
    }
    averages.add(measured(Metric("success", 0.5)))
    assert averages.newest() == {**told, "metrics": {"success": 0.5, "distance": 7.0}}
    assert averages.take() == {**dict.fromkeys(LEARNT), "metrics": {"success": 0.5}}
    assert averages.take() == {**dict.fromkeys(LEARNT), "metrics": {}}
    assert averages.newest() == {**told, "metrics": {"success": 0.5, "distance": 7.0}}


def test_a_metric_weighs_no_more_than_its_actor_took_steps() -> None:
    averages = Averages()
    averages.add(measured(Metric("success", 1.0, 10**12), env_steps=3))
    averages.add(measured(Metric("success", 0.0, 1), env_steps=0))
    assert averages.take()["metrics"] == {"success": 0.75}


def test_small_means_keep_their_digits() -> None:
    averages = Averages()
    averages.add(measured(Metric("kl", 0.000123456789)))
    assert averages.take()["metrics"] == {"kl": 0.000123457}


def test_names_have_a_bound_and_those_that_came_first_keep_their_places() -> None:
    averages = Averages()
    for number in range(MOST_METRICS + 3):
        averages.add(measured(Metric(f"m{number}", 1.0)))
    averages.add(measured(Metric("m0", 3.0), Metric("more", 1.0)))
    assert averages.metrics_left_out == 4
    told = averages.take()["metrics"]
    assert (len(told), told["m0"]) == (MOST_METRICS, 2.0)


def test_the_newest_explained_variance_is_kept_over_reports_that_tell_none() -> None:
    progress = Progress()
    for explained in (None, 0.25, None):
        progress.record(measured(explained=explained))
    assert progress.explained_variance == 0.25
