"""The report of fleets from a handful of records. Measures nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.fleet import report, series
from tests.bench.fleet.series import Task
from tests.bench.store import Record, Store


def played(actors: int, seed: int, seconds: float, *, solved: bool = True, name: str = "cartpole") -> Record:
    return {
        "experiment": name,
        "actors": actors,
        "seed": seed,
        "solved": solved,
        "seconds": seconds,
        "env_steps": round(1000 * actors * seconds),
        "return_mean_100": 480.0 if solved else None,
        "messages": 1234,
        "received_bytes": 56_700,
        "lag_mean_updates": 1.5,
        "busy_share": 0.97,
        "commit": "abc",
        "at": "2026-01-01 00:00",
    }


EVERY = [played(1, seed, seconds) for seed, seconds in enumerate((40.0, 60.0, 80.0))] + [
    played(4, seed, seconds) for seed, seconds in enumerate((10.0, 20.0, 30.0))
]


def test_speedups_are_ratios_of_medians() -> None:
    assert report.ratios(EVERY, "seconds") == {1: 1.0, 4: pytest.approx(1 / 3)}
    assert report.ratios(EVERY, "env_steps") == {1: 1.0, 4: pytest.approx(4 / 3)}
    text = report.experiment("cartpole", EVERY)
    assert "| 1 | 1.0 | 3 of 3 | 60.0 | 40.0 to 80.0 | 60 | 1,234 | 57 | 1.5 | 97% |" in text
    assert "| 4 | 3.0 | 3 of 3 | 20.0 | 10.0 to 30.0 | 80 | 1,234 | 57 | 1.5 | 97% |" in text
    assert "| 4 | 2 | yes | 30.0 | 120 | 480.0 | 1,234 | 57 | 1.5 | 97% |" in text


def test_a_seed_that_was_not_solved_takes_for_ever() -> None:
    one_failed = [*EVERY[:3], played(2, 0, 10.0), played(2, 1, 99.0, solved=False), played(2, 2, 30.0)]
    assert report.ratios(one_failed, "seconds")[2] == 0.5
    two_failed = [*EVERY[:3], played(2, 0, 10.0), *(played(2, seed, 5.0, solved=False) for seed in (1, 2))]
    assert 2 not in report.ratios(two_failed, "seconds")
    assert "| 2 | not reached | 1 of 3 | not reached | 5.0 to 10.0 | not reached |" in report.experiment("", two_failed)
    assert report.ratios([played(2, 0, 1.0)], "seconds") == {}


def test_the_paper_stands_beside_it() -> None:
    text = report.beside_the_paper([*EVERY, played(64, 0, 5.0)])
    assert "|  | 1 | 2 | 4 | 8 | 16 | 64 |" in text
    assert "| cartpole | 1.0 |  | 3.0 |  |  | 12.0 |" in text
    assert "| Mnih et al. 2016, A3C | 1 | 2.1 | 3.7 | 6.9 | 12.5 |  |" in text


def test_the_report_and_its_pictures(tmp_path: Path) -> None:
    other = [played(1, 0, 9.0, solved=False, name="acrobot"), played(2, 0, 9.0, name="acrobot")]
    report.write([*EVERY, *other], tmp_path)
    text = (tmp_path / "FLEET.md").read_text(encoding="utf-8")
    assert text.count("## ") == 3
    for name in ("speedup", "steps"):
        assert f"(pictures/fleet-{name}.png)" in text
        assert (tmp_path / "pictures" / f"fleet-{name}.png").stat().st_size > 10_000


def test_a_series_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(arguments: list[str]) -> Record:
        asked.append(arguments)
        return played(1, 0, 1.0) | {"curve": []}

    monkeypatch.setattr(series, "ask", ask)
    store = Store(tmp_path, series.PART)
    series.measure([Task("cartpole", seeds=1, sizes=(1, 2))], store, quick=False)
    limits = ["run.until_steps=400000", "learner.anneal_steps=300000", "learner.anneal_floor=0.05"]  # as shipped
    assert sorted(asked)[1] == ["tests.bench.fleet", "cartpole", "0", "--actors", "2", *limits]
    series.measure([Task("cartpole", seeds=2, sizes=(1, 2, 4))], store, quick=False)
    assert sorted((record["seed"], record["actors"]) for record in store.read()) == [
        (0, 1),
        (0, 2),
        (0, 4),
        (1, 1),
        (1, 2),
        (1, 4),
    ]
    assert len(asked) == 6


def test_every_task_is_shipped_and_has_an_end() -> None:
    from learner.launch.experiment_file import load
    from protocol.shipped import named

    for task in series.TASKS:
        run = load(named(task.experiment), [], {}).run
        assert run.until_return is not None
        assert run.until_steps is not None
