"""Systems that several files of this folder look at. Started once each, because each takes a second to start."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.loopback.system import ENDLESS, Daemon, Launcher, processes


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts daemons in an empty folder; nothing of them outlives the test."""
    with Launcher(tmp_path_factory.mktemp("x")) as launcher:  # short: the path of an ipc socket has 107 bytes
        yield launcher


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended at its step limit. left: process ids that were still there when the learner had exited."""

    learner: Daemon
    exit_code: int
    left: list[int]
    run_dir: Path
    launcher: Launcher


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Two local actors, CartPole, three thousand steps."""
    with Launcher(tmp_path_factory.mktemp("x")) as launcher:
        run_dir = launcher.folder / "run"
        learner = launcher.learner("--actors", 2, "--until-steps", 3000, "--run-dir", run_dir)
        code = learner.wait()
        yield Finished(learner, code, processes(launcher.mark), run_dir, launcher)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A learner without actors of its own. address: of its link, over TCP. url: of its pages."""

    learner: Daemon
    address: str
    url: str
    launcher: Launcher


@pytest.fixture(scope="session")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """Listens until the tests are over."""
    with Launcher(tmp_path_factory.mktemp("x")) as launcher:
        learner = launcher.learner(
            "--actors", 0, "--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--run-dir", "run", *ENDLESS
        )
        started = learner.event("started")
        yield Waiting(learner, started["bound"][0], started["http"], launcher)
        learner.signal(signal.SIGTERM)
        assert learner.wait() == 0, learner.story()
