"""Which bars hold, from records that nobody measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from actor.config import read_settings
from learner.config import actor_table
from learner.launch.experiment_file import load
from protocol.codecs.registry import CODECS
from protocol.shipped import named
from tests.bench.store import Record
from tests.learning import codecs, lag, pixels, report
from tests.learning.robustness import rates
from tests.learning.tasks import TASKS, Task

DRAWS = len(rates.RATES)
TIMED = next(task for task in TASKS if task.median_s is not None)
CONTROL = next(task for task in TASKS if task.below is not None)


def run(task: Task, seed: int, **changes: object) -> Record:
    made = {"task": task.name, "seed": seed, "solved": True, "wall_s": 1.0, "best": task.target, "rulings": {}}
    return made | ({"solved": False, "best": 30.0} if task.below is not None else {}) | changes


def runs(task: Task, **changes: object) -> list[Record]:
    return [run(task, seed, **changes) for seed in task.each_seed]


def draws(solved: int = DRAWS, soon: int = DRAWS, quick: int = DRAWS, *, count: int = DRAWS) -> list[Record]:
    return [
        {
            "system": "Farflung",
            "draw": number,
            "rate": 1e-3,
            "solved": number < solved,
            "env_steps": rates.SOON_STEPS if number < soon else rates.SOON_STEPS + 1,
            "wall_s": rates.SOON_S if number < quick else rates.SOON_S + 0.1,
        }
        for number in range(count)
    ]


def rounds(shares: Sequence[float], times: Sequence[float]) -> list[Record]:
    parts = dict.fromkeys(("simulator_us", "forward_us", "gradient_us", "both_bare", "alone", "whole", "peer"), 1.0)
    return [
        parts | {"share": share, "share_of_alone": share, "times": many}
        for share, many in zip(shares, times, strict=True)
    ]


def found(**files: Sequence[Record]) -> dict[str, Sequence[Record]]:
    return dict.fromkeys(report.FILES, ()) | files


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_is_missed_that_lacks_a_seed(task: Task) -> None:
    assert report.missed(found(learning=runs(task))) == []
    assert report.missed(found(learning=runs(task)[:-1])) == [task.name]


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (TIMED, {"solved": False}),
        (TIMED, {"wall_s": TIMED.median_s}),
        (TIMED, {"rulings": {"applied": 9, "stale_updates": 1}}),
        (CONTROL, {"best": CONTROL.below}),
    ],
)
def test_a_task_is_missed_whose_bar_does_not_hold(task: Task, changes: Record) -> None:
    assert report.missed(found(learning=runs(task, **changes))) == [task.name]


@pytest.mark.parametrize(
    ("records", "held"),
    [
        (draws(), True),
        (draws(soon=33, quick=45), True),
        (draws(solved=DRAWS - 1), False),
        (draws(soon=32), False),  # 64 %
        (draws(quick=44), False),  # 88 %
        (draws(count=DRAWS - 1), False),
        ([*draws(), {"system": "Stable-Baselines3 A2C", "solved": False}], True),
        ([], False),
    ],
)
def test_learning_rates_hold_where_all_three_shares_do(records: list[Record], held: bool) -> None:
    assert rates.holds(records) is held


@pytest.mark.parametrize(
    ("records", "held"),
    [
        (rounds([0.1, 0.8, 0.9], [1.0, 4.0, 5.0]), True),  # the medians are at the bars
        (rounds([0.1, 0.79, 0.9], [1.0, 4.0, 5.0]), False),
        (rounds([0.1, 0.8, 0.9], [1.0, 3.9, 5.0]), False),
        (rounds([0.9, 0.9], [5.0, 5.0]), False),
        ([], False),
    ],
)
def test_throughput_holds_where_both_medians_do(records: list[Record], held: bool) -> None:
    assert pixels.holds(records) is held


def test_studies_are_judged_where_they_were_asked_for_or_have_records() -> None:
    assert report.missed(found()) == []
    assert report.missed(found(), ("robustness", "lag", TIMED.name)) == [TIMED.name, "robustness"]
    assert report.missed(found(robustness=draws(count=2), pixels=rounds([0.1], [9.0]))) == ["robustness", "pixels"]
    assert report.missed(found(robustness=draws()), ("robustness",)) == []


def test_sections_say_what_was_missed(tmp_path: Path) -> None:
    assert "(missed)" not in "\n".join(report.robustness_section(draws(), tmp_path))
    assert "65% and 90% (missed)." in "\n".join(report.robustness_section(draws(soon=32), tmp_path))
    assert "(missed)" not in "\n".join(report.pixels_section(rounds([0.8] * 3, [4.0] * 3)))
    assert "the peer (missed)." in "\n".join(report.pixels_section(rounds([0.7] * 3, [4.0] * 3)))


def test_the_staleness_section_tells_range_and_measured_lag(tmp_path: Path) -> None:
    records = [
        {"house": house, "lag": 4, "rule": "gap", "seed": seed, "lag_mean_updates": 3.9, "curve": [[2000, mean]]}
        for house in lag.HOUSES
        for seed, mean in enumerate((90.0, 120.0, 100.0))
    ]
    text = "\n".join(report.lag_section(records, tmp_path))
    for name, house in lag.HOUSES.items():
        assert (f"| {name} | gap |  | 100 (90 to 120) |  |  |" in text) == ("gap" in house.rules)
    assert "single updates: none, 3.9, none, none." in text


def test_the_codecs_section_tells_bytes_and_every_seed(tmp_path: Path) -> None:
    numbers = {"dense_bytes": 4000, "bytes_per_gradient": 40.0, "gradients": 10, "curve": [[2000, 30.0]]}
    records: list[Record] = [
        {"way": "topk_i8, 1 %", "seed": seed, "solved": seed != 1, "env_steps": steps, **numbers}
        for seed, steps in enumerate((90_000, 400_000, 110_000))
    ]
    text = "\n".join(report.codecs_section(records[::-1], tmp_path))
    assert "| topk_i8, 1 % | 100.0 | 2 of 3 | 110 k | 90, 400+, 110 |" in text
    assert "| f32 |" not in text
    assert (tmp_path / "codecs.png").exists()


def test_every_codec_of_the_study_can_be_asked_for() -> None:
    for settings in codecs.WAYS.values():
        experiment = load(named("cartpole"), settings, {})
        assert read_settings(actor_table(experiment)).codec in CODECS


def test_a_report_of_one_study_needs_no_task_and_names_its_commits(tmp_path: Path) -> None:
    lines = [json.dumps(record | {"commit": "a2038efab-dirty"}) for record in draws()]
    (tmp_path / "robustness.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "LEARNING.md").read_text(encoding="utf-8")
    assert "Commits measured: a2038efab + uncommitted changes.\n" in text
    assert "| Farflung | 50 | 50 (100%) | 50 (100%) | 50 (100%) |" in text


def test_the_rules_are_compared_without_what_hides_them() -> None:
    controlled = [name for name, house in lag.HOUSES.items() if "actor.kl_target=0" not in house.settings]
    assert controlled == ["the same with kl_target", "as shipped: a message a rollout", "the same, four actors"]
