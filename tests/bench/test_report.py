"""The report from a handful of records. Measures nothing, so it runs with every other test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.rates.actor_rate import slope
from tests.bench.store import Record, Store, origins
from tests.bench.training import TASKS


def trained(seed: int, wall_s: float, *, solved: bool = True) -> Record:
    return {
        "solved": solved,
        "wall_s": wall_s,
        "total_s": wall_s + 2.0,
        "env_steps": 1000 * (seed + 1),
        "return_mean_100": 480.0,
        "compression": 37.0,
        "curve": [],
    }


def fill(store: Store, walls: list[float]) -> None:
    for seed, wall_s in enumerate(walls):
        store.once({"system": "Farflung", "env": "CartPole-v1", "seed": seed}, lambda s=seed, w=wall_s: trained(s, w))  # type: ignore[misc]


def test_a_finished_measurement_is_not_made_again(tmp_path: Path) -> None:
    store, made = Store(tmp_path, "cartpole"), []
    for _ in range(2):
        store.once({"seed": 3}, lambda: made.append(1) or {"wall_s": 1.0})  # type: ignore[func-returns-value]
    assert len(made) == 1
    assert [record["seed"] for record in store.read()] == [3]


def test_a_failed_measurement_leaves_no_line(tmp_path: Path) -> None:
    store = Store(tmp_path, "cartpole")

    def fails() -> Record:
        raise RuntimeError("no result")

    with pytest.raises(RuntimeError):
        store.once({"seed": 0}, fails)
    assert store.read() == []


def test_origins_are_told_once_and_changes_in_words() -> None:
    commits = ("a2038efab", "a2038efab-dirty", "a2038efab", "unknown")
    told = "a2038efab, a2038efab + uncommitted changes, unknown"
    assert origins({"commit": name} for name in commits) == told
    assert origins([]) == "none"


def test_a_record_names_the_commit_that_was_there_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.store.commit", lambda: "before")

    def committed_meanwhile() -> Record:
        monkeypatch.setattr("tests.bench.store.commit", lambda: "after")
        return {}

    assert Store(tmp_path, "cartpole").once({"seed": 0}, committed_meanwhile)["commit"] == "before"


def test_medians_count_every_seed(tmp_path: Path) -> None:
    fill(Store(tmp_path, "cartpole"), [9.0, 4.0, 5.0])
    text = report.training(TASKS[0], Store(tmp_path, "cartpole").read())
    assert "| Farflung | 3 of 3 | 5.0 | 4.0 to 9.0 | 7.0 | 2 k |" in text
    assert text.count("| Farflung |") == 1 + 3


def test_shares_are_medians_of_shares(tmp_path: Path) -> None:
    case = {"case": "10 k", "parameters": 9986, "snapshots_per_s": 10.0, "refused": 0, "judged": True}
    rounds = [{**case, "bare": bare, "learner": rate} for bare, rate in ((100.0, 90.0), (200.0, 140.0), (100.0, 80.0))]
    assert "| 10 k | 9,986 | 100 | 90 | 0.80 | 10 | 0 |" in report.learner(rounds)


def test_a_rate_is_the_slope_of_the_warm_part() -> None:
    lines = [{"wall_s": float(s), "env_steps": 5000 * s + (900 if s == 1 else 0), "actors": 1} for s in range(1, 9)]
    assert slope(lines) == pytest.approx(5000.0)
