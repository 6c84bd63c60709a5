"""A run's course out of its lines: lives, torn lines, windows of episodes; and many courses as one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from learner.analysis import curves
from learner.analysis.curves import Floats, band_of, comparable, differences, held, mean_lag, mean_of, within
from learner.progress import RENAMED
from tests.learner.courses import ended, life, moment, text


def numbers(*values: float) -> Floats:
    return np.array(values, np.float64)


def test_a_course_has_a_moment_for_each_progress_line_and_one_for_the_end() -> None:
    course = curves.read(text(*life(4)))
    assert course.seconds.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert course.env_steps.tolist() == [0.0, 1000.0, 2000.0, 3000.0, 4000.0]
    assert course.received_bytes[-1] == 2000.0
    assert (course.lives, course.torn, course.few) == (1, 0, False)
    assert course.kept.all()


def test_means_of_fewer_than_a_hundred_episodes_are_left_out_where_there_are_better_ones() -> None:
    course = curves.read(text(*life(4)))
    np.testing.assert_array_equal(course.return_mean, numbers(np.nan, np.nan, 20.0, 30.0, 40.0))


def test_means_of_fewer_are_all_there_is_at_first() -> None:
    course = curves.read(text(moment(0), moment(1)))
    np.testing.assert_array_equal(course.return_mean, numbers(np.nan, 10.0))
    assert course.few


def test_a_second_life_goes_on_in_seconds_and_lags_and_falls_back_in_steps() -> None:
    """It goes on from a checkpoint at 2000 steps; its window of episodes and its lags begin anew."""
    again = [moment(i, env_steps=2000 + 1000 * i, episodes=100 + 50 * i, version=40 + 20 * i) for i in range(4)]
    course = curves.read(text(*life(4), {"event": "started", "wall_s": 0.0}, *again))
    assert course.lives == 2
    assert course.life.tolist() == [1.0] * 5 + [2.0] * 4
    assert course.seconds.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 7.0]
    assert course.env_steps[course.kept].tolist() == [0.0, 1000.0, 2000.0, 2000.0, 3000.0, 4000.0, 5000.0]
    assert course.lag_count[-1] == 60.0 + 60.0  # 60 of the first life were counted when its last line was written
    np.testing.assert_array_equal(course.return_mean[5:], numbers(np.nan, np.nan, 20.0, 30.0))


def test_a_life_whose_first_line_is_lost_is_known_by_its_clock() -> None:
    course = curves.read(text(moment(0), moment(5), moment(1, env_steps=6000)))
    assert course.lives == 2
    assert course.seconds.tolist() == [0.0, 5.0, 6.0]


def test_a_life_that_recorded_nothing_is_none() -> None:
    started = {"event": "started", "wall_s": 0.0}
    assert curves.read(text(started, started, moment(0))).lives == 1


@pytest.mark.parametrize("end", [b"", b'{"event":"progress","wall_s":9', b"\n\n"])
def test_a_last_line_that_is_half_written_is_not_yet_there(end: bytes) -> None:
    course = curves.read(text(moment(0), moment(1)) + end)
    assert (len(course), course.torn) == (2, 0)


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"7", b"\xff\xfe", b'{"event":"progress"}', b'{"event":"progress","wall_s":"1"}', b'{"text":"hm"}'],
)
def test_a_line_that_nobody_can_read_is_counted(line: bytes) -> None:
    course = curves.read(text(moment(0)) + line + b"\n" + text(moment(1)))
    assert (len(course), course.torn) == (2, 1)


def test_what_an_actor_says_under_our_name_is_not_heard() -> None:
    forged = moment(1, actor="local-0", env_steps=10**9)
    course = curves.read(text(moment(0), forged, {"event": "actor_said", "actor": "local-0", "text": "hello"}))
    assert (len(course), course.torn) == (1, 0)


def test_nothing_is_a_course_without_moments() -> None:
    course = curves.read(b"")
    assert (len(course), course.lives, course.scores) == (0, 0, ())


def test_numbers_are_read_under_the_names_that_they_had() -> None:
    former = [{RENAMED.get(name, name): value for name, value in line.items()} for line in life()]
    assert "updates" in former[1]
    old, new = curves.read(text(*former)), curves.read(text(*life()))
    for name in curves.COUNTED:
        assert list(getattr(old, name)) == list(getattr(new, name))


def test_what_an_older_learner_did_not_write_is_unknown() -> None:
    old = moment(1)
    for name in ("unix_s", "lag_count", "lag_sum_updates", "received_bytes", "sent_bytes"):
        del old[name]
    course = curves.read(text(old))
    for values in (course.unix_s, course.lag_count, course.received_bytes):
        assert np.isnan(values).all()


def test_a_score_lies_where_its_version_was_made() -> None:
    said = {"event": "evaluated", "actor": "judge", "version": 50, "mean": 33.0, "ci95": 2.0, "unix_s": 5.0}
    single = said | {"ci95": None, "version": 40}
    first, second = curves.read(text(moment(0), moment(4), said, single)).scores
    assert (first.env_steps, first.seconds, first.mean, first.ci95) == (2500.0, 2.5, 33.0, 2.0)
    assert second.env_steps == 2000.0
    assert np.isnan(second.ci95)


def test_a_score_without_any_progress_is_nowhere() -> None:
    assert curves.read(text({"event": "evaluated", "version": 5, "mean": 3.0})).scores == ()


def test_experiments_are_alike_but_for_seed_name_and_end() -> None:
    one = {"run": {"seed": 1, "name": "a", "until_steps": 5, "actors": 2}, "actor": {"envs": 4}}
    other = {"run": {"seed": 2, "until_return": 9.0, "actors": 2}, "actor": {"envs": 4}}
    assert comparable(one, "E-v0") == comparable(other, "E-v0")
    assert comparable(one, "E-v0") != comparable(one, "F-v0")
    assert comparable(one, "E-v0") != comparable({**one, "actor": {"envs": 8}}, "E-v0")
    assert comparable(one, "E-v0") != comparable({**one, "run": {"actors": 3}}, "E-v0")


def test_experiments_are_told_apart_by_the_settings_in_which_they_differ() -> None:
    one = {"run": {"seed": 1}, "actor": {"codec": "i8", "envs": 4}}
    other = {"run": {"seed": 2}, "actor": {"envs": 4, "density": 0.01}}
    assert differences([one, other]) == [
        {"actor.codec": "i8", "actor.density": None},
        {"actor.codec": None, "actor.density": "0.01"},
    ]
    assert differences([one]) == [{}]


def test_a_curve_is_held_after_its_end_and_unknown_before_its_beginning() -> None:
    x, y, grid = numbers(1.0, 2.0, 3.0), numbers(np.nan, 4.0, 6.0), numbers(1.0, 2.5, 9.0)
    np.testing.assert_array_equal(held(x, y, grid), numbers(np.nan, 5.0, 6.0))
    np.testing.assert_array_equal(within(x, y, grid), numbers(np.nan, 5.0, np.nan))
    assert np.isnan(held(x, y * np.nan, grid)).all()


def test_the_mean_lag_is_of_what_was_judged_in_between() -> None:
    """Twenty gradients of lag 2, then twenty of lag 7, then none."""
    course = curves.read(
        text(moment(0), moment(1), moment(2, lag_sum_updates=180), moment(3, lag_count=40, lag_sum_updates=180))
    )
    lags = mean_lag(course, numbers(0.0, 1000.0, 2000.0, 3000.0))
    np.testing.assert_allclose(lags, numbers(np.nan, 2.0, 7.0, np.nan))


def test_the_mean_is_of_the_seeds_that_are_there() -> None:
    values = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_of(values), numbers(2.0, 2.0, np.nan))


def test_a_range_is_from_least_to_greatest() -> None:
    values = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [2.0, 5.0, np.nan]])
    band = band_of(values, "range")
    assert band is not None
    np.testing.assert_array_equal(band[0], numbers(1.0, 2.0, np.nan))
    np.testing.assert_array_equal(band[1], numbers(3.0, 5.0, np.nan))
    assert band_of(values[:1], "range") is None


def test_a_bootstrap_lies_within_the_range_around_the_mean_and_is_the_same_again() -> None:
    values = np.array([[float(seed)] for seed in range(10)])
    band, again = band_of(values, "bootstrap"), band_of(values, "bootstrap")
    assert band is not None
    assert again is not None
    low, high = band[0][0], band[1][0]
    assert 2.0 < low < 4.5 < high < 7.0  # the mean ± 1.96 · 2.87 / √10 is 2.7 to 6.3
    assert (low, high) == (again[0][0], again[1][0])


def test_an_end_says_what_a_progress_line_would() -> None:
    course = curves.read(text(ended(3)))
    assert (course.env_steps[0], course.return_mean[0], course.sent_bytes[0]) == (3000.0, 30.0, 900.0)
    assert json.dumps(course.lives) == "1"
