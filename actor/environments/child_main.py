"""One environment in a process of its own: ``python -m`` with this module. Knows Gymnasium and the pipe to its parent.

The parent decides everything: which environment, when it steps, when it ends. So this process ignores SIGINT, ends
when its pipe closes, and where its parent is gone while the environment hangs, an alarm ends it. What the environment
returns is checked here, against its spaces, before it is sent as bytes; an environment that raises or breaks
Gymnasium's contract is reported in words, and the process ends, because nobody knows what state it is in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from actor.environments.child_protocol import (
    DETAIL_CHARACTERS,
    HEADER,
    MEASURED,
    SEED,
    TERMINATED,
    TRUNCATED,
    Description,
    Failure,
    Kind,
    pack,
    unpack,
)
from actor.environments.contract import (
    ContractViolation,
    ObservationNotFinite,
    checked,
    finite,
    first_not_finite,
    first_of,
    outcome_of,
    stepped,
)
from actor.environments.conversion import flatten, spaces_of
from actor.environments.metrics import MetricBook
from actor.spaces import Spaces
from protocol.errors import UserError

Environment = gymnasium.Env[Any, Any]
Make = Callable[[str, dict[str, Any], frozenset[str]], Environment]

REQUEST_BYTES = 1 << 16  # room for a question; grows where an action is larger
ORPHAN_FACTOR, ORPHAN_S = 2.0, 1.0  # the parent's patience, doubled, and a second: only an orphan gets there


def main(make: Make | None = None) -> None:
    """Serves the parent on standard input until it closes. make: another way to make the environment, for tests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _channel() as channel, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(channel, make or _make_one)  # a parent that is gone needs no answer


def _make_one(env_id: str, env_options: dict[str, Any], allowed_modules: frozenset[str]) -> Environment:
    from actor.environments.registry import make_one

    return make_one(env_id, env_options, allowed_modules)


def _channel() -> socket.socket:
    """Standard input as a socket that neither the environment nor what it starts can touch."""
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return channel


def serve(channel: socket.socket, make: Make) -> None:
    """Answers questions until the environment fails. Raises EOFError and OSError where the parent is gone."""
    questions = _Questions(channel)
    _, number, data = questions.read()
    description = unpack(bytes(data), Description)
    try:
        with _alarm(description.start_deadline_s):
            server = EnvironmentServer(*_build(description, make))
    except UserError as error:
        return _send(channel, Kind.REFUSED, number, str(error))
    except Exception as error:
        return _send(channel, Kind.FAILED, number, _failure(error))
    _send(channel, Kind.READY, number, server.spaces)
    try:
        _converse(questions, channel, server, description)
    finally:
        with _alarm(description.start_deadline_s):
            server.close()


def _build(description: Description, make: Make) -> tuple[Environment, Spaces]:
    env = make(description.env_id, description.env_options, frozenset(description.allowed_modules))
    return env, spaces_of(description.env_id, env.observation_space, env.action_space)


def _converse(
    questions: _Questions, channel: socket.socket, server: EnvironmentServer, description: Description
) -> None:
    while True:
        kind, number, data = questions.read()
        try:
            if kind == Kind.STEP:
                with _alarm(description.deadline_s):
                    answer = server.step(number, data)
            else:
                with _alarm(description.start_deadline_s):
                    answer = server.reset(number, *SEED.unpack(data))
        except Exception as error:
            return _send(channel, Kind.FAILED, number, _failure(error))
        channel.sendall(answer)


@contextlib.contextmanager
def _alarm(patience_s: float) -> Iterator[None]:
    """Ends this process where the parent is gone and the environment hangs, even in C that never looks at signals.

    The default action of SIGALRM needs no Python: it works while the interpreter's lock is held.
    """
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_FACTOR * patience_s + ORPHAN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _send(channel: socket.socket, kind: Kind, number: int, value: object) -> None:
    text = pack(value)
    channel.sendall(HEADER.pack(kind, 0, number, len(text), 0.0) + text)


