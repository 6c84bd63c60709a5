"""A run of ``learner run`` for a program of one's own: its events, its end, its result. Knows processes and threads.

The learner is a child process. No loop of asyncio is needed, and one that runs is left alone: so a notebook and a test
may train. The program's signals and streams stay its own, and the child, which is in a session of its own, stops by
itself when the program is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from learner.launch.toml import value_text
from protocol.errors import TRY_AGAIN, FarflungError, UserError

Event = dict[str, Any]  # as deploy/PROGRESS.md has them, always with "event"
OnEvent = Callable[[Event], object]  # what returns False stops the run

COMMAND = (sys.executable, "-P", "-m", "learner")  # -P: what lies in the working directory is none of ours
WAITING = 1000  # events that wait to be taken; a quarter of an hour of progress, and of a long run hours
TAIL_LINES = 20  # of stderr, for the end of a run that failed
LAST_WORDS_S = 1.0  # for the pipes after the process has ended: whatever it started may hold them
STOP_S, INSIST_S = 60.0, 5.0  # a last checkpoint has 20 s and the actors 3; then a second signal, then the end


class TrainingFailed(FarflungError):
    """A run that ended by a fault. exit_code: of the learner, negative for a signal. words: what it said last."""

    def __init__(self, exit_code: int, words: str) -> None:
        super().__init__(exit_code, words)
        self.exit_code, self.words = exit_code, words

    def __str__(self) -> str:
        how = f"exited with code {self.exit_code}" if self.exit_code >= 0 else f"was ended by signal {-self.exit_code}"
        return f"the learner {how}: {self.words or 'it did not say why'}"


class Inbox:
    """Events on their way from the thread that reads them to whoever takes them.

    At most ``limit`` wait: the oldest go first, and ``events_lost`` says how many stood in the place of the next.
    """

    def __init__(self, limit: int = WAITING) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self._lost, self._closed = 0, False
        self._changed = threading.Condition()

    def put(self, event: Event) -> None:
        """One more. Never waits."""
        with self._changed:
            self._lost += len(self._events) == self._events.maxlen
            self._events.append(event)
            self._changed.notify()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> Event | None:
        """The next one; None once there will be none. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._events or self._closed, timeout_s):
                raise TimeoutError
            if self._lost:
                lost, self._lost = self._lost, 0
                return {"event": "events_lost", "count": lost}
            return self._events.popleft() if self._events else None


