"""What an actor and the process of one simulator say to each other. Pure. No process, no clock, no Gymnasium.

One question, one answer, over a stream socket that is the child's standard input. The actor asks::

    DESCRIPTION  JSON of Description        answered by READY, REFUSED or FAILED
    RESET        a seed                     answered by FIRST or FAILED
    STEP         an action's bytes          answered by OUTCOME or FAILED

Where an environment tells which actions it allows, L bytes of 0 or 1 follow each observation, and two bits of the flags
say how it tells (``masks.CONVENTIONS``). A frame is a header of 16 bytes and what the header counts. Its reward and its
other flags mean something in an OUTCOME only, and an answer carries its question's number, so that no late or stray
answer is taken for the next one. Arrays are raw bytes of the shape and type that READY announced. The rest is JSON as
Python writes it, infinities included, because a space may be unbounded.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Literal, TypeVar, get_args

import msgspec

from actor.config import Wrapper
from protocol.messages import Metric

HEADER = struct.Struct("<BBHId")  # kind, flags, the question's number, bytes that follow, reward
SEED = struct.Struct("<Q")
TERMINATED, TRUNCATED, MASKED, MEASURED = 1, 2, 12, 16  # flags; the last: JSON of Measured follows the arrays
ENDED, MASKED_SHIFT = TERMINATED | TRUNCATED, 2  # from which bit on MASKED says how masks are told
MAX_TEXT_BYTES = 1 << 20  # of JSON in an answer; spaces with a thousand action axes take a tenth of it
MAX_MEASURED_BYTES = 1 << 15  # of JSON of Measured: 32 names of 64 characters, each six bytes there, and numbers
DETAIL_CHARACTERS = 1000  # of an error's text that is passed on

FailureKind = Literal["raised", "hung", "died", "wrong_shape", "reward_not_finite", "observation_not_finite"]
OnFailure = Callable[[int, FailureKind, str], None]  # row, kind, one line of detail
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

T = TypeVar("T")


class Kind(IntEnum):
    """What a frame is."""

    DESCRIPTION = 1  # which environment to make
    RESET = 2  # begin anew from a seed
    STEP = 3  # take this action
    READY = 4  # JSON of Spaces
    FIRST = 5  # an episode's first observation
    OUTCOME = 6  # the observation after the action; where an episode ended the next one's first, then the successor
    REFUSED = 7  # JSON of a UserError's text: nothing a new process could change
    FAILED = 8  # JSON of Failure; the child ends


class Description(msgspec.Struct, frozen=True):
    """One environment.

    env_id, env_options: as in the experiment. allowed_modules: which this machine lets the id import.
    deadline_s, start_deadline_s: the parent's patience with a step and with a start. Of the child's own clock only an
    orphan hears: it gives up later than its parent would have killed it. action_mask, wrappers: as in the experiment.
    """

    env_id: str
    env_options: dict[str, object]
    allowed_modules: tuple[str, ...]
    deadline_s: float
    start_deadline_s: float
    action_mask: str = "auto"
    wrappers: tuple[str | Wrapper, ...] = ()


class Measured(msgspec.Struct, frozen=True):
    """What environments measured of themselves since they last said so: means, and how often something was left out.

    first_left_out: what the first was, in words.
    """

    metrics: tuple[Metric, ...]
    left_out: int = 0
    first_left_out: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why an environment cannot go on, in the child's words. detail: one line."""

    kind: FailureKind
    detail: str


class Malformed(Exception):
    """A frame that nobody asked for, of another length than it should have, or that does not decode."""


def pack(value: object) -> bytes:
    """value: a msgspec struct or plain data."""
    return json.dumps(msgspec.to_builtins(value)).encode()


def unpack(data: bytes, kind: type[T]) -> T:
    """The way back. Raises Malformed."""
    try:
        return msgspec.convert(json.loads(data), kind)
    except (ValueError, msgspec.ValidationError) as error:
        raise Malformed(f"not a {kind.__name__}: {error}") from None
