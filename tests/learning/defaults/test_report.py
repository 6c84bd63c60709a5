"""What counts as above and below, and what the table says of runs that are not all there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.learning.defaults import atari, mujoco
from tests.learning.defaults.mujoco import STEPS
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
    assert "| CartPole | 100 k | 495 ± 5 (2) | 400 (1) |  | above |" in text
    assert "| CartPole | Farflung | 500, 490 |" in text
    assert "Acrobot" not in text


def test_no_environment_both_chooses_and_reports() -> None:
    assert not {(task.env, str(task.options)) for task in DEVELOPMENT} & {(t.env, str(t.options)) for t in REPORTING}
    assert len(REPORTING) >= 15


def run(who: str, played: float, steps: int = STEPS, wall_s: float = 100.0) -> dict[str, Any]:
    own = {"who": who, "env": "Hopper-v5", "seed": 0, "return_mean_100": played, "played": played, "wall_s": wall_s}
    return own | {"steps": steps, "env_steps": steps}


def test_a_million_steps_are_held_against_the_better_of_what_is_published_and_what_was_measured() -> None:
    ours = run(mujoco.OURS, 2_500.0)
    assert mujoco.row("Hopper-v5", [ours])[5] == "at or above"
    assert mujoco.row("Hopper-v5", [ours, run(mujoco.PEER, 2_600.0)])[5] == "below"
    short = run(mujoco.PEER, 9_999.0, steps=STEPS // 50, wall_s=30.0)
    line = mujoco.row("Hopper-v5", [ours, short])
    assert line[4:] == ("", "at or above", "100", "1500", "15.0")  # a short run's return says nothing, its seconds do


def test_an_atari_game_is_held_against_what_others_are_published_with(tmp_path: Path) -> None:
    curve = [[100_000, 400.0, 5.0], [2_500_000, 1_000.0, 250.0], [4_000_000, 3_600.0, 300.0]]
    run = {
        "game": "Breakout",
        "seconds": 3600.0,
        "curve": curve,
        "env_steps": 4_000_000,
        "wall_s": 3600.0,
        "commit": "a",
    }
    atari.write([run | {"seed": i, "return_mean_100": end} for i, end in enumerate((260.0, 300.0, 310.0))], tmp_path)
    line = (tmp_path / "ATARI.md").read_text(encoding="utf-8").splitlines()[-1]
    assert line == "| Breakout | 250 | 250 | 300 | 268 | at or above | 538 | 16.0 | 60 | 260, 300, 310 |"


def test_a_game_that_did_not_come_so_far_has_no_number_there() -> None:
    assert atari.at([(10, 1.0, 3.0), (20, 2.0, 4.0)], lambda point: point[1] >= 1.5) == 4.0
    assert atari.at([(10, 1.0, 3.0)], lambda point: point[1] >= 900.0) is None
