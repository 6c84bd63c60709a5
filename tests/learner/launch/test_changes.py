"""What a run that goes on may have otherwise: what is told of it, and what the optimizer's state forbids."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learner.config import Experiment, RunSettings, learner_settings
from learner.durability import journal as journals
from learner.durability.checkpoint import Checkpoint, save, write
from learner.launch.changes import learner_changes, require_state
from learner.optim.optimizers import make_optimizer, state_names
from protocol.errors import SettingError


def of(until_steps: int | None = None, **settings: Any) -> Experiment:
    return Experiment(run=RunSettings(until_steps=until_steps), learner=learner_settings(settings))


def saved(folder: Path, *names: str, version: int = 3) -> Checkpoint:
    arrays = {"theta": np.zeros(2, np.float32), **{f"optimizer.{name}": np.zeros(2, np.float32) for name in names}}
    kept = Checkpoint("ab" * 8, version, 1, {}, arrays)
    folder.mkdir(exist_ok=True)
    save(folder, kept, 9)
    return kept


def refused(folder: Path, before: Experiment | None = None, **settings: Any) -> str:
    with pytest.raises(SettingError) as caught:
        require_state(folder, folder / "journal", before, learner_settings(settings))
    return str(caught.value)


def test_settings_of_the_learner_are_told_with_both_values() -> None:
    told = learner_changes(of(optimizer="adamw", weight_decay=0.3), of(optimizer="adam", learning_rate=0.5))
    assert told == {
        "learner.optimizer": ("adamw", "adam"),
        "learner.weight_decay": (0.3, None),
        "learner.learning_rate": (1e-3, 0.5),
    }


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((300, 300), (600, 600), {}),
        ((300, 300), (600, 900), {"learner.anneal_steps": (300, 900)}),
        ((300, 200), (600, 600), {"learner.anneal_steps": (200, 600)}),
    ],
)
def test_a_fall_of_the_rate_as_long_as_the_run_is_no_news(
    before: tuple[int, int], after: tuple[int, int], told: dict[str, object]
) -> None:
    one, other = (of(until, anneal="linear", anneal_steps=steps) for until, steps in (before, after))
    assert learner_changes(one, other) == told


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(
    "settings",
    [{"optimizer": name} for name in ("preconditioned", "adam", "adamw", "lion", "rmsprop", "rmsprop_paper", "sgd")]
    + [{"optimizer": "sgd", "momentum": 0.9}],
)
def test_the_names_are_those_of_the_state(settings: dict[str, Any]) -> None:
    learner = learner_settings(settings)
    assert {*state_names(learner.optimizer)} == {*make_optimizer(learner, np.zeros(3, np.float32)).state()}


def test_an_optimizer_goes_on_from_its_own_state_alone(tmp_path: Path) -> None:
    require_state(tmp_path, tmp_path / "journal", None, learner_settings({"optimizer": "lion"}))  # nothing is there
    saved(tmp_path, "step", "exp_avg", "exp_avg_sq")
    for sound in ("adam", "adamw"):
        require_state(tmp_path, tmp_path / "journal", None, learner_settings({"optimizer": sound}))
    said = refused(tmp_path, of(optimizer="adamw"), optimizer="lion")
    its = "the run goes on from the optimizer state of 'adam' or 'adamw', and had 'adamw' last"
    what = f"write that, or begin another run with its weights: --initial {tmp_path.parent}"
    assert said == f"learner.optimizer = 'lion': {its}: {what}"
    assert "'adam' or 'adamw': write that" in refused(tmp_path, None, optimizer="preconditioned")


def test_of_one_without_state_and_of_one_with_momentum(tmp_path: Path) -> None:
    saved(tmp_path / "none")
    said = refused(tmp_path / "none", of(optimizer="sgd"), optimizer="sgd", momentum=0.9)
    assert said.startswith("learner.momentum = 0.9: ")
    assert "of 'preconditioned' or 'sgd' with learner.momentum = 0, and had 'sgd' last" in said
    saved(tmp_path / "some", "momentum_buffer")
    assert "'sgd' with learner.momentum above 0" in refused(tmp_path / "some", None, optimizer="sgd")
    saved(tmp_path / "future", "third_moment")
    assert "an optimizer that this version does not have" in refused(tmp_path / "future", None, optimizer="adam")


def test_the_newest_that_can_be_read_says_it_in_the_journal_too(tmp_path: Path) -> None:
    saved(tmp_path, "exp_avg", version=3)
    (tmp_path / "checkpoint-000000000009.safetensors").write_bytes(b"torn")
    assert "'lion'" in refused(tmp_path, None, optimizer="adam")
    journal = tmp_path / "journal"
    journal.mkdir()
    write(*journals.base_paths(journal, 5), saved(tmp_path / "other", "square_avg", version=5))
    assert "'rmsprop_paper'" in refused(tmp_path, None, optimizer="adam")
