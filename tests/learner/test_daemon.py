"""Signals and ends, as the daemon meets them: before the run has begun, while it goes on, and once it is decided."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from learner import daemon as module
from learner.config import Experiment, LearnerSettings
from learner.daemon import Daemon, Parting, resuming
from learner.events import StopRequested
from learner.launch.bootstrap import Resources
from learner.launch.local_actors import ChildFailed
from learner.launch.options import Options
from learner.launch.run_directory import RunDirectory
from learner.monitoring.console import Console
from learner.service import Ending
from protocol.errors import UserError
from tests.learner.books import learner_state, trained


def with_daemon(folder: Path, story: Callable[[Daemon, list[object]], object]) -> list[object]:
    """What became of ``story``: events posted to the run, "killed", how it ends, and the lines that people saw."""
    told: list[object] = []
    lines = io.StringIO()
    console = Console(True, lines)

    async def run() -> None:
        options = Options(Experiment(), (), None, folder, False, (), None, False, True, time.monotonic())
        with RunDirectory.prepare(folder, resume=False) as directory:
            sockets = cast("Any", SimpleNamespace())
            daemon = Daemon(Resources(options, directory, sockets, console, None, None, "", None))
            daemon.local_actors = cast("Any", SimpleNamespace(kill=lambda: told.append("killed")))
            story(daemon, told)
            if daemon.ending.decided.done():
                told.append(daemon.ending.decided.exception() or daemon.ending.decided.result())

    asyncio.run(run())
    console.close()
    return [*told, *(json.loads(line)["event"] for line in lines.getvalue().splitlines())]


def running(daemon: Daemon, told: list[object], updates: int = 0) -> None:
    """The run has begun."""
    state = learner_state(trained([3.0]))
    state.progress.version = updates
    daemon.service = cast("Any", SimpleNamespace(post=told.append, state=state, wall_s=lambda: 1.0))


def test_the_first_signal_drains_and_only_another_one_insists(tmp_path: Path) -> None:
    def story(daemon: Daemon, told: list[object]) -> None:
        running(daemon, told)
        daemon.signalled(signal.SIGTERM)
        daemon.signalled(signal.SIGTERM)  # the same one, as a terminal's
        assert told == [StopRequested("SIGTERM", 0)]
        daemon.signalled(signal.SIGINT)

    assert with_daemon(tmp_path / "run", story)[1:] == ["killed", 1, "stopped_at_once"]


def test_before_the_run_has_begun_there_is_nothing_to_drain(tmp_path: Path) -> None:
    assert with_daemon(tmp_path / "run", lambda daemon, told: daemon.signalled(signal.SIGTERM)) == [0]


def test_actors_are_sent_home_before_a_restore_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal may take minutes; meanwhile nobody should train, and a second signal is heard."""
    told: list[str] = []

    async def serve() -> int:
        released = asyncio.Event()

        async def begin(*_: object) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await released.wait()
                told.append("restored")
                raise

        async def stop(deadline_s: float) -> None:
            told.append("sent home")
            daemon.signalled(signal.SIGINT)
            released.set()

        monkeypatch.setattr(module, "begin", begin)
        monkeypatch.setattr(module, "handle_signals", lambda handler: None)
        options = Options(Experiment(), (), None, tmp_path / "run", False, (), None, False, True, time.monotonic())
        with RunDirectory.prepare(tmp_path / "run", resume=False) as directory:
            console = Console(True, io.StringIO())
            daemon = Daemon(Resources(options, directory, cast("Any", None), console, None, None, "", None))
            daemon.local_actors = cast("Any", SimpleNamespace(stop=stop, kill=lambda: told.append("killed")))
            asyncio.get_running_loop().call_soon(daemon.signalled, signal.SIGTERM)
            return await daemon.serve()

    assert asyncio.run(serve()) == 0
    assert told == ["sent home", "killed", "restored"]


@pytest.mark.parametrize(("updates", "ends"), [(0, True), (5, False)])
def test_an_actor_that_refuses_its_settings_ends_what_has_learnt_nothing(
    tmp_path: Path, updates: int, ends: bool
) -> None:
    def story(daemon: Daemon, told: list[object]) -> None:
        running(daemon, told, updates)
        daemon.local_actors_ended("no such environment", 2)

    said, line = with_daemon(tmp_path / "run", story)
    assert line == "actors_gone"
    assert isinstance(said, ChildFailed if ends else StopRequested)


def test_the_command_that_goes_on_says_what_the_run_directory_does_not_hold(tmp_path: Path) -> None:
    plain = Options(Experiment(), (), None, Path("runs/a b"), False, (), None, False, True, 0.0)
    assert resuming(plain) == "learner run --resume --run-dir 'runs/a b'"
    more = replace(plain, bind=("tcp://0.0.0.0:5555",), allow_modules=("corridor",))
    more = replace(more, keys=Path("keys"), initial=Path("o"))
    flags = "--bind tcp://0.0.0.0:5555 --keys keys --initial o --allow-module corridor"
    assert resuming(more) == f"{resuming(plain)} {flags}"


@pytest.mark.parametrize("ends", ["hung", "done", "refused", "alone"])
def test_whoever_watches_cannot_keep_the_process(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    told: list[object] = []

    async def serve(_: Options, parting: Parting) -> int:
        parting.left_s = 4.0
        parting.unfinished = ["mine"] if ends == "hung" else []
        if ends == "refused":
            raise UserError("no")
        return 3

    monkeypatch.setattr(module, "serve", serve)
    monkeypatch.setattr(module, "handle_signals", lambda handler: None)
    monkeypatch.setattr(module, "leave", told.append)
    monkeypatch.setattr(module, "leave_within", lambda *given: told.append(given))
    experiment = Experiment(learner=LearnerSettings(on_event="" if ends == "alone" else "mine:hook"))
    options = Options(experiment, (), None, Path("run"), False, (), None, False, True, 0.0)
    with pytest.raises(UserError) if ends == "refused" else contextlib.nullcontext():
        assert module.run(options) == 3
    hook = "learner.on_event mine:hook"
    expected: dict[str, list[object]] = {"hung": [3, (4.0, 3, hook)], "done": [(4.0, 3, hook)], "alone": []}
    assert told == expected.get(ends, [(4.0, 2, hook)])


def test_a_decided_exit_code_stays() -> None:
    """A second signal changes nothing but the local actors' patience."""

    async def story() -> int:
        ending = Ending()
        ending.end(3)
        ending.end(1)
        ending.fail(RuntimeError("late"))
        return await ending.decided

    assert asyncio.run(story()) == 3
