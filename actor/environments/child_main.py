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

from actor.environments import wrappers
from actor.environments.child_protocol import (
    DETAIL_CHARACTERS,
    HEADER,
    MASKED_SHIFT,
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
from actor.environments.conversion import flatten, spaces_of, unpacked
from actor.environments.masks import CONVENTIONS, MaskBook, Masking, batch_of_one, masked
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
            server = _build(description, make)
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


def _build(description: Description, make: Make) -> EnvironmentServer:
    allowed = frozenset(description.allowed_modules)
    env = make(description.env_id, description.env_options, allowed)
    env = wrappers.apply(env, wrappers.find(description.wrappers, allowed))
    env, masking = masked(description.env_id, env, description.action_mask)
    return EnvironmentServer(env, spaces_of(description.env_id, env.observation_space, env.action_space), masking)


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

    def __init__(self, env: Environment, spaces: Spaces, masking: Masking) -> None:
        self.spaces = spaces
        self._env, self._space = env, env.observation_space
        self._book, self._metrics = MaskBook(masking, 1), MetricBook()
        self._room: list[NDArray[Any]] = []  # [after the action or reset, true successor], with their masks
        self._frame, self._length, self._told = bytearray(), 0, 0
        self._lay_out()

    def _lay_out(self) -> None:
        """Where observations and masks stand in the frame, once it is known whether there are masks."""
        kind, shape = np.dtype(self.spaces.observation_type), self.spaces.observation_shape
        size = self.spaces.observation_size * kind.itemsize
        logits = 0 if self._book.shown is None else self.spaces.actions.logits
        self._told, self._length = CONVENTIONS.index(self._book.by) << MASKED_SHIFT, size + logits
        self._frame = bytearray(HEADER.size + 2 * self._length)
        self._room = []
        for begin in (HEADER.size, HEADER.size + self._length):
            self._room.append(np.frombuffer(self._frame, kind, self.spaces.observation_size, begin).reshape(shape))
            self._room.append(np.frombuffer(self._frame, np.bool_, logits, begin + size))

    def reset(self, number: int, seed: int) -> memoryview:
        """The FIRST that answers question ``number``, good until the next call. Raises ContractViolation."""
        returned = self._env.reset(seed=seed)
        observation = self._began(returned)
        if self._told >> MASKED_SHIFT != CONVENTIONS.index(self._book.by):
            self._lay_out()
        self._write(0, observation)
        HEADER.pack_into(self._frame, 0, Kind.FIRST, self._told, number, self._length, 0.0)
        return memoryview(self._frame)[: HEADER.size + self._length]

    def step(self, number: int, data: memoryview) -> memoryview:
        """The OUTCOME of the action whose bytes are ``data``; otherwise as ``reset``."""
        outcome = stepped(self._env, unpacked(self.spaces.actions, bytes(data)))
        observation, reward, terminated, truncated, info = outcome_of(outcome)
        info = self._metrics.take_out(info)
        flags, length = TERMINATED * terminated + TRUNCATED * truncated, self._length
        self._book.go_on(batch_of_one(info, self._book.actions), np.array([flags > 0]))
        if flags:
            self._write(2, observation)
            observation, length = self._began(self._env.reset()), 2 * self._length
        self._write(0, observation)
        end, text = HEADER.size + length, self._measured()
        flags |= self._told | (MEASURED if text else 0)
        HEADER.pack_into(self._frame, 0, Kind.OUTCOME, flags, number, length + len(text), finite(reward))
        return memoryview(self._frame)[:end] if not text else memoryview(self._frame[:end] + text)

    def _measured(self) -> bytes:
        measured = self._metrics.take_measured()
        return b"" if measured is None else pack(measured)

    def _began(self, returned: Any) -> Any:
        """The observation of a reset, whose mask is read and whose metrics are booked. Raises ContractViolation."""
        observation = first_of(returned)
        self._book.begin(batch_of_one(self._metrics.take_out(returned[1]), self._book.actions))
        return observation

    def close(self) -> None:
        """Releases the environment."""
        self._env.close()

    def _write(self, index: int, observation: Any) -> None:
        """An observation and its mask to their places."""
        place, mask = self._room[index : index + 2]
        flat = flatten(self._space, checked(self._space, observation), 1)
        place[...] = flat.reshape(place.shape)
        if place.dtype == np.float32 and not np.isfinite(place).all():
            raise ObservationNotFinite(first_not_finite(place.reshape(-1)))
        if self._book.shown is not None:
            mask[...] = self._book.shown[0]


if __name__ == "__main__":
    main()
