"""What a life of the learner begins with: real run directories, no sockets, no child processes."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from learner.config import Experiment, RunSettings
from learner.durability.checkpoint import Checkpoint, save, save_best
from learner.durability.storage import RunStorage
from learner.launch import bootstrap as module
from learner.launch.bootstrap import Resources, begin
from learner.launch.initial import Initial
from learner.launch.options import Options
from learner.launch.run_directory import RunDirectory
from learner.monitoring.console import Console
from learner.progress import Progress
from protocol.messages import ROLES
from tests.learner.books import LAYOUT

EXPERIMENT = Experiment(run=RunSettings(actors=0), actor={"env": "toy"})
DEADLINE_S = 30.0
THETA = np.arange(LAYOUT.length, dtype=np.float32)


@pytest.fixture(autouse=True)
def _no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """θ₀ without a process that makes it."""

    async def initial(*_: object) -> Initial:
        return Initial(THETA, LAYOUT, "toy", 0, 0, "")

    monkeypatch.setattr(module, "initial", initial)


def life(folder: Path, resume: bool) -> tuple[Progress, str]:
    """One start of the learner, up to where it would listen: its books, and the run's digest."""
    options = Options(EXPERIMENT, (), None, folder, resume, (), None, False, True, time.monotonic())

    async def build() -> tuple[Progress, str]:
        sockets = cast("Any", SimpleNamespace(weights="ipc:///nowhere", bound=[], set_limits=lambda limits: None))
        with RunDirectory.prepare(folder, resume) as directory:
            resources = Resources(options, directory, sockets, Console(True, io.StringIO()), None, None, "", None)
            no_actors = cast("Any", None)
            begun = await begin(resources, no_actors, lambda key: ROLES, lambda event, fields: None)
            begun.store.close()
            return begun.state.progress, begun.digest

    return asyncio.run(build())


def a_best(digest: str) -> Checkpoint:
    score: dict[str, int | float] = {"episodes": 20, "mean": 12.5, "std": 1.0, "ci95": 0.4, "seed": 3}
    return Checkpoint(digest, 7, 1, {}, {"theta": THETA}, score)


def recalled(progress: Progress) -> tuple[float | None, int | None]:
    return progress.evaluated_best_mean, progress.evaluated_best_version


def test_a_run_that_died_before_its_first_checkpoint_keeps_its_best(tmp_path: Path) -> None:
    """Else the first score of the life after, which is of θ₀, would take the place of a better one."""
    progress, digest = life(tmp_path / "run", resume=False)
    assert recalled(progress) == (None, None)
    save_best(tmp_path / "run" / "checkpoints", a_best(digest))
    progress, _ = life(tmp_path / "run", resume=True)
    assert progress.version == 0
    assert recalled(progress) == (12.5, 7)


def test_a_best_beside_a_checkpoint_is_recalled_too(tmp_path: Path) -> None:
    _, digest = life(tmp_path / "run", resume=False)
    folder = tmp_path / "run" / "checkpoints"
    save(folder, Checkpoint(digest, 5, 1, {"env_steps": 30}, {"theta": THETA}), keep=1)
    save_best(folder, a_best(digest))
    progress, _ = life(tmp_path / "run", resume=True)
    assert (progress.version, progress.env_steps) == (5, 30)
    assert recalled(progress) == (12.5, 7)


def test_the_best_of_another_run_is_not_recalled(tmp_path: Path) -> None:
    life(tmp_path / "run", resume=False)
    save_best(tmp_path / "run" / "checkpoints", a_best("ab" * 8))
    progress, _ = life(tmp_path / "run", resume=True)
    assert recalled(progress) == (None, None)


def test_who_cancels_a_restore_waits_for_it_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    restoring, may_end = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        restoring.set()
        may_end.wait(DEADLINE_S)
        told.append("restored")

    class Watched(RunStorage):
        def close(self) -> None:
            told.append("closed")
            super().close()

    monkeypatch.setattr(module, "restore_best", slow)
    monkeypatch.setattr(module, "RunStorage", Watched)

    async def story() -> None:
        options = Options(EXPERIMENT, (), None, tmp_path / "run", False, (), None, False, True, time.monotonic())
        sockets = cast("Any", SimpleNamespace(weights="ipc:///nowhere", bound=[], set_limits=lambda limits: None))
        with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
            resources = Resources(options, directory, sockets, Console(True, io.StringIO()), None, None, "", None)
            beginning = asyncio.ensure_future(begin(resources, cast("Any", None), lambda _: ROLES, lambda *_: None))
            await asyncio.to_thread(restoring.wait, DEADLINE_S)
            beginning.cancel()
            await asyncio.sleep(0)
            assert not beginning.done()
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await beginning

    asyncio.run(story())
    assert told == ["restored", "closed"]
