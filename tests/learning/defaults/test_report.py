"""What counts as above and below, and what the table says of runs that are not all there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.learning.defaults.report import OURS, score, verdict, written
from tests.learning.defaults.tasks import DEVELOPMENT, REPORTING


@pytest.mark.parametrize(
    ("ours", "others", "expected"),
    [
        ([10.0, 12.0], [[1.0, 2.0]], "above"),
        ([1.0, 2.0], [[10.0, 12.0], [0.0, 0.0]], "below"),
        ([10.0, 12.0], [[10.5, 12.5]], "even"),
        ([500.0], [[500.0], [100.0]], "even"),
    ],
)
def test_the_better_of_the_peers_is_what_counts(ours: list[float], others: list[list[float]], expected: str) -> None:
    assert verdict(score(ours), [score(other) for other in others]) == expected


def test_a_standard_error_is_of_the_mean() -> None:
    found = score([1.0, 3.0])
    assert found.mean == pytest.approx(2.0)
    assert found.error == pytest.approx(1.0)
    assert found.seeds == 2


def record(who: str, seed: int, value: float | None) -> dict[str, Any]:
    return {"task": "CartPole", "who": who, "seed": seed, "return_mean_100": value, "commit": "abc"}


def test_the_table_counts_its_rows_and_leaves_out_what_was_not_measured() -> None:
    text = written([record(OURS, 0, 500.0), record(OURS, 1, 490.0), record("ppo", 0, 400.0), record("a2c", 0, None)])
    assert "1 above, 0 even, 0 below. Commits measured: abc." in text
    assert "| CartPole | 100 k | 495 ± 5 (2) | 400 ± 0 (1) |  | above |" in text
    assert "Acrobot" not in text


def test_no_environment_both_chooses_and_reports() -> None:
    assert not {(task.env, str(task.options)) for task in DEVELOPMENT} & {(t.env, str(t.options)) for t in REPORTING}
    assert len(REPORTING) >= 15