def _failure(error: Exception) -> Failure:
    """In words, and for who looks after the machine with its traceback on stderr."""
    if isinstance(error, ContractViolation):
        return Failure(error.kind, str(error)[:DETAIL_CHARACTERS])
    traceback.print_exception(error, file=sys.stderr)
    return Failure("raised", f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS])


class _Questions:
    """The parent's frames. It never sends one before it has the last one's answer, so one buffer holds all there is."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = memoryview(bytearray(REQUEST_BYTES))

    def read(self) -> tuple[int, int, memoryview]:
        """(kind, number, what follows), the last good until the next call. Raises EOFError where the pipe closed."""
        held = self._fill(0, HEADER.size)
        kind, _, number, length, _ = HEADER.unpack_from(self._buffer)
        end = HEADER.size + length
        if end > len(self._buffer):
            grown = memoryview(bytearray(end))
            grown[:held] = self._buffer[:held]
            self._buffer = grown
        self._fill(held, end)
        return kind, number, self._buffer[HEADER.size : end]

    def _fill(self, held: int, wanted: int) -> int:
        while held < wanted:
            count = self._channel.recv_into(self._buffer[held:])
            if count == 0:
                raise EOFError
            held += count
        return held


class EnvironmentServer:
    """One environment that answers in frames. What ends an episode also resets it: same-step autoreset."""

    def __init__(self, env: Environment, spaces: Spaces) -> None:
        self.spaces = spaces
        self._env, self._space = env, env.observation_space
        self._metrics = MetricBook()
        self._action_type, self._action_shape = np.dtype(spaces.actions.type), spaces.actions.shape
        kind = np.dtype(spaces.observation_type)
        self._size = spaces.observation_size * kind.itemsize
        self._frame = bytearray(HEADER.size + 2 * self._size)
        self._seen, self._final = np.frombuffer(self._frame, kind, offset=HEADER.size).reshape(
            2, *spaces.observation_shape
        )

    def reset(self, number: int, seed: int) -> memoryview:
        """The FIRST that answers question ``number``, good until the next call. Raises ContractViolation."""
        self._write(self._seen, self._first(self._env.reset(seed=seed)))
        HEADER.pack_into(self._frame, 0, Kind.FIRST, 0, number, self._size, 0.0)
        return memoryview(self._frame)[: HEADER.size + self._size]

    def step(self, number: int, data: memoryview) -> memoryview:
        """The OUTCOME of the action whose bytes are ``data``; otherwise as ``reset``."""
        action = np.frombuffer(bytes(data), self._action_type).reshape(self._action_shape)
        outcome = stepped(self._env, action.copy()[()])  # writable, and a plain number where it is one
        observation, reward, terminated, truncated, info = outcome_of(outcome)
        self._metrics.take_out(info)
        flags, length = TERMINATED * terminated + TRUNCATED * truncated, self._size
        if flags:
            self._write(self._final, observation)
            observation, length = self._first(self._env.reset()), 2 * self._size
        self._write(self._seen, observation)
        end = HEADER.size + length
        measured = self._metrics.take_measured()
        text = b"" if measured is None else pack(measured)
        flags += MEASURED if text else 0
        HEADER.pack_into(self._frame, 0, Kind.OUTCOME, flags, number, length + len(text), finite(reward))
        return memoryview(self._frame)[:end] if not text else memoryview(self._frame[:end] + text)

    def _first(self, returned: Any) -> Any:
        """The observation in what ``reset`` returned; its metrics are booked. Raises ContractViolation."""
        observation = first_of(returned)
        self._metrics.take_out(returned[1])
        return observation

    def close(self) -> None:
        """Releases the environment."""
        self._env.close()

    def _write(self, place: NDArray[Any], observation: Any) -> None:
        flat = flatten(self._space, checked(self._space, observation), 1)
        place[...] = flat.reshape(place.shape)
        if place.dtype == np.float32 and not np.isfinite(place).all():
            raise ObservationNotFinite(first_not_finite(place.reshape(-1)))


if __name__ == "__main__":
    main()
