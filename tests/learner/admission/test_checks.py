"""Headers are refused before decoding, numbers after it, each with its own reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.admission.checks import MAX_REPORT_STEPS, admit, believable
from learner.optim.norms import NormCheck, measure
from protocol.codecs.registry import CODECS, Sparse
from protocol.errors import Reason
from protocol.messages import Episode, Gradient, Losses, Metric, Report

P = 100
BIG = float(np.finfo(np.float32).max)


def gradient(base_version: int = 3, codec: str = "f32", length: int = P, count: int = P) -> Gradient:
    return Gradient(session=1, sequence=1, base_version=base_version, codec=codec, length=length, count=count)


def admitted(header: Gradient) -> Reason | None:
    return admit(header, layout_length=P, version=5, codecs=CODECS)


@pytest.mark.parametrize("name", list(CODECS))
def test_every_codec_of_the_wire_is_admitted(name: str) -> None:
    assert admitted(gradient(codec=name)) is None


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (gradient(base_version=5), None),
        (gradient(base_version=6), Reason.FUTURE_VERSION),
        (gradient(length=P + 1), Reason.WRONG_LENGTH),
        (gradient(length=0, count=0), Reason.WRONG_LENGTH),
        (gradient(count=P + 1), Reason.MALFORMED_PAYLOAD),
        (gradient(codec="zip"), Reason.UNKNOWN_CODEC),
        (gradient(codec="", length=1, base_version=9), Reason.WRONG_LENGTH),
    ],
)
def test_headers(header: Gradient, reason: Reason | None) -> None:
    assert admitted(header) is reason


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([], None),
        ([3.0, 4.0], None),
        ([3.0, 4.5], Reason.NORM_EXCEEDED),
        ([0.0, np.nan], Reason.NOT_FINITE),
        ([np.inf, 0.0], Reason.NOT_FINITE),
        ([-np.inf, np.inf], Reason.NOT_FINITE),
        ([BIG, 1.0], Reason.NORM_EXCEEDED),
        ([BIG, np.nan], Reason.NOT_FINITE),
    ],
)
def test_numbers_dense_and_sparse(numbers: list[float], reason: Reason | None) -> None:
    values = np.array(numbers, np.float32)
    assert NormCheck(5.0).check(values, "", 0.0) is reason
    assert NormCheck(5.0).check(Sparse(P, np.arange(len(values), dtype=np.int32), values), "", 0.0) is reason


@given(st.lists(st.floats(width=32), max_size=30), st.floats(0.5, 1e15))
def test_what_passes_is_finite_and_within_the_bound(numbers: list[float], bound: float) -> None:
    values = np.array(numbers, np.float32)
    exact = float(np.sqrt(np.sum(np.square(values.astype(np.float64))))) if np.isfinite(values).all() else np.nan
    reason = NormCheck(bound).check(values, "", 0.0)
    if reason is None:
        assert exact <= bound * 1.001
    elif reason is Reason.NORM_EXCEEDED:
        assert exact > bound * 0.999
    else:
        assert np.isnan(exact)


@pytest.mark.parametrize(
    ("told", "booked"), [(0, 0), (MAX_REPORT_STEPS, MAX_REPORT_STEPS), (MAX_REPORT_STEPS + 1, 0), ((1 << 53) - 1, 0)]
)
def test_steps_that_nobody_can_have_taken_count_as_none_and_the_losses_stand(told: int, booked: int) -> None:
    report = Report(told, (), Losses(policy=0.5), min(7, booked))
    assert believable(report) == Report(booked, (), Losses(policy=0.5), min(7, booked))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_episodes_and_losses_that_are_no_numbers_are_left_out(bad: float) -> None:
    report = Report(10, (Episode(bad, 9), Episode(2.0, 8)), Losses(policy=0.5, kl=bad))
    assert believable(report) == Report(10, (Episode(2.0, 8),), Losses())


@pytest.mark.parametrize("score", [1.01e15, -1e300, 1.7e308])
def test_a_score_that_no_target_may_be_is_left_out(score: float) -> None:
    assert believable(Report(10, (Episode(score, 2), Episode(1e15, 3)))) == Report(10, (Episode(1e15, 3),))


@pytest.mark.parametrize(
    ("env_steps", "earlier", "lengths", "kept"),
    [
        (10, 0, (4, 6), True),
        (10, 0, (5, 6), False),
        (10, 1, (5, 6), True),
        (2, 1000, (300, 300), True),
        (2, 1000, (300, 300, 1), False),  # each ended with a step of this report
        (0, 1000, (1,), False),
        (MAX_REPORT_STEPS + 1, 0, (1,), False),
        (2, 0, (MAX_REPORT_STEPS,), False),
    ],
)
def test_episodes_are_of_steps_that_nothing_else_accounted_for(
    env_steps: int, earlier: int, lengths: tuple[int, ...], kept: bool
) -> None:
    episodes = tuple(Episode(1.0, length) for length in lengths)
    assert believable(Report(env_steps, episodes), earlier).episodes == (episodes if kept else ())


def test_an_episode_without_steps_is_left_out() -> None:
    assert believable(Report(10, (Episode(1.0, 0), Episode(2.0, 3)))).episodes == (Episode(2.0, 3),)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.01])
def test_an_explained_variance_that_cannot_be_is_left_out(bad: float) -> None:
    assert believable(Report(10, explained_variance=bad)) == Report(10)
    assert believable(Report(10, explained_variance=-50.0)).explained_variance == -50.0


def test_metrics_that_are_no_numbers_or_that_nobody_can_print_are_left_out() -> None:
    sound = Metric("success", 1e15, 3)
    bad = (Metric("a", np.nan), Metric("b", -np.inf), Metric("c", 1.01e15), Metric("d\n", 1.0))
    assert believable(Report(10, metrics=(bad[0], sound, *bad[1:]))).metrics == (sound,)


@pytest.mark.parametrize(("rows", "kept"), [(10, 10), (11, 0), ((1 << 53) - 1, 0)])
def test_observations_are_of_the_steps_that_were_taken(rows: int, kept: int) -> None:
    assert believable(Report(10, observations=rows)).observations == kept


@pytest.mark.parametrize(
    ("numbers", "norm"),
    [([], 0.0), ([3.0, -4.0], 5.0), ([BIG, 1.0], np.inf), ([BIG, np.inf], np.nan), ([np.nan, 0.0], np.nan)],
)
def test_norms_dense_and_sparse(numbers: list[float], norm: float) -> None:
    values = np.array(numbers, np.float32)
    np.testing.assert_equal(measure(values), norm)
    np.testing.assert_equal(measure(Sparse(P, np.arange(len(values), dtype=np.int32), values)), norm)
