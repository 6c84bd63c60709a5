"""Real daemons for tests. Knows processes, pipes, /proc and sockets; reads what the daemons say, never sleeps.

A ``Daemon`` is one started command and everything it said, as JSON events and as other lines. All that a test starts
carries a mark in its environment, which its children inherit: so ``processes`` finds the ones that were left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0  # for anything that must happen; a hundred times what it takes on an idle machine
MARK = "LOOPBACK_MARK"
# CartPole ends at 500, and is solved within seconds otherwise, or at its step limit on a machine that is busy.
ENDLESS = ("--until-return", 501, "--until-steps", 1_000_000_000)

Said = dict[str, Any]
Test = Callable[[Said], bool]


class Daemon:
    """A process that runs. events: its JSON lines so far. lines: everything else that it said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid
        self.events: list[Said] = []
        self.lines: list[str] = []
        self._changed = threading.Condition()
        streams = (process.stdout, process.stderr)
        self._readers = [threading.Thread(target=self._read, args=(stream,), daemon=True) for stream in streams]
        self._open = len(self._readers)
        for reader in self._readers:
            reader.start()

    def event(self, name: str, test: Test = lambda _: True, *, after: int = 0) -> Said:
        """The first event of this name that passes ``test``, now or later; ``after`` skips that many events."""
        until = time.monotonic() + DEADLINE_S
        with self._changed:
            while True:
                for said in self.events[after:]:
                    if said["event"] == name and test(said):
                        return said
                after = len(self.events)
                left_s = until - time.monotonic()
                if not self._open or left_s <= 0.0:
                    raise AssertionError(f"{name!r} was never said.\n{self.story()}")
                self._changed.wait(left_s)

    def signal(self, number: signal.Signals) -> None:
        """To this process alone."""
        self.process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Its exit code, once it has exited and all that it said is here."""
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not exit.\n{self.story()}") from None
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return code

    def kill(self) -> None:
        """Now, whatever it does."""
        self.process.kill()
        self.wait()

    def said(self, name: str) -> list[Said]:
        """All events of this name so far."""
        with self._changed:
            return [said for said in self.events if said["event"] == name]

    def story(self) -> str:
        """The end of what it said, for a failure."""
        return "\n".join([*map(str, self.events[-30:]), *self.lines[-30:]])

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._take(line.rstrip())
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def _take(self, line: str) -> None:
        with self._changed:
            try:
                self.events.append({"event": "", **json.loads(line)})
            except (ValueError, TypeError):
                self.lines.append(line)
            self._changed.notify_all()


class Launcher:
    """Starts commands in ``folder``. Leaving it kills what is left of them, children included.

    within: the network namespace that they live in, ours if None.
    """

    def __init__(self, folder: Path, within: str | None = None) -> None:
        self.folder = folder
        self._before = [] if within is None else ["ip", "netns", "exec", within]
        self.mark = uuid.uuid4().hex
        self._daemons: list[Daemon] = []
        self._unread: list[int] = []  # both ends of pipes that nobody reads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in processes(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for daemon in self._daemons:
            daemon.kill()
        for descriptor in self._unread:
            os.close(descriptor)

    def learner(self, *arguments: object, failpoint: str | None = None, **environment: str) -> Daemon:
        """``learner run --json`` with these arguments; without pages unless they ask for them. failpoint: as in
        ``tests.failpoints``, of its disk.
        """
        armed = () if failpoint is None else ("tests.failpoints", failpoint)
        pages = () if "--http" in arguments else ("--http", "off")
        return self.start(*armed, "learner", "run", "--json", *pages, *arguments, **environment)

    def actor(self, address: str, name: str, *arguments: object, **environment: str) -> Daemon:
        """``actor run`` of this name."""
        return self.start("actor", "run", "--learner", address, "--name", name, *arguments, **environment)

    def evaluator(self, address: str, *arguments: object, **environment: str) -> Daemon:
        """``actor evaluate --json`` of the learner there."""
        return self.start("actor", "evaluate", "--json", "--learner", address, *arguments, **environment)

    def command(self, *arguments: object, **environment: str) -> Daemon:
        """Any command of ours, run to its end."""
        daemon = self.start(*arguments, **environment)
        daemon.wait()
        return daemon

    def unheard(self, *arguments: object) -> subprocess.Popen[bytes]:
        """``python -m`` with these arguments, all that it says going into a pipe that is full and that nobody reads."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, b"x"):
                pass
        os.set_blocking(writer, True)
        self._unread += [reader, writer]
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=self.folder,
            env=_environment(self.mark, self.folder, {}),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
        )

    def start(self, *arguments: object, **environment: str) -> Daemon:
        """``python -m`` with these arguments."""
        daemon = Daemon(
            subprocess.Popen(
                [*self._before, sys.executable, "-m", *map(str, arguments)],
                cwd=self.folder,
                env=_environment(self.mark, self.folder, environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self._daemons.append(daemon)
        return daemon


def _environment(mark: str, folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings of Farflung, with the mark; modules in ``folder`` can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARFLUNG_")}
    return {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", MARK: mark, **more}


def processes(mark: str, *words: str) -> list[int]:
    """Process ids that carry ``mark`` and have ``words`` among their arguments; none where there is no /proc."""
    return [pid for pid, arguments in _marked(mark) if set(words) <= set(arguments)]


def _marked(mark: str) -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), (folder / "cmdline").read_bytes().decode().split("\0")


def await_end(pids: Iterable[int]) -> None:
    """Until these processes, children of anybody, have ended."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([descriptor], [], [], DEADLINE_S)
        finally:
            os.close(descriptor)
        assert ended, f"process {pid} lives on"


def free_ports() -> int:
    """A port that is free together with the next one, which the weight stream takes."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