class Training:
    """A run that has been started; ``farflung.train`` makes it.

    As a context manager it ends the run, with its actors, where the block ends, by an exception too. As an iterator it
    gives the run's events until the run is over. Events are taken by one thread at a time.

    Attributes:
        run_dir: The run's directory, absolute.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        run_dir: str | os.PathLike[str] | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        """arguments: of ``learner run``. Returns when the run has begun. Raises UserError as the command words it."""
        self.run_dir = Path.cwd() / (run_dir or "")
        given = [] if run_dir is None else ["--run-dir", os.fspath(run_dir)]
        self._on_event, self._named = on_event, run_dir is not None
        self._ahead: deque[Event] = deque()  # that were taken on the way to ``started``
        self._why, self._tail = "", deque[str](maxlen=TAIL_LINES)
        self._asked_to_stop = self._told = False
        self._inbox, self._ended = Inbox(), threading.Event()
        self._process = subprocess.Popen(
            [*COMMAND, "run", "--json", "--with-parent", str(os.getpid()), *given, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        readers = [
            threading.Thread(target=_read_events, args=(self._process.stdout, self._inbox), daemon=True),
            threading.Thread(target=_read_lines, args=(self._process.stderr, self._inbox, self._tail), daemon=True),
        ]
        # No thread holds the Training itself, so that one that nobody holds any more ends.
        threading.Thread(target=_await, args=(self._process, readers, self._inbox, self._ended), daemon=True).start()
        weakref.finalize(self, _abandon, self._process)
        try:
            self._begin()
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if kind is None and not self._told:
            self._conclude()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self._take(None)
        if event is None:
            self._conclude()
            raise StopIteration
        return event

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Takes events, which ``on_event`` hears, until the run is over.

        Args:
            timeout: Seconds; None for as long as it takes.

        Returns:
            The run's result, as ``result`` has it.

        Raises:
            TimeoutError: The run goes on.
            UserError: The run ended because of what a person can put right.
            TrainingFailed: It ended by a fault.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self._take(None if until is None else max(0.0, until - time.monotonic())) is not None:
            pass
        self._conclude()
        return self.result

    def stop(self) -> None:
        """Asks the run to end, once; returns at once. The run writes a checkpoint, and its last events still come."""
        if not self._asked_to_stop and not self._ended.is_set():
            self._asked_to_stop = True
            self._process.terminate()

    @property
    def result(self) -> dict[str, Any]:
        """What ``result.json`` of a run that is over holds. Raises UserError while it goes on or if it left none."""
        if not self._ended.is_set():
            raise UserError("the run goes on, and its result is written at its end: wait() waits for it")
        path = self.run_dir / "result.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: the run left no result: {error}") from None
        return found

    def _begin(self) -> None:
        """Until the run has a directory, or has ended."""
        while (event := self._inbox.take()) is not None:
            self._ahead.append(event)
            if event["event"] in ("started", "over"):
                if not self._named:
                    self.run_dir /= str(event["run_dir"])
                return
        self._conclude()
        raise TrainingFailed(0, "it was stopped before it began")

    def _take(self, timeout_s: float | None) -> Event | None:
        event = self._ahead.popleft() if self._ahead else self._inbox.take(timeout_s)
        if event is not None:
            self._note(event)
            if self._on_event is not None and self._on_event(event) is False:
                self.stop()
        return event

    def _note(self, event: Event) -> None:
        """Keeps why a run may end that does not say so on stderr."""
        if event["event"] in ("actors_gone", "journal_failed", "result_failed"):
            self._why = str(event["detail"])

    def _conclude(self) -> None:
        """Raises what the run failed of."""
        self._ended.wait()
        for event in [*self._ahead, *iter(self._inbox.take, None)]:  # nobody wanted them
            self._note(event)
        self._ahead.clear()
        self._told, code = True, self._process.returncode
        errors = [line.partition(": ")[2] for line in self._tail if line.lower().startswith("error: ")]
        words = errors[-1] if errors else self._why
        if code in (2, TRY_AGAIN):
            raise UserError(words or f"the learner exited with code {code}", passing=code == TRY_AGAIN)
        if code not in (0, 3):
            raise TrainingFailed(code, words or " | ".join(self._tail))

    def _end(self) -> None:
        """The run and its actors have ended when this returns; a second Ctrl-C makes it at once."""
        try:
            self.stop()
            if not self._ended.wait(STOP_S):
                self._process.terminate()
                self._ended.wait(INSIST_S)
        finally:
            if not self._ended.is_set():
                self._process.kill()  # actors leave by themselves when their learner is gone
                self._ended.wait()


def arguments_of(
    *,
    experiment: str | os.PathLike[str] | None,
    options: Mapping[str, object],
    settings: Mapping[str, Any],
    allow_modules: Sequence[str],
    flags: Sequence[str],
) -> list[str]:
    """What ``learner run`` is given. options: by flag, None where it is not given. Raises UserError, TypeError."""
    words = [] if experiment is None else [os.fspath(experiment)]
    words += ["--http", "off"]
    words += [f"{flag}={value}" for flag, value in options.items() if value is not None]
    for key, value in settings.items():
        if value is None:
            raise UserError(f"{key} = None: a setting has a value; leave it out for its default")
        words += ["--set", f"{key}={value_text(_plain(value))}"]
    words += [word for module in allow_modules for word in ("--allow-module", module)]
    return [*words, *map(str, flags)]


def _plain(value: Any) -> Any:
    """What TOML has a word for: arrays and numbers of numpy, tuples and paths as Python's lists, numbers and text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _read_events(pipe: IO[bytes], inbox: Inbox) -> None:
    with pipe:
        for line in pipe:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    inbox.put(event)


def _read_lines(pipe: IO[bytes], inbox: Inbox, tail: deque[str]) -> None:
    """What is no event: notes, and what went wrong."""
    with pipe:
        for line in pipe:
            text = line.decode(errors="replace").rstrip()
            tail.append(text)
            inbox.put({"event": "learner_said", "text": text})


def _await(
    process: subprocess.Popen[bytes], readers: Sequence[threading.Thread], inbox: Inbox, ended: threading.Event
) -> None:
    for reader in readers:
        reader.start()
    process.wait()
    for reader in readers:
        reader.join(LAST_WORDS_S)
    ended.set()
    inbox.close()


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Nobody holds the run any more, or the interpreter ends: it stops by itself, with a checkpoint."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
