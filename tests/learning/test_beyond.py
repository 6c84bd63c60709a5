"""What counts as fallen, and how far runs go."""

from __future__ import annotations

import pytest

from protocol.messages import Episode, Report
from tests.bench.store import Record
from tests.learning import beyond, report
from tests.learning.beyond import CASES, SEEDS, Beyond, experiment_of, fallen_share, floor, holds, train
from tests.learning.test_turns import SMALL
from tests.learning.turns import begin

CURVE = [(1000, 10.0), (2000, 90.0)]


def record(name: str = "cartpole", seed: int = 0, fallen: int = 0, reached_at: int | None = 2000) -> Record:
    """100 points since the target was reached, so many of them fallen."""
    since = [(3000 + 10 * n, 79.9 if n < fallen else 80.0) for n in range(100)]
    given = {"target": 100.0, "env_steps": 4000, "reached_at": reached_at, "curve": [CURVE[0], *since]}
    return {"experiment": name, "seed": seed, **given}


def records(**changes: int) -> list[Record]:
    return [record(name, seed, **changes) for name in CASES for seed in range(SEEDS)]


@pytest.mark.parametrize(("target", "least"), [(475.0, 380.0), (-100.0, -120.0), (0.0, 0.0)])
def test_the_floor_lies_a_fifth_of_the_target_below_it(target: float, least: float) -> None:
    assert floor(target) == pytest.approx(least)


def test_what_was_before_the_target_does_not_count() -> None:
    assert fallen_share(record()) == 0.0
    assert fallen_share(record(fallen=7)) == pytest.approx(0.07)
    assert fallen_share(record(reached_at=None)) == 1.0


def test_all_cases_must_be_whole_and_stay() -> None:
    assert holds(records(fallen=5))
    assert not holds(records(fallen=6))
    assert not holds(records()[1:])
    assert not holds([*records()[1:], record(CASES[0], 0, reached_at=None)])


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_a_target_and_an_end(name: str) -> None:
    run = experiment_of(name, 3).run
    assert run.until_return is not None
    assert run.until_steps is not None
    assert run.seed == 3


def test_a_run_goes_on_to_five_times_the_steps_of_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hundredth episode comes at 300 steps, and the limit of 1000 ends no run that has reached its target."""
    run, workers = begin(experiment_of("cartpole", 0, [*SMALL, "run.until_return=20", "run.until_steps=1000"]), 1, 0)
    workers[0][0].close()
    monkeypatch.setattr(beyond, "LEAST_STEPS", 0)
    over, ends = Beyond(), []
    for _ in range(16):
        run.progress.record(Report(100, (Episode(20.0, 20),) * 34))
        ends.append(over(run))
    assert over.reached_at == 300
    assert ends == [False] * 14 + [True, True]
    monkeypatch.setattr(beyond, "LEAST_STEPS", 1700)
    assert not over(run)


def test_a_run_that_never_reaches_its_target_ends_at_its_limit() -> None:
    made = train(experiment_of("cartpole", 0, [*SMALL, "run.until_return=499.0"]))
    assert made["reached_at"] is None
    assert 400 <= made["env_steps"] < 500


def test_the_report_tells_each_seed_and_what_is_not_measured() -> None:
    text = "\n".join(
        report.beyond_section([record(seed=1), record(seed=0, fallen=50), record(seed=2, reached_at=None)])
    )
    assert "| cartpole | 0 | 100 | 2,000 | 4,000 | 79.9 | 80 | 50.0% (missed) |" in text
    assert "| cartpole | 1 | 100 | 2,000 | 4,000 | 80 | 80 | 0.0% |" in text
    assert "| cartpole | 2 | 100 | never | 4,000 | none | none | 100.0% (missed) |" in text
    assert "since (missed). Not measured yet: cartpole-memory 0, cartpole-memory 1," in text
