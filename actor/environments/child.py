"""One simulator's process and the conversation with it. Knows processes and sockets; a clock only where it ends them.

Reading and writing never block: what the socket takes or holds is moved, and the rest waits for the next wake-up.
Observations go straight to where the owner wants them.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from enum import Enum, auto
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actor.environments.child_protocol import (
    ENDED,
    HEADER,
    MASKED,
    MAX_MEASURED_BYTES,
    MAX_TEXT_BYTES,
    MEASURED,
    Kind,
    Malformed,
)
from protocol.process.threads import ONE_THREAD

# The processes are the parallelism; the environment of this process, where it says otherwise, is obeyed.
STDERR = 2  # where a child's prints go: our standard output may be read by a program
EXIT_STATUS_S = 0.2  # from a closed pipe to an exit status; the other simulators wait meanwhile
CLOSE_S = 1.0  # for the environments to close themselves, then again for SIGTERM, then for SIGKILL


class Stage(Enum):
    STARTING = auto()
    IDLE = auto()
    RESETTING = auto()
    STEPPING = auto()


# What may come in each stage: arrays of a size that is known, or JSON.
ARRAYS = {(Stage.STEPPING, Kind.OUTCOME), (Stage.RESETTING, Kind.FIRST)}
TEXTS = {
    Stage.STARTING: (Kind.READY, Kind.REFUSED, Kind.FAILED),
    Stage.RESETTING: (Kind.FAILED,),
    Stage.STEPPING: (Kind.FAILED,),
}


class Reply(NamedTuple):
    kind: int
    flags: int
    reward: float
    text: bytes


class Child:
    """One process and the conversation with it; one life of a row.

    deadline: of the answer it owes, else infinite. seed: of the row's next beginning; None before the first reset.
    first, first_mask: its episode's first observation and what that allows, bool [L]; arrived says that they are there
    and were not handed on yet. room: where an answer's observations go, [after the action or reset, true successor],
    each with the place of its mask. unwatched: not with the selector.
    """

    def __init__(self, row: int, process: subprocess.Popen[bytes], connection: socket.socket, seed: int | None) -> None:
        self.row, self.process, self.socket = row, process, connection
        self.stage, self.deadline, self.unwatched = Stage.STARTING, math.inf, False
        self.seed, self.begun_with = seed, seed
        self.first: NDArray[Any] = np.empty(0, np.uint8)
        self.first_mask: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.arrived = False
        self.room: Sequence[Sequence[memoryview]] = ()
        self.unsent = memoryview(b"")
        self._number = 0
        self._header = bytearray(HEADER.size)
        self._text = bytearray()
        self._due: list[memoryview] = []  # what is left to fill of the header or of what follows it
        self._announced: tuple[int, int, float] | None = None  # kind, flags and reward, once the header is here

    def set_idle(self) -> None:
        """It owes nothing."""
        self.stage, self.deadline = Stage.IDLE, math.inf

    def send_request(self, kind: Kind, payload: bytes) -> None:
        self._number = (self._number + 1) & 0xFFFF
        self._due, self._announced = [memoryview(self._header)], None
        self.unsent = memoryview(HEADER.pack(kind, 0, self._number, len(payload), 0.0) + payload)
        self.flush()

    def flush(self) -> memoryview:
        """Sends what the socket takes, returns the rest. A closed one is found when the answer is read."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent = memoryview(b"")
        return self.unsent

    def read(self) -> Reply | None:
        """The answer, None where more of it has to come. Raises EOFError, OSError and Malformed."""
        while self._due:
            try:
                count = self.socket.recv_into(self._due[0])
            except BlockingIOError:
                return None
            if count == 0:
                raise EOFError
            self._due[0] = self._due[0][count:]
            if not self._due[0]:
                del self._due[0]
            if not self._due and self._announced is None:
                self._due = self._expect()
        assert self._announced is not None
        kind, flags, reward = self._announced
        return Reply(kind, flags, reward, bytes(self._text))

    def _expect(self) -> list[memoryview]:
        """Where the bytes go that the header counts; nothing is read that nobody asked for."""
        kind, flags, number, length, reward = HEADER.unpack(self._header)
        self._announced, self._text = (kind, flags, reward), bytearray()
        if (self.stage, kind) in ARRAYS:
            parts = 2 if flags & MASKED else 1
            views = [view for place in self.room[: 2 if flags & ENDED else 1] for view in place[:parts]]
            if flags & MEASURED:
                text = length - sum(map(len, views))
                self._text = bytearray(text if 0 < text <= MAX_MEASURED_BYTES else 0)
                views = [*views, memoryview(self._text)] if self._text else []
        elif kind in TEXTS[self.stage] and 0 < length <= MAX_TEXT_BYTES:
            self._text = bytearray(length)
            views = [memoryview(self._text)]
        else:
            views = []
        if number != self._number or not views or length != sum(map(len, views)) or not math.isfinite(reward):
            raise Malformed(f"an answer of kind {kind} with {length} bytes to question {number}, not {self._number}")
        return views


def start(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A child with one end of a pipe as its standard input, and the other end."""
    ours, theirs = socket.socketpair()
    try:
        environment = {**ONE_THREAD, **os.environ}
        # In a group of its own, so that a terminal's Ctrl-C is ours alone, and what it starts dies with it.
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=STDERR, env=environment, process_group=0)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return process, ours


def exit_status(process: subprocess.Popen[bytes]) -> str:
    """How a process ended whose pipe is closed."""
    try:
        code = process.wait(EXIT_STATUS_S)
    except subprocess.TimeoutExpired:
        return "closed its pipe and lives on"
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"exited with code {code}"


def kill(process: subprocess.Popen[bytes]) -> None:
    """At once, with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits, asks, kills, and leaves no zombie but one that the kernel itself cannot end."""
    _wait_all(processes, CLOSE_S)
    for process in processes:
        process.terminate()
    _wait_all(processes, CLOSE_S)
    for process in processes:
        kill(process)
    _wait_all(processes, CLOSE_S)


def _wait_all(processes: Sequence[subprocess.Popen[bytes]], patience_s: float) -> None:
    deadline = monotonic() + patience_s
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - monotonic()))
