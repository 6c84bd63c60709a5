"""What can happen to the learner, and what it can decide to do. Pure. No behaviour, only names.

Events are things that were; effects are orders to the service, which reports back with another event. What is made for
each gradient is a Struct: a frozen dataclass takes six times as long to make, 3 µs for one of twelve fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from protocol.buffers import Buffer
from protocol.errors import PeerFault
from protocol.messages import ROLES, AnyMessage, Message, Report, Snapshot, Updates
from protocol.session import Sender

APPLIED = "applied"  # the outcome of a gradient that changed θ; every other one is a Reason
KeyFrame = tuple[Snapshot, Sequence[Buffer]]  # θ whole and its buffers, immutable, ready to send
Record = tuple[Snapshot | Updates, Sequence[Buffer]]  # of the weight stream: a key frame, updates or a delta


# one gradient


class Job(msgspec.Struct, frozen=True):
    """One admitted gradient, not yet decoded.

    base_version: of θ at which it was taken; 0 <= base_version <= current. length, count: as in its header, length
    being P. moments: rows and bytes of the observation statistics that came with it. lag_s: seconds for which its
    weights had not been the newest when it arrived. sender: who answers for it. arrived: when. report: what rode on it.
    collected_from: environment steps of the run when its rollout began, None without a report.
    """

    session: int
    sequence: int
    base_version: int
    codec: str
    length: int
    count: int
    buffer: Buffer
    moments: tuple[int, Buffer] | None
    lag_s: float
    sender: Sender = ""
    arrived: float = 0.0
    report: Report | None = None
    collected_from: int | None = None


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """How many messages have to be averaged until the noise in them is no more than the signal (optim/noise_scale.py).

    messages: >= 0. told: whether the signal stands out from chance; if not, ``messages`` is the least that is likely.
    """

    messages: float
    told: bool


class Outcome(msgspec.Struct, frozen=True):
    """What became of one job.

    outcome: "applied", or the Reason of its refusal. version: the one that applying it made, or the unchanged one.
    scale: what staleness multiplied it by, the mean over its coordinates where each has its own; 0 if refused.
    lag_updates: updates between its weights and its judgement. lag_s, arrived, report,
    collected_from: as in the job.
    """

    session: int
    sequence: int
    outcome: str
    version: int
    scale: float
    codec: str
    lag_updates: int
    sender: Sender = ""
    lag_s: float = 0.0
    arrived: float = 0.0
    report: Report | None = None
    collected_from: int | None = None


# events


class MessageArrived(msgspec.Struct, frozen=True):
    """A message that decoded. route: the connection to answer over. wire_bytes: headers and buffers together.

    public_key: the one that the connection proved to have; empty where the learner asks for none. local: whether it
    came over a socket file of this machine. roles: what the key may do. Both are asked for hellos alone.
    """

    route: bytes
    message: AnyMessage
    buffers: Sequence[Buffer]
    wire_bytes: int
    public_key: str = ""
    local: bool = False
    roles: frozenset[str] = ROLES


class MessageSent(msgspec.Struct, frozen=True):
    """A message was handed to one actor's connection, or published to all. wire_bytes: headers and buffers together."""

    message: Message
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class FaultArrived:
    """Frames that are no message of ours."""

    route: bytes
    fault: PeerFault
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class KeysRevoked:
    """Roles that public keys have lost, by key; all of them where it may not take part any more. All connections are
    cut.
    """

    lost: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class BatchApplied:
    """The math thread is idle again. version: of θ after the batch.

    record: for the stream, if that was asked for and there is news; it may be a key frame. key_frame: θ of ``version``,
    if that was asked for; where the record is a key frame, the same.
    """

    outcomes: Sequence[Outcome]
    version: int
    record: Record | None
    key_frame: KeyFrame | None
    math_s: float  # whole batch, record and key frame included
    record_s: float  # of math_s, spent on the record
    key_frame_s: float  # and on a key frame that is not the record
    unlogged: str | None = None  # why what was applied is not in the journal
    noise: NoiseEstimate | None = None  # as far as it is known


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """θ of this version is on disk. based: the journal leads on from it, as was asked for."""

    version: int
    path: Path
    based: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointFailed:
    """It is not; the one before still holds."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True)
class JournalBegan:
    """It takes records again, from this version on, of which a checkpoint is being written."""

    version: int


@dataclass(frozen=True, slots=True)
class BestWritten:
    """The best evaluated θ is on disk, in place of the best before."""

    version: int
    path: Path


@dataclass(frozen=True, slots=True)
class BestFailed:
    """It is not; the best before still holds."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; several times per heartbeat."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the run to end now: a signal, or nobody is left to train."""

    detail: str
    exit_code: int


Saved = CheckpointWritten | CheckpointFailed | JournalBegan | BestWritten | BestFailed
Event = KeysRevoked | MessageArrived | MessageSent | FaultArrived | BatchApplied | Saved | Ticked | StopRequested


# effects


class Send(msgspec.Struct, frozen=True):
    """To one connection. One that is gone or full loses it; sessions heal that."""

    route: bytes
    message: Message
    buffers: Sequence[Buffer] = ()


@dataclass(frozen=True, slots=True)
class Publish:
    """To all subscribers."""

    message: Snapshot | Updates
    buffers: Sequence[Buffer]


@dataclass(frozen=True, slots=True)
class ApplyBatch:
    """To the math thread, which is idle. rate: learning rate.

    publish_above: make a record afterwards if the version is then above this; None: none is due. key_frame: make one,
    too. allowed_bytes: of the record, where the stream has a budget. may_key_frame: whether it may be a key frame.
    counters: of the run at this moment, for the journal.
    """

    jobs: Sequence[Job]
    rate: float
    publish_above: int | None
    key_frame: bool = False
    allowed_bytes: float = math.inf
    may_key_frame: bool = True
    counters: dict[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WriteCheckpoint:
    """Copy θ on the math thread, write it on another. counters: of the run at this moment.

    rebase: the journal begins anew from it.
    """

    counters: dict[str, int | float]
    rebase: bool = False


@dataclass(frozen=True, slots=True)
class WriteBest:
    """Write the θ of this record as the best of a public key and, where it leads, as the best of all.

    score: mean, std, ci95, episodes, seed. counters: of the run now.
    """

    record: KeyFrame
    score: dict[str, int | float]
    counters: dict[str, int | float]
    public_key: str = ""
    leads: bool = True


@dataclass(frozen=True, slots=True)
class LeadBest:
    """Make the best of this public key, on disk and of this version, the best of all; None: there is none left."""

    public_key: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Announce:
    """One line for people and for progress.jsonl. event: past-tense name. fields: plain values."""

    event: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Finish:
    """Stop the service. exit_code: 0 reached or asked to stop, 1 failure, 3 a limit before the target, 75 later."""

    exit_code: int


Effect = Send | Publish | ApplyBatch | WriteCheckpoint | WriteBest | LeadBest | Announce | Finish
