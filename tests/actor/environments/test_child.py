"""The conversation with a simulator's process, fed by hand: whole, byte by byte, and with what nobody asked for."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from actor.environments.child import Child, Stage
from actor.environments.child_protocol import (
    HEADER,
    MAX_MEASURED_BYTES,
    MAX_TEXT_BYTES,
    MEASURED,
    TERMINATED,
    Failure,
    Kind,
    Malformed,
    Measured,
    pack,
    unpack,
)
from protocol.messages import Metric

SIZE = 8  # bytes of an observation


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def child(connection: socket.socket, stage: Stage = Stage.STEPPING) -> tuple[Child, np.ndarray]:
    """One that owes the answer to its question number 1, and where its observation and its successor go."""
    made = Child(0, cast("subprocess.Popen[bytes]", None), connection, 0)
    room = np.zeros((2, SIZE), np.uint8)
    made.room, made.stage = [[row.data] for row in room], stage
    made.send_request(Kind.STEP, b"action")
    return made, room


def outcome(flags: int = 0, number: int = 1, reward: float = 0.5, length: int | None = None) -> bytes:
    body = bytes(range(SIZE * (2 if flags else 1)))
    return HEADER.pack(Kind.OUTCOME, flags, number, len(body) if length is None else length, reward) + body


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize("flags", [0, TERMINATED])
def test_an_outcome_in_any_pieces(ends: tuple[socket.socket, socket.socket], step: int, flags: int) -> None:
    ours, theirs = ends
    waiting, room = child(ours)
    data, answers = outcome(flags), []
    for begin in range(0, len(data), step):
        theirs.sendall(data[begin : begin + step])
        answers.append(waiting.read())
    *before, answer = answers
    assert answer == (Kind.OUTCOME, flags, 0.5, b"")
    assert before == [None] * len(before)
    assert room.tobytes() == data[HEADER.size :].ljust(2 * SIZE, b"\0")


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("ended", [0, TERMINATED])
def test_what_it_measured_follows_the_observations(
    ends: tuple[socket.socket, socket.socket], step: int, ended: int
) -> None:
    ours, theirs = ends
    waiting, room = child(ours)
    seen, text = bytes(range(SIZE * (2 if ended else 1))), pack(Measured((Metric("success", 0.5, 2),), 1, "odd"))
    data = HEADER.pack(Kind.OUTCOME, ended | MEASURED, 1, len(seen) + len(text), 0.5) + seen + text
    answer = None
    for begin in range(0, len(data), step):
        assert answer is None
        theirs.sendall(data[begin : begin + step])
        answer = waiting.read()
    assert answer is not None
    assert unpack(answer.text, Measured) == Measured((Metric("success", 0.5, 2),), 1, "odd")
    assert room.tobytes() == seen.ljust(2 * SIZE, b"\0")


@pytest.mark.parametrize("length", [SIZE - 1, SIZE, SIZE + MAX_MEASURED_BYTES + 1])
def test_a_measurement_of_no_size_or_too_much_is_malformed(
    ends: tuple[socket.socket, socket.socket], length: int
) -> None:
    ours, theirs = ends
    waiting, _ = child(ours)
    theirs.sendall(HEADER.pack(Kind.OUTCOME, MEASURED, 1, length, 0.5))
    with pytest.raises(Malformed):
        waiting.read()


def test_a_question_larger_than_the_pipe_goes_out_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    asking, _ = child(ours)
    theirs.recv(1 << 16)
    question, heard = bytes(4 << 20), 0
    asking.send_request(Kind.STEP, question)
    while heard < HEADER.size + len(question):
        heard += len(theirs.recv(1 << 20))
        asking.flush()
    assert not asking.unsent


@pytest.mark.parametrize(
    "data",
    [
        outcome(number=2),
        outcome(length=SIZE - 1),
        outcome(length=2**32 - 1),
        outcome(TERMINATED, length=SIZE),
        outcome(reward=float("nan")),
        HEADER.pack(Kind.READY, 0, 1, 2, 0.0),
        HEADER.pack(Kind.FIRST, 0, 1, SIZE, 0.0),
        HEADER.pack(Kind.FAILED, 0, 1, 0, 0.0),
        HEADER.pack(Kind.FAILED, 0, 1, MAX_TEXT_BYTES + 1, 0.0),
        HEADER.pack(255, 0, 1, SIZE, 0.0),
    ],
)
def test_what_was_not_asked_for_is_not_read(ends: tuple[socket.socket, socket.socket], data: bytes) -> None:
    ours, theirs = ends
    waiting, room = child(ours)
    theirs.sendall(data)
    with pytest.raises(Malformed):
        waiting.read()
    assert not room.any()


def test_a_pipe_that_closes_is_no_answer(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    waiting, _ = child(ours)
    theirs.recv(1 << 16)  # what is closed with unread bytes in it is an OSError on our side
    theirs.sendall(outcome()[:-1])
    assert waiting.read() is None
    theirs.close()
    with pytest.raises(EOFError):
        waiting.read()
    waiting.send_request(Kind.STEP, b"action")  # is not the place to find out
    assert not waiting.unsent


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"kind": "bored", "detail": ""}', b"\xff"])
def test_text_that_does_not_decode_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="not a Failure"):
        unpack(data, Failure)


def test_infinities_survive() -> None:
    assert unpack(pack((float("inf"), -1.5)), tuple) == (float("inf"), -1.5)
