"""A learner that drills happen to, and what can be asked of it from outside. Knows processes, HTTP and /proc."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from tests.loopback.system import ENDLESS, Daemon, Launcher, free_ports

LIVE_S, STATUS_S = 0.02, 0.1  # between two questions
PATIENCE_S = 60.0
PEERS = 1000
PLAIN = (  # what applies a gradient of light actors exactly: each takes the same off its coordinate
    "learner.staleness_rule=none",
    "learner.anneal=none",
    "learner.learning_rate=0.0009765625",
)
JOURNAL = ("learner.durability=journal",)
SPRY = ("learner.heartbeat_s=1", "learner.silence_s=4")  # whoever is gone is missed within five seconds


@dataclass(slots=True)
class Options:
    """How a drill is to be run. times: faults, None for as many as its record needs; minutes: likewise."""

    times: int | None = None
    minutes: float | None = None
    real: bool = False  # real actors in place of light ones
    journal: bool = False  # the learner is durable to the last answer
    peers: int = PEERS
    seed: int = 0


class Scene:
    """A folder, its launcher, and a learner that can be started again at the same place. A context manager."""

    def __init__(self, *settings: str, keys: Path | None = None, within: str | None = None, host: str = "") -> None:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="farflung-fault-")))
        self.launch = self._stack.enter_context(Launcher(folder, within))
        self.run_dir, self.keys = folder / "run", keys
        port, self.page = free_ports(), free_ports()
        self.address = f"tcp://{host or '127.0.0.1'}:{port}"
        self._settings = [part for setting in settings for part in ("--set", setting)]
        self._insecure = ("--insecure",) if host else ()
        self.lives = 0
        self.learner: Daemon

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def folder(self) -> Path:
        """Of everything."""
        return self.launch.folder

    def start(
        self,
        *more: object,
        experiment: str = "cartpole",
        actors: int = 0,
        failpoint: str | None = None,
        **environment: str,
    ) -> Daemon:
        """The first life of the learner, or the next; does not wait for it. failpoint: of its disk."""
        resume = ("--resume",) if (self.run_dir / "manifest.json").exists() else (experiment,)
        keys = () if self.keys is None else ("--keys", self.keys)
        place = ("--bind", self.address, "--run-dir", self.run_dir, "--http", f"127.0.0.1:{self.page}")
        self.lives += 1
        self.learner = self.launch.learner(
            *resume, *place, *keys, *self._insecure, "--actors", actors, *ENDLESS, "--until-steps", 1 << 50,
            *self._settings, *more, failpoint=failpoint, TMPDIR=str(self.folder), **environment,
        )  # fmt: skip
        return self.learner

    def light(self, name: str, *arguments: object) -> Daemon:
        """A process of light actors."""
        return self.launch.start("tests.faults.peers.light", self.address, name, *arguments)

    def status(self) -> dict[str, Any] | None:
        """The learner's /status; None where it does not answer."""
        return ask(self.page, "/status")


def ask(port: int, path: str, timeout_s: float = 30.0) -> dict[str, Any] | None:
    """A JSON page; None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def metric(port: int, name: str) -> float | None:
    """One number of an actor's page of metrics; name: with its labels. None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/metrics")
        for line in connection.getresponse().read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def until(passed: Callable[[], bool], patience_s: float = PATIENCE_S, every_s: float = 0.05) -> float | None:
    """Seconds until it holds; None where it never does."""
    began = time.monotonic()
    while time.monotonic() - began < patience_s:
        if passed():
            return time.monotonic() - began
        time.sleep(every_s)
    return None


def require(passed: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
    """The same; raises AssertionError where it never does: the drill cannot begin."""
    took_s = until(passed, patience_s)
    assert took_s is not None, f"never happened: {what}"
    return took_s


def rss(pid: int) -> int:
    """Bytes of a process that lie in memory; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def processor_s(pid: int) -> float:
    """Seconds that a process has computed; 0 once it has ended."""
    with contextlib.suppress(OSError):
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def descriptors(pid: int) -> int:
    """Open ones; 0 once it has ended."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  (a count of names)
    return 0


@dataclass(slots=True)
class Seen:
    """What a watch saw. answers_s: of /livez. status: (time, /status) each time."""

    answers_s: list[float] = field(default_factory=list)
    status: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


@contextlib.contextmanager
def watched(port: int) -> Iterator[Seen]:
    """Asks the learner's pages again and again: how long its loop takes to answer, and what it says."""
    seen, over = Seen(), threading.Event()

    def probe() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)
        while not over.wait(LIVE_S):
            began = time.monotonic()
            try:
                connection.request("GET", "/livez")
                connection.getresponse().read()
                seen.answers_s.append(time.monotonic() - began)
            except (OSError, http.client.HTTPException):
                connection.close()

    def follow() -> None:
        while not over.wait(STATUS_S):
            began = time.monotonic()
            if (found := ask(port, "/status")) is not None:
                seen.status.append((began, found))

    threads = [threading.Thread(target=each, daemon=True) for each in (probe, follow)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(5.0)
