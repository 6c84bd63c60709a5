"""Child processes of the learner: ``actor init`` once, and the local actors. Knows asyncio and processes; no sockets.

Children live in sessions of their own, so Ctrl-C in a terminal reaches the learner alone and it says goodbye to them.
An actor that dies is started again after a back-off, a limited number of times, fewer where it dies early of the same
error each time, whatever numbers that tells; one that exits with code 2 would only do so again, and ends the run. A
child's end is the end of its process: its pipes may be held by what it started, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from learner.launch.initial import Initial, InitialError, read
from learner.launch.relay import LINE_BYTES, TAIL_LINES, Announcer, Relay
from protocol.errors import UserError
from protocol.process.threads import ONE_THREAD

COMMAND = (sys.executable, "-P", "-m", "actor")  # -P: what lies in the working directory is none of ours
INITIAL_DEADLINE_S = 60.0  # torch from a cold disk takes ten
SAID_BYTES = 1 << 16  # of the end of what `actor init` said
RESTARTS = 5  # of one slot in the whole run
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 8.0  # before a restart; doubled each time
LAST_WORDS_S = 1.0  # for stderr after an exit: a grandchild may hold the pipe open for ever
NUMBERS = re.compile(r"[-+]?\d[\d_.,]*(e[-+]?\d+)?|\b(nan|inf)\b", re.IGNORECASE)  # in which an error may differ
SAME_ERRORS, EARLY_S = 3, 60.0  # so many ends in a row of one error, each so soon, and a slot is given up


class ChildFailed(UserError):
    """``actor init`` did not deliver. cause: its own words, or how it ended."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return self.cause


async def initial(
    table: bytes,
    seed: int,
    allow_modules: Sequence[str],
    *,
    command: Sequence[str] = COMMAND,
    deadline_s: float = INITIAL_DEADLINE_S,
) -> Initial:
    """θ₀ as a child process makes it of the experiment's actor table (msgpack).

    Raises ChildFailed, in the child's own words where a setting is wrong; InitialError.
    """
    with tempfile.TemporaryDirectory(prefix="farflung-init-") as folder:
        given, made = Path(folder, "table.msgpack"), Path(folder, "initial.safetensors")
        given.write_bytes(table)  # noqa: ASYNC240  (64 KiB at most, before anything else runs)
        flags = ["--table", str(given), "--seed", str(seed), "--out", str(made), *_allow(allow_modules)]
        await _make([*command, "init", *flags], deadline_s)
        try:
            return read(made)
        except InitialError as error:
            raise ChildFailed(f"`actor init` wrote no initial parameters: {error.cause}") from None


async def check(table: bytes, allow_modules: Sequence[str], *, command: Sequence[str] = COMMAND) -> None:
    """Whether actors on this machine can use the table, told in a second. Raises ChildFailed."""
    with tempfile.TemporaryDirectory(prefix="farflung-check-") as folder:
        given = Path(folder, "table.msgpack")
        given.write_bytes(table)  # noqa: ASYNC240  (64 KiB at most, before anything else runs)
        await _make([*command, "check", "--table", str(given), *_allow(allow_modules)], INITIAL_DEADLINE_S)


async def _make(command: Sequence[str], deadline_s: float) -> None:
    name = "actor check" if "check" in command else "actor init"
    with tempfile.TemporaryFile() as said:  # and no pipe, which would last as long as what the child started
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=said,
            env=child_environment(os.environ),
            start_new_session=True,
        )
        try:
            await asyncio.wait_for(child.wait(), deadline_s)
        except TimeoutError:
            raise ChildFailed(f"`{name}` took longer than {deadline_s:g} s") from None
        finally:
            _signal(child, signal.SIGKILL)  # whatever it started and left behind, too
            await child.wait()
        said.seek(-min(said.seek(0, os.SEEK_END), SAID_BYTES), os.SEEK_END)
        lines = said.read().decode(errors="replace").strip().splitlines()
    if child.returncode == 2 and lines:
        raise ChildFailed(lines[-1].removeprefix("error: "))
    if child.returncode != 0:
        raise ChildFailed(f"`{name}` {_how(child.returncode)}: {' | '.join(lines[-TAIL_LINES:])}")


