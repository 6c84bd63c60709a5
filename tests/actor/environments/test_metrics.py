"""Means of what environments measure, against the plainest loop; what is no number is counted and never fatal."""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import pytest

from actor.config import ActorSettings
from actor.environments.child_protocol import Measured
from actor.environments.metrics import MetricBook, joined
from actor.environments.registry import make_vector_envs
from protocol.messages import MAX_METRICS, Metric

ENV = "tests.actor.environments.measuring:Measuring-v0"
ALLOWED = frozenset({"tests.actor.environments.measuring"})
ACTIONS = np.zeros((4, 1), np.int64)


def told(book: MetricBook) -> dict[str, tuple[float, int]]:
    return {metric.name: (metric.mean, metric.count) for metric in book.take()}


def test_means_are_of_all_numbers_since_they_were_last_taken() -> None:
    book, generator = MetricBook(), random.Random(0)
    for _ in range(3):
        numbers = [generator.uniform(-9.0, 9.0) for _ in range(100)]
        for number in numbers:
            book.take_out({"metrics": {"distance": number}})
        mean, count = told(book)["distance"]
        assert count == 100
        assert mean == pytest.approx(sum(numbers) / 100, rel=1e-12)
    assert book.take() == ()


def test_info_goes_on_without_the_metrics_and_is_itself_where_it_has_none() -> None:
    book, plain = MetricBook(), {"lives": 3}
    assert book.take_out(plain) is plain
    assert book.take_out({"metrics": {"a": 1}, "lives": 3}) == plain
    assert book.take_out(None) is None


@pytest.mark.parametrize("number", [1, 1.0, True, np.float32(1), np.int8(1), np.bool_(True), np.array(1.0)])
def test_every_plain_number_counts(number: Any) -> None:
    book = MetricBook()
    book.take_out({"metrics": {"a": number}})
    assert (told(book), book.left_out) == ({"a": (1.0, 1)}, 0)


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({"a": "1"}, "info['metrics']['a'] is str, not a number"),
        ({"a": None}, "is NoneType, not a number"),
        ({"a": 1j}, "is complex, not a number"),
        ({"a": np.ones(2)}, "is ndarray, not a number"),
        ({"a": float("nan")}, "is nan, not finite"),
        ({"a": 10**400}, "is inf, not finite"),
        ({"a": 1e16}, "not finite and within ±1e+15"),
        ({7: 1.0}, "a name in info['metrics'] is 7"),
        ({"": 1.0}, "is '', not text of 1 to 64 printable characters"),
        ({"x" * 65: 1.0}, "not text of 1 to 64 printable characters"),
        ({"\ud800": 1.0}, "printable"),
        ([1.0], "info['metrics'] is list, not a dict of numbers"),
    ],
)
def test_what_is_no_number_is_counted_and_the_first_is_told(metrics: Any, why: str) -> None:
    book = MetricBook()
    for _ in range(2):
        book.take_out({"metrics": metrics})
    book.take_out({"metrics": {"a": "another"}})
    assert (book.take(), book.left_out) == ((), 3)
    assert why in book.first_left_out


def test_the_first_names_keep_their_places_and_the_others_are_counted() -> None:
    book = MetricBook()
    for _ in range(2):
        book.take_out({"metrics": {f"m{number}": number for number in range(MAX_METRICS + 2)}})
        assert [metric.name for metric in book.take()] == [f"m{number}" for number in range(MAX_METRICS)]
    assert book.left_out == 4
    assert "more than 32 names; 'm32' is one too many" in book.first_left_out


def test_a_batch_counts_the_rows_that_said_something_and_those_that_ended() -> None:
    book = MetricBook()
    success = {"success": np.array([True, False]), "_success": np.array([True, False])}
    distance = {"distance": np.array([3.0, 5.0]), "_distance": np.array([True, True])}
    book.add_batch({"metrics": distance, "_metrics": np.ones(2, np.bool_), "final_info": {"metrics": success}}, 2)
    assert told(book) == {"distance": (4.0, 2), "success": (1.0, 1)}
    book.add_batch({"metrics": {"distance": np.array([1.0, np.nan])}}, 2)
    assert (told(book), book.left_out) == ({"distance": (1.0, 1)}, 1)


@pytest.mark.parametrize("metrics", [7, {"a": [1.0, 2.0]}, {"a": np.ones(3)}, {"a": np.ones(2), "_a": np.ones(2)}])
def test_a_batch_that_is_none_is_counted(metrics: Any) -> None:
    book = MetricBook()
    book.add_batch({"metrics": metrics}, 2)
    assert (book.take(), book.left_out) == ((), 1)


def test_what_another_process_measured_is_weighted_by_its_count() -> None:
    book = MetricBook()
    book.merge(Measured((Metric("a", 1.0, 3),), 2, "the first"))
    book.merge(Measured((Metric("a", 5.0, 1), Metric("b", 2.0, 1)), 1, "the second"))
    assert told(book) == {"a": (2.0, 4), "b": (2.0, 1)}
    assert (book.left_out, book.first_left_out) == (3, "the first")
    assert joined((Metric("a", 1.0, 3),), (Metric("a", 5.0),)) == (Metric("a", 2.0, 4),)


@pytest.mark.parametrize("vectorization", ["sync", "processes"])
def test_environments_here_and_in_processes_are_heard_alike(vectorization: Literal["sync", "processes"]) -> None:
    settings = ActorSettings(env=ENV, envs=4, vectorization=vectorization, env_options={"odd": True})
    book = MetricBook()
    (simulators,) = make_vector_envs(settings, ALLOWED, metrics=book)
    try:
        simulators.reset(0)
        episodes = 0
        while episodes < 16:  # a step more or less for each, as the environment resets in it or later
            episodes += len(simulators.step(ACTIONS).episodes)
    finally:
        simulators.close()
    assert told(book) == {"taken": (2.0, 48), "success": (0.5, 16)}
    assert book.left_out >= 16
    assert book.first_left_out == "info['metrics']['odd'] is str, not a number"


def test_without_a_book_metrics_of_any_kind_hurt_nobody() -> None:
    settings = ActorSettings(env=ENV, envs=4, vectorization="sync", env_options={"odd": True})
    (simulators,) = make_vector_envs(settings, ALLOWED)
    simulators.reset(0)
    for _ in range(8):
        simulators.step(ACTIONS)
    simulators.close()
