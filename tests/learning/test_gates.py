"""Each task is solved within its budget, through ``learner run`` as a user types it. Knows processes; takes minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.farflung import Trained, train

pytestmark = [pytest.mark.learning, pytest.mark.timeout(1800)]

COMPRESSION = 30.0  # what the default codec must save against dense float32, headers and reports included
HARMLESS = {"applied", "draining"}  # the last gradients find a learner that has all it wants


@dataclass(frozen=True)
class Gate:
    """One task and its budget. limit: environment steps. seeds: how many, from 0. dense: nothing is compressed."""

    name: str
    arguments: tuple[str, ...]
    target: float
    limit: int
    seeds: int
    dense: bool = False


DENSE = ("--set", "learner.optimizer=adam", "--set", "actor.codec=f32")
CARTPOLE = ("--env", "CartPole-v1", "--actors", "2", "--until-return", "475")
GATES = (
    Gate("CartPole-v1", CARTPOLE, 475.0, 200_000, 3),
    Gate("CartPole-v1, f32, Adam at learner", (*CARTPOLE, *DENSE), 475.0, 200_000, 1, dense=True),
    Gate("Acrobot-v1", ("acrobot",), -100.0, 300_000, 2),
    Gate("LunarLander-v3", ("lunarlander",), 200.0, 1_500_000, 2),
)
CASES = [pytest.param(gate, seed, id=f"{gate.name}-{seed}") for gate in GATES for seed in range(gate.seeds)]


@pytest.mark.parametrize(("gate", "seed"), CASES)
def test_solved_within_budget(gate: Gate, seed: int, tmp_path: Path, table: list[tuple[object, ...]]) -> None:
    trained = train([*gate.arguments, "--until-steps", str(gate.limit), "--seed", str(seed)], tmp_path / "run")
    table.append(_row(gate, seed, trained))
    result = trained.result
    assert trained.exit_code == 0
    assert result["solved"]
    assert result["return_mean_100"] >= gate.target
    assert set(result["rulings"]) <= HARMLESS, "with two local actors nothing goes stale or wrong"
    assert result["rulings"]["applied"] == result["updates"]
    assert not result["faults"]
    if not gate.dense:
        assert result["compression"] >= COMPRESSION


def _row(gate: Gate, seed: int, trained: Trained) -> tuple[object, ...]:
    result = trained.result
    mean, compression = result["return_mean_100"], result["compression"]
    return (
        gate.name,
        seed,
        "yes" if result["solved"] else "NO",
        "none" if mean is None else f"{mean:.1f}",
        f"{result['env_steps']:,}",
        f"{result['wall_s']:.1f}",
        f"{trained.total_s:.1f}",
        "none" if compression is None else f"{compression:.1f}",
        f"{result['staleness_mean']:.1f}",
    )