class LocalActors:
    """The local actors. Slot n is named ``local-n`` through all its restarts.

    on_exit: called once at most, with (detail, exit code), when an actor refuses its configuration (2) or none is left
    alive and none will be started again (1). announce: told of each exit, restart and line that one prints. keys:
    folder with a key file for each, named after it.
    """

    def __init__(
        self,
        address: str,
        count: int,
        allow_modules: Sequence[str],
        on_exit: Callable[[str, int], None],
        announce: Announcer,
        *,
        keys: Path | None = None,
        command: Sequence[str] = COMMAND,
        first_backoff_s: float = FIRST_BACKOFF_S,
    ) -> None:
        self.restarts = 0  # of all slots
        self._keys = keys
        self._arguments = [*command, "run", "--learner", address, "--with-parent", *_allow(allow_modules)]
        self._count, self._first_backoff_s = count, first_backoff_s
        self._on_exit, self._announce = on_exit, announce
        self._stopping = asyncio.Event()
        self._children: dict[str, Process] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._given_up = ""
        self._told = False

    @property
    def alive(self) -> int:
        """Child processes that run now."""
        return len(self._children)

    def start(self) -> None:
        """Starts one actor in each slot; needs a running loop."""
        self._slots = [asyncio.create_task(self._keep(f"local-{slot}")) for slot in range(self._count)]
        for slot in self._slots:
            slot.add_done_callback(self._slot_ended)

    async def stop(self, deadline_s: float) -> None:
        """Asks all actors to leave, waits, and kills what is left: afterwards there is none."""
        self._stopping.set()
        for child in self._children.values():
            _signal(child, signal.SIGTERM)
        if self._slots:
            _, late = await asyncio.wait(self._slots, timeout=deadline_s)
            if late:
                self._announce("actors_killed", {"count": len(self._children)})
            for child in self._children.values():
                _signal(child, signal.SIGKILL)
            await asyncio.gather(*self._slots, return_exceptions=True)

    def kill(self) -> None:
        """Ends all actors at once; ``stop`` then has nothing to wait for."""
        self._stopping.set()
        for child in self._children.values():
            _signal(child, signal.SIGKILL)

    async def _keep(self, name: str) -> None:
        """One slot's life: start, wait, back off, start again."""
        clock, same, before = asyncio.get_running_loop().time, 0, None
        for restart in range(RESTARTS + 1):
            relay, began = Relay(name, self._announce), clock()
            code = await self._live(name, relay)
            if code is None or self._stopping.is_set() or (code == 0 and relay.dismissed):
                return
            words = relay.last_words
            if code == 2:
                self._tell(f"{name}: {words.removeprefix('error: ') or 'refused its configuration'}", 2)
                return
            error = code, NUMBERS.sub("", words)
            same = same + 1 if error == before and clock() - began < EARLY_S else 1
            before = error
            again = code != 0 and restart < RESTARTS and (same < SAME_ERRORS or not words)
            exited = {"actor": name, "how": _how(code), "last_words": words, "restarting": again}
            self._announce("actor_exited", exited)
            if not again:
                times = f"ended {same} times in a row of the same error" if same >= SAME_ERRORS else "said last"
                self._given_up = f"; {name} {times}: {words}" if words else f"; {name} {_how(code)} and said nothing"
                return
            if await self._back_off(restart):
                return
            self.restarts += 1

    async def _live(self, name: str, relay: Relay) -> int | None:
        """One process from start to exit: its code, or None where it was stopped before it began.

        The pipe is ours and not asyncio's, whose ``wait`` would last until every grandchild has closed it.
        """
        if self._stopping.is_set():
            return None
        heard, said = os.pipe()
        listening = asyncio.create_task(self._listen(relay, heard))
        try:
            return await self._run(name, said)
        finally:
            await asyncio.wait([listening], timeout=LAST_WORDS_S)
            listening.cancel()
            await asyncio.wait([listening])

    async def _run(self, name: str, stderr: int) -> int:
        """The exit code of one process, which writes to the pipe ``stderr``, and so does what prints in it."""
        keyed = [] if self._keys is None else ["--key", str(self._keys / f"{name}.key")]
        try:
            child = await asyncio.create_subprocess_exec(
                *self._arguments,
                *keyed,
                "--name",
                name,
                stdin=DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=child_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            os.write(stderr, f"{error}\n".encode())
            return 1
        finally:
            os.close(stderr)
        self._children[name] = child
        if self._stopping.is_set():
            _signal(child, signal.SIGTERM)
        try:
            return await child.wait()
        finally:
            del self._children[name]
            _signal(child, signal.SIGKILL)  # whatever it started and left behind

    async def _listen(self, relay: Relay, pipe: int) -> None:
        clock = asyncio.get_running_loop().time
        try:
            async for line in _lines(pipe):
                relay.forward(line, clock())
        finally:
            relay.finish()

    async def _back_off(self, restart: int) -> bool:
        """Waits before a restart; whether the fleet was stopped meanwhile."""
        wait_s = min(LONGEST_BACKOFF_S, self._first_backoff_s * 2.0**restart)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        return self._stopping.is_set()

    def _slot_ended(self, ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            self._tell(f"local actors could not be kept: {error!r}", 1)
        elif all(slot.done() for slot in self._slots) and not self._stopping.is_set():
            why = "and each has used up its restarts, or left by itself"
            self._tell(f"no local actor is left, {why}{self._given_up}", 1)

    def _tell(self, detail: str, exit_code: int) -> None:
        if not self._told and not self._stopping.is_set():
            self._told = True
            self._on_exit(detail, exit_code)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, with one thread for each numeric library: an actor is one core's worth of work."""
    return {**environ, **ONE_THREAD}


async def _lines(pipe: int) -> AsyncIterator[str]:
    """Lines from a pipe, which is then closed, each cut to LINE_BYTES; one that never ends costs no memory."""
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(pipe, "rb", 0))
    rest = b""
    try:
        while chunk := await stream.read(1 << 16):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield _shown(line)
            rest = rest[:LINE_BYTES]
        if rest:
            yield _shown(rest)
    finally:
        transport.close()


def _shown(line: bytes) -> str:
    """As a terminal would show it in the end: a carriage return begins it anew."""
    return line[:LINE_BYTES].decode(errors="replace").rstrip().rpartition("\r")[2]


def _allow(modules: Sequence[str]) -> list[str]:
    return [part for module in modules for part in ("--allow-module", module)]


def _how(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"exited with code {code}"


def _signal(child: Process, number: signal.Signals) -> None:
    """To one child, and with SIGKILL to all that it started."""
    if number is signal.SIGKILL:
        _signal_group(child, number)
    elif child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)


def _signal_group(child: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
