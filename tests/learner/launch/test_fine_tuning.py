"""Lives that begin with another run's weights: real run directories, no sockets, no child processes."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from learner.config import Adam, Experiment, Journaled, LearnerSettings, RunSettings
from learner.durability import checkpoint as checkpoints
from learner.durability.checkpoint import Checkpoint
from learner.launch import bootstrap as module
from learner.launch.bootstrap import Resources, begin
from learner.launch.initial import Initial, InitialError
from learner.launch.options import Options
from learner.launch.run_directory import RunDirectory, RunDirectoryError
from learner.launch.toml import dumps
from learner.launch.transfer import Wanted
from learner.monitoring.console import Console
from learner.monitoring.result import result_of
from learner.optim.optimizers import StateMismatch
from protocol import manifest as manifests
from protocol.annealing import Constant
from protocol.errors import UserError
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.messages import ROLES
from tests.learner.books import LAYOUT, manifest

THETA = np.arange(LAYOUT.length, dtype=np.float32)
LEARNT = 50.0 + THETA
MOMENTS = {
    "observations.count": np.array(20, np.int64),
    "observations.mean": np.array([1.0, 2.0, 3.0]),
    "observations.m2": np.array([20.0, 40.0, 60.0]),
}
ADAM = {
    "optimizer.step": np.array(9.0, np.float32),
    "optimizer.exp_avg": LEARNT + 1.0,
    "optimizer.exp_avg_sq": LEARNT + 2.0,
}
PLAIN = Experiment(run=RunSettings(actors=0), actor={"env": "toy"})
TUNED_BY_ADAM = LearnerSettings(optimizer=Adam(), anneal=Constant())


@pytest.fixture(autouse=True)
def _no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """θ₀ without a process that makes it."""

    async def initial(*_: object) -> Initial:
        return Initial(THETA, LAYOUT, "toy", 3, 0, "")

    monkeypatch.setattr(module, "initial", initial)


@dataclass(frozen=True)
class Life:
    """What one start of the learner held when it would have listened."""

    theta: np.ndarray
    arrays: dict[str, np.ndarray]
    version: int
    env_steps: int
    told: list[tuple[str, dict[str, object]]]
    result: dict[str, Any]


def life(folder: Path, wanted: Wanted | None = None, *, resume: bool = False, experiment: Experiment = PLAIN) -> Life:
    """One start of the learner, up to where it would listen."""
    options = Options(experiment, (), None, folder, resume, (), None, False, True, time.monotonic(), weights=wanted)
    told: list[tuple[str, dict[str, object]]] = []

    async def build() -> Life:
        sockets = cast("Any", SimpleNamespace(weights="ipc:///nowhere", bound=[], set_limits=lambda limits: None))
        with RunDirectory.prepare(folder, resume) as directory:
            resources = Resources(options, directory, sockets, Console(True, io.StringIO()), None, None, "", None)
            begun = await begin(
                resources, cast("Any", None), lambda key: ROLES, lambda event, fields: told.append((event, fields))
            )
            begun.store.close()
            parameters, progress = begun.parameters, begun.state.progress
            arrays, result = parameters.checkpoint_arrays(), result_of(begun.state, 1.0, 0.0, 0)
            return Life(parameters.theta.copy(), arrays, parameters.version, progress.env_steps, told, result)

    return asyncio.run(build())


def other(folder: Path, layout: Layout = LAYOUT, learner: LearnerSettings = TUNED_BY_ADAM, **changes: object) -> Path:
    """A run that had learnt something: its directory."""
    (folder / "checkpoints").mkdir(parents=True)
    about: Manifest = manifest(layout=layout, env="other", **changes)
    data = manifests.encode(about)
    (folder / "manifest.json").write_bytes(data)
    (folder / "experiment.toml").write_text(dumps(Experiment(learner=learner)))
    theta = 50.0 + np.arange(layout.length, dtype=np.float32)
    arrays = {"theta": theta, **MOMENTS, **ADAM}
    kept = Checkpoint(digest_of(data).hex(), 40, 2, {"env_steps": 9000, "episodes": 7}, arrays)
    checkpoints.save(folder / "checkpoints", kept, keep=1)
    return folder


def kept_manifest(folder: Path) -> Manifest:
    return manifests.decode((folder / "manifest.json").read_bytes())


def test_it_begins_with_the_weights_and_statistics_and_counts_from_zero(tmp_path: Path) -> None:
    begun = life(tmp_path / "run", Wanted(other(tmp_path / "old")))
    np.testing.assert_array_equal(begun.theta, LEARNT)
    for name, array in MOMENTS.items():
        np.testing.assert_array_equal(begun.arrays[name], array)
    assert (begun.version, begun.env_steps) == (0, 0)
    told = dict(begun.told)["initial_weights"]
    path = str(tmp_path / "old" / "checkpoints" / "checkpoint-000000000040.safetensors")
    assert (told["from"], told["version"], told["copied_layers"], told["left_layers"]) == (path, 40, 2, 0)
    assert begun.result["initial_weights"] == path
    origin = kept_manifest(tmp_path / "run").initial
    assert origin is not msgspec.UNSET
    assert (origin.path, origin.run, origin.version, origin.statistics_rows) == (path, "test-7", 40, 20)


def test_a_run_without_says_so(tmp_path: Path) -> None:
    begun = life(tmp_path / "run")
    assert begun.result["initial_weights"] is None
    assert b"initial" not in (tmp_path / "run" / "manifest.json").read_bytes()
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_new_head_on_an_old_trunk(tmp_path: Path) -> None:
    old = other(tmp_path / "old", Layout((Entry("w", (2, 3)), Entry("b", (7,)))))
    with pytest.raises(InitialError, match=r"b is \[4\] here and \[7\] there; --initial-except 'b' would"):
        life(tmp_path / "run", Wanted(old))
    assert not (tmp_path / "run").exists()
    begun = life(tmp_path / "run", Wanted(old, leave=("b",)))
    np.testing.assert_array_equal(begun.theta, np.concatenate([LEARNT[:6], THETA[6:]]))
    assert dict(begun.told)["initial_weights"]["left"] == "b"


def test_adam_goes_on_where_it_was_if_asked(tmp_path: Path) -> None:
    old, experiment = other(tmp_path / "old"), msgspec.structs.replace(PLAIN, learner=TUNED_BY_ADAM)
    asked = life(tmp_path / "asked", Wanted(old, optimizer=True), experiment=experiment)
    fresh = life(tmp_path / "fresh", Wanted(old), experiment=experiment)
    for name, array in ADAM.items():
        np.testing.assert_array_equal(asked.arrays[name], array)
        np.testing.assert_array_equal(fresh.arrays[name], np.zeros_like(array))


def test_an_optimizer_of_another_kind_leaves_nothing_behind(tmp_path: Path) -> None:
    old = other(tmp_path / "old")
    with pytest.raises(InitialError, match="its optimizer is adam, and this run's is preconditioned"):
        life(tmp_path / "run", Wanted(old, optimizer=True))
    path = old / "checkpoints" / "checkpoint-000000000040.safetensors"
    kept = checkpoints.load(path)
    less = {name: array for name, array in kept.arrays.items() if name != "optimizer.exp_avg_sq"}
    checkpoints.save(old / "checkpoints", Checkpoint(kept.manifest, 41, 2, {}, less), keep=1)
    experiment = msgspec.structs.replace(PLAIN, learner=TUNED_BY_ADAM)
    with pytest.raises(StateMismatch, match=r"exp_avg_sq"):
        life(tmp_path / "run", Wanted(old, optimizer=True), experiment=experiment)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("journaled", [False, True])
def test_a_run_that_goes_on_needs_the_other_no_more(tmp_path: Path, journaled: bool) -> None:
    learner = LearnerSettings(durability=Journaled()) if journaled else LearnerSettings()
    experiment = msgspec.structs.replace(PLAIN, learner=learner)
    wanted = Wanted(other(tmp_path / "old"))
    life(tmp_path / "run", wanted, experiment=experiment)
    (tmp_path / "old").rename(tmp_path / "gone")
    for given in (None, wanted):  # a supervisor says the same words each time
        again = life(tmp_path / "run", given, resume=True, experiment=experiment)
        np.testing.assert_array_equal(again.theta, LEARNT)
        np.testing.assert_array_equal(again.arrays["observations.m2"], MOMENTS["observations.m2"])
        assert "initial_weights" not in dict(again.told)
        assert again.result["initial_weights"] is not None


def test_a_run_that_died_before_it_wrote_them_down_reads_the_same_file_again(tmp_path: Path) -> None:
    old = other(tmp_path / "old")
    life(tmp_path / "run", Wanted(old, leave=("b",)))
    (tmp_path / "run" / "checkpoints" / "checkpoint-000000000000.safetensors").unlink()
    again = life(tmp_path / "run", resume=True)
    np.testing.assert_array_equal(again.theta, np.concatenate([LEARNT[:6], THETA[6:]]))
    (tmp_path / "run" / "checkpoints" / "checkpoint-000000000000.safetensors").unlink()
    (old / "checkpoints" / "checkpoint-000000000040.safetensors").unlink()
    with pytest.raises(UserError, match="No such file or directory"):
        life(tmp_path / "run", resume=True)


def test_a_run_that_goes_on_keeps_what_it_began_with(tmp_path: Path) -> None:
    old, newer = other(tmp_path / "old"), other(tmp_path / "newer")
    life(tmp_path / "plain")
    life(tmp_path / "tuned", Wanted(old))
    with pytest.raises(RunDirectoryError, match="began with θ₀ of its own, and goes on with what it has learnt"):
        life(tmp_path / "plain", Wanted(old), resume=True)
    for wanted in (Wanted(newer), Wanted(old, leave=("b",))):
        with pytest.raises(RunDirectoryError, match=f"began with the weights of {old}"):
            life(tmp_path / "tuned", wanted, resume=True)
