"""What the drill makes of a learner's answers, without one."""

from __future__ import annotations

import pytest

from tests.faults.past_target import TASKS, USUAL, Seen


def seen(*answers: tuple[float, int]) -> Seen:
    """(now, version)."""
    found = Seen()
    for now, version in answers:
        found.take({"version": version}, now)
    return found


@pytest.mark.parametrize(
    ("answers", "longest_s"),
    [
        ([(0.0, 0), (50.0, 0), (60.0, 1)], 0.0),  # before the first there is nothing to wait for
        ([(0.0, 1), (1.0, 2), (4.0, 3), (5.0, 9)], 3.0),
        ([(0.0, 1), (1.0, 2), (6.0, 2), (13.0, 2)], 12.0),
        ([(0.0, 5), (20.0, 5), (21.0, 6), (22.0, 7)], 21.0),
    ],
)
def test_the_longest_time_without_a_new_version(answers: list[tuple[float, int]], longest_s: float) -> None:
    assert seen(*answers).longest_s == longest_s


def test_the_usual_tasks_are_three_of_which_one_has_sparse_rewards() -> None:
    assert set(USUAL) <= set(TASKS)
    assert len(USUAL) == 3
    assert "frozenlake" in USUAL
