"""When a run counts as solved, from its progress lines."""

from __future__ import annotations

import pytest

from tests.bench.links.far import solved_at


def point(env_steps: int, episodes: int, mean: float) -> dict[str, float]:
    return {"env_steps": env_steps, "episodes": episodes, "return_mean": mean}


@pytest.mark.parametrize(
    ("points", "steps"),
    [
        ([], None),
        ([point(1, 99, 300.0), point(2, 100, 199.9)], None),
        ([point(1, 99, 300.0), point(2, 100, 200.0), point(3, 120, 210.0)], 2),
    ],
)
def test_a_run_is_solved_at_the_first_mean_of_a_hundred_episodes_that_is_at_the_target(
    points: list[dict[str, float]], steps: int | None
) -> None:
    assert solved_at(points, 200.0) == steps
