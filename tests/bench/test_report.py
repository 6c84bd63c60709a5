"""The report from a handful of records. Measures nothing, so it runs with every other test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.rates.actor_rate import slope
from tests.bench.store import Record, Store, at_once, origins
from tests.bench.training import FARFLUNG, LIBRARY, LOOPS, TASKS, turns


def trained(seed: int, wall_s: float, *, solved: bool = True) -> Record:
    return {
        "solved": solved,
        "wall_s": wall_s,
        "total_s": wall_s + 2.0,
        "env_steps": 1000 * (seed + 1),
        "return_mean_100": 480.0,
        "compression": 37.0,
        "peak_bytes": 100_000_000 * (seed + 1),
        "curve": [],
    }


def fill(store: Store, walls: list[float], system: str = "Farflung", *, solved: bool = True) -> None:
    for seed, wall_s in enumerate(walls):
        key = {"system": system, "env": "CartPole-v1", "seed": seed}
        store.once(key, lambda seed=seed, wall_s=wall_s: trained(seed, wall_s, solved=solved))  # type: ignore[misc]


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
    assert "| Farflung | 3 of 3 | 5.00 | 7.0 | 2 k | 500 | 200 MB | 9.00, 4.00, 5.00 |" in text
    assert text.count("| Farflung |") == 1 + 3


def test_a_run_without_a_figure_of_memory_has_an_empty_cell(tmp_path: Path) -> None:
    fill(Store(tmp_path, "cartpole"), [4.0])
    records = [{**record, "peak_bytes": None} for record in Store(tmp_path, "cartpole").read()]
    assert "| 250 |  | 4.00 |" in report.training(TASKS[0], records)


def test_only_the_library_has_a_bar_and_a_faster_loop_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path, "cartpole")
    fill(store, [2.0, 2.0])
    fill(store, [1.0, 1.0], "loop: JAX, Gymnasium")
    fill(store, [9.0], LIBRARY, solved=False)
    text = report.training(TASKS[0], store.read())
    assert "* loop: JAX, Gymnasium takes 0.50 times Farflung's seconds by the medians.\n" in text
    assert f"* {LIBRARY} takes 4.50 times Farflung's seconds by the medians, at least, for it did not" in text
    assert "solve every seed (bar: 3)." in text
    assert report.LOOP_WORDS in text


def test_where_farflung_left_a_seed_unsolved_no_ratio_is_claimed(tmp_path: Path) -> None:
    store = Store(tmp_path, "cartpole")
    fill(store, [2.0], solved=False)
    fill(store, [4.0], "loop: JAX, Gymnasium", solved=False)
    assert "by the medians, which says nothing, for Farflung" in report.training(TASKS[0], store.read())


def test_every_seed_runs_on_every_system_in_turns() -> None:
    order = list(turns(TASKS[0], quick=False, peer_seeds=1))
    assert order[:6] == [(0, FARFLUNG), *((0, loop) for loop in LOOPS), (0, LIBRARY), (1, FARFLUNG)]
    assert len(order) == TASKS[0].seeds * (1 + len(LOOPS)) + 1


def test_the_share_is_the_median_of_each_rounds_share() -> None:
    rounds = [
        {"experiment": name, "both_bare": bare, "real": 60.0, "past": past}
        for name, past in (("cartpole", 70.0), ("pong", None))
        for bare in (100.0, 80.0, 60.0)
    ]
    text = report.share(rounds)
    assert "| cartpole | 80 | 60 | 0.75 | 70 | 0.60, 0.75, 1.00 |" in text
    assert "| pong | 80 | 60 | 0.75 |  | 0.60, 0.75, 1.00 |" in text


def test_a_whole_report_is_written_from_what_there_is(tmp_path: Path) -> None:
    fill(Store(tmp_path, "cartpole"), [4.0])
    Store(tmp_path, "share").once(
        {"experiment": "cartpole", "round": 0}, lambda: {"both_bare": 2.0, "real": 1.0, "past": 1.5}
    )
    report.write(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "RESULTS.md").read_text(encoding="utf-8")
    assert text.index("## CartPole-v1") < text.index("## The system's share of two cores")


def test_shares_are_medians_of_shares(tmp_path: Path) -> None:
    case = {"case": "10 k", "parameters": 9986, "snapshots_per_s": 10.0, "refused": 0, "judged": True}
    rounds = [{**case, "bare": bare, "learner": rate} for bare, rate in ((100.0, 90.0), (200.0, 140.0), (100.0, 80.0))]
    assert "| 10 k | 9,986 | 100 | 90 | 0.80 | 10 | 0 |" in report.learner(rounds)


def test_a_rate_is_the_slope_of_the_warm_part() -> None:
    lines = [{"wall_s": float(s), "env_steps": 5000 * s + (900 if s == 1 else 0), "actors": 1} for s in range(1, 9)]
    assert slope(lines) == pytest.approx(5000.0)


def test_a_rate_past_the_target_leaves_out_what_came_before() -> None:
    lines = [{"wall_s": float(s), "env_steps": min(s, 5) * 1000 + max(0, s - 5) * 400, "actors": 2} for s in range(11)]
    assert slope(lines, after_s=5.0) == pytest.approx(400.0)


def test_runs_that_there_is_no_time_for_are_left_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path, "part")
    store.once({"seed": 0}, lambda: {"value": 1})
    runs = [({"seed": seed}, lambda: {"value": 2}) for seed in range(3)]
    assert at_once(Store(tmp_path, "part", ends=0.0), runs, 2) == 2
    assert "2 of 3 runs are left" in capsys.readouterr().out
    assert at_once(store, runs, 2) == 0
    assert [record["value"] for record in sorted(store.read(), key=lambda record: record["seed"])] == [1, 2, 2]
