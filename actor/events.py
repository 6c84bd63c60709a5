"""What can happen to an actor, and what it can decide to do. Pure. No behaviour, only names.

Events are things that were; effects are orders to the service and, through its channel, to the worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.stats import WorkerStats
from protocol.buffers import Buffer
from protocol.codecs.registry import Sparse
from protocol.errors import PeerFault
from protocol.messages import AnyMessage, Message, Quantity, Report, Role, Welcome
from protocol.moments import Moments

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Weights:
    """What the worker computes with. theta: float32 [P], read-only. epoch, version: which θ this is.

    moments: of what the run normalises: the observation's numbers, then the discounted return where that is normalised
    too; None where nothing is or nothing was seen yet. env_steps: of the run when these weights were published, for
    schedules. target, target_version: float32 [P], read-only, and which θ that is: the target network, present whenever
    the learner keeps one; the same weights may come again with a newer one.
    """

    epoch: int
    version: int
    theta: Vector
    moments: Moments | None
    env_steps: int = 0
    target: Vector | None = None
    target_version: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How a live learner is reached: its address, what this process is called there, and the file of its key.

    give_up_after_s: how long it is waited for, each time that there is none.
    """

    learner: str
    name: str
    key: Path | None = None
    give_up_after_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Work:
    """One gradient as the worker hands it over.

    epoch, base_version: of the weights that it was taken at. decoded: exactly what the learner will read, for the
    residual if a verdict refuses it. report: with the first gradient of a rollout; moments: its buffer.
    """

    epoch: int
    base_version: int
    codec: str
    length: int
    count: int
    payload: bytes
    decoded: Vector | Sparse
    report: Report | None = None
    moments: bytes | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this process is. name: for people. instance: random for each process life. role: what it asks a session for.

    An evaluating actor does not follow the weight stream: it asks for one snapshot, plays with it, tells what it scored
    and asks for the next. It gets no permits and sends no gradients.
    """

    name: str
    instance: int
    role: Role = "train"


# events


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon runs and may dial."""


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """A message that decoded, from the link or from the weight stream.

    followed: a record behind which another has already arrived, so that nobody need work with what it leads to.
    """

    message: AnyMessage
    buffers: Sequence[Buffer]
    followed: bool = False


@dataclass(frozen=True, slots=True)
class FaultArrived:
    """Frames that are no message of ours."""

    fault: PeerFault


@dataclass(frozen=True, slots=True)
class WorkDone:
    """The worker finished a gradient; it holds one permit for it."""

    work: Work


@dataclass(frozen=True, slots=True)
class LastWorkDone:
    """The worker, asked to leave, gave what it held back; None: nothing. It holds a permit for it that nobody gave."""

    work: Work | None


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker built its simulators and network and wants weights."""


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """The worker cannot go on. exit_code: 2 where a setting is wrong, else 1. trace: where it was, for people."""

    detail: str
    exit_code: int
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed. worker: what it did until now."""

    worker: WorkerStats


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A signal came, or the worker is done with all that it was asked for. detail: which, for people."""

    detail: str


@dataclass(frozen=True, slots=True)
class EvaluationDone:
    """An evaluating worker has played. Fields as in protocol.messages.Evaluation; version: of the θ that played.

    epoch: of those weights; a score of another life of the learner is dropped where this is given.
    """

    version: int
    episodes: int
    mean: float
    std: float
    ci95: float
    seed: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class WeightsWanted:
    """A worker that only watches is done with the weights that it has, and has no score to tell."""


WorkerEvent = WorkDone | LastWorkDone | WorkerReady | WorkerFailed | EvaluationDone | WeightsWanted
Event = Started | MessageArrived | FaultArrived | WorkerEvent | Ticked | StopRequested


# effects


@dataclass(frozen=True, slots=True)
class Dial:
    """Drop the connection of the link, if there is one, and make a fresh one."""


@dataclass(frozen=True, slots=True)
class Send:
    """Over the link. What cannot be queued is lost; sessions heal that."""

    message: Message
    buffers: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Subscribe:
    """To the weight stream at this address. quantity: as in the welcome that names it."""

    address: str
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Configure:
    """Build, or build anew, what this welcome describes."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class Adopt:
    """The newest weights, for the worker to take when it next looks."""

    weights: Weights


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a verdict tells of one gradient's way.

    round_trip_s: from its sending to its verdict; None where it was sent twice. lag_updates: how many updates θ was
    ahead of its weights when it was judged, >= 0; None where it was not judged by its age. version: that applying it
    made; None where it was not applied.
    """

    round_trip_s: float | None
    lag_updates: int | None
    version: int | None = None


Settled = tuple[Vector | Sparse, int | None]  # what was sent, and the version that it made; None: none, or unknown


@dataclass(frozen=True, slots=True)
class Settle:
    """One gradient is done with: its permit returns. restore: put ``work.decoded`` back into the residual.

    feedback: what its verdict told; None where there is none.
    """

    work: Work
    restore: bool
    feedback: Feedback | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """How many gradients may be unanswered; 0 makes the worker wait."""

    credit: int


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of all environment steps of the run this actor collects, 0 < share <= 1; 0: nobody told."""

    share: float


@dataclass(frozen=True, slots=True)
class Leave:
    """The worker is to hand in what it holds back and to leave."""


@dataclass(frozen=True, slots=True)
class Announce:
    """One line for people and logs. event: past-tense name. fields: plain values."""

    event: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Finish:
    """Stop the daemon."""

    exit_code: int


Effect = Dial | Send | Subscribe | Configure | Adopt | Settle | Permit | Share | Leave | Announce | Finish
