"""The checker finds every lie that it is there to find, and no other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.simulation.history import Acked, Adopted, Applied, Began, Operation, Told, check

HONEST: tuple[Operation, ...] = (
    Began(1, 0, "a"),
    Applied(1, 1, ((7, 1),), None, durable=True),
    Applied(1, 2, ((8, 1),), "c", durable=True),
    Adopted(1, 2, "one"),
    Acked(1, 1, (7, 1), durable=True),
    Acked(1, 2, (8, 1), durable=True),
    Applied(1, 3, ((7, 2),), "d", durable=True),
    Began(2, 2, "c"),
    Applied(2, 3, ((9, 1),), "e", durable=True),
    Adopted(2, 3, "one"),
    Acked(2, 3, (9, 1), durable=True),
    Began(3, 3, "e"),
)


def test_an_honest_history_keeps_every_promise() -> None:
    assert check(HONEST) == []


@pytest.mark.parametrize(
    ("after", "lie", "broken"),
    [
        (8, Applied(2, 4, ((7, 2),), "f", durable=True), "each_gradient_is_applied_at_most_once"),
        (2, Acked(1, 3, (7, 2), durable=False), "what_is_acked_was_applied"),
        (5, Acked(1, 2, (7, 1), durable=True), "what_is_acked_was_applied"),
        (6, Applied(1, 5, ((7, 3),), "x", durable=True), "each_version_follows_the_one_before"),
        (6, Began(1, 2, "c"), "each_version_follows_the_one_before"),
        (6, Began(2, 2, "x"), "a_life_begins_with_bits_that_there_were"),
        (11, Began(4, 1, "b"), "a_life_begins_with_bits_that_there_were"),
        (11, Began(4, 2, "c"), "nothing_that_was_promised_is_lost"),
        (6, Told(1, 3, durable=True), "nothing_that_was_promised_is_lost"),
        (10, Adopted(2, 2, "one"), "weights_only_get_newer"),
        (10, Adopted(1, 9, "one"), "weights_only_get_newer"),
    ],
)
def test_a_lie_is_found_and_named(after: int, lie: Operation, broken: str) -> None:
    told: Sequence[Operation] = (*HONEST[: after + 1], lie, *HONEST[after + 1 :])
    assert any(found.startswith(f"{broken}: ") for found in check(told))


def test_what_was_not_promised_may_be_lost() -> None:
    told: tuple[Operation, ...] = (
        Began(1, 0, "a"),
        Applied(1, 1, ((7, 1),), "b", durable=False),
        Acked(1, 1, (7, 1), durable=False),
        Began(2, 0, "a"),
    )
    assert check(told) == []
