"""Every message of the wire, its fields, their units and bounds. Pure. Knows bytes, not sockets.

A message is a list of frames: a header, then the raw buffers that the header describes (WIRE.md, sections 2 and 3).
The header is a four-byte preamble and one msgpack array whose first element names the kind::

    b"FRF" | protocol version | msgpack [kind, field, field, ...]

Fields are positional; a message may only ever gain trailing fields with defaults. Those that came after the first
release are left out while all of them are at their defaults, so that what was written before is written still.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from protocol.annealing import COSINE_PARTS, Told
from protocol.buffers import PREAMBLE, PROTOCOL_VERSION, Buffer
from protocol.errors import FrameFault, MessageFault, Reason
from protocol.layout import MAX_PARAMETERS, Layout

MAX_UPDATES = 4096  # in one record of the weight stream
MAX_METRICS = 32  # in one report: what people draw, and not what a simulator could say of itself
MAX_METRIC = 1e15  # either sign: no mean of them overflows

Session = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # random, so that it cannot be guessed; 0 is none
Counter = Annotated[int, Meta(ge=0, lt=1 << 53)]  # exact in every language's numbers
Span = Annotated[float, Meta(ge=0.0, le=86_400.0)]  # seconds
Length = Annotated[int, Meta(ge=0, le=MAX_PARAMETERS)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=500)]
Digest = Annotated[bytes, Meta(min_length=8, max_length=8)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
# Of an actor: simulators that were replaced, numbers that were left out of learning, and metrics that were left out.
FAULTS = (
    *("raised", "hung", "died", "wrong_shape", "reward_not_finite", "observation_not_finite"),
    *("gradient_not_finite", "metric_left_out"),
)
Quantity = Literal["gradient", "update"]
Role = Literal["train", "evaluate"]
ROLES: frozenset[str] = frozenset(get_args(Role))


class Episode(msgspec.Struct, frozen=True, array_like=True):
    """One finished episode, as the environment scored it."""

    score: float  # undiscounted sum of raw rewards
    length: Counter  # environment steps


class Losses(msgspec.Struct, frozen=True, array_like=True):
    """Statistics of the last gradient of the previous rollout, computed by the actor."""

    policy: float = 0.0
    value: float = 0.0
    entropy: float = 0.0  # nats
    kl: float = 0.0  # nats, from the policy that collected to the newest one
    clipped: float = 0.0  # share of samples whose ratio was clipped
    gradient_norm: float = 0.0  # L2, before clipping
    residual_norm: float = 0.0  # L2 of what compression still holds back


class Metric(msgspec.Struct, frozen=True, array_like=True):
    """A number that an environment measures of itself, ``info["metrics"][name]``."""

    name: Name
    mean: float  # since the previous report
    count: Annotated[int, Meta(ge=1, lt=1 << 53)] = 1  # of the numbers behind the mean


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What an actor tells of one rollout; it rides on the rollout's first gradient."""

    env_steps: Counter  # steps taken since the previous report
    episodes: Annotated[tuple[Episode, ...], Meta(max_length=65_536)] = ()
    losses: Losses = Losses()
    observations: Counter = 0  # rows behind the moments buffer; 0: there is no such buffer
    # Of the previous rollout: 1 - Var(returns - values) / Var(returns). None: no values, or returns that are all alike.
    explained_variance: float | None = None
    metrics: Annotated[tuple[Metric, ...], Meta(max_length=MAX_METRICS)] = ()


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    """Root of all kinds."""


class Hello(Message, frozen=True, tag="hello"):
    """actor -> learner: asks for a session."""

    name: Name  # for people; identity is what the transport authenticated
    instance: Session  # random per process life: a repeated hello of one life gets one session
    codecs: Annotated[tuple[Name, ...], Meta(max_length=64)]  # what it can decode
    role: Role = "train"  # "evaluate": plays with published weights and sends evaluations, never gradients


class Welcome(Message, frozen=True, tag="welcome"):
    """learner -> actor: grants a session and hands over all that an actor needs to know."""

    instance: Session  # echoes the hello that it answers
    run: Name
    epoch: Counter  # life of the learner: grows by one at every start of the same run
    session: Session
    ordinal: Counter  # sessions granted by this run before this one; the actor's seed branches on it
    seed: Counter  # of the run
    credit: Annotated[int, Meta(ge=1, le=65_536)]  # gradients that may be unanswered
    heartbeat_s: Annotated[float, Meta(gt=0.0, le=3600.0)]  # say something at least this often
    silence_s: Annotated[float, Meta(gt=0.0, le=86_400.0)]  # a peer this long silent is gone
    quantity: Quantity  # what the learner applies
    weights: Text  # addresses of the weight stream, by spaces; "*" stands for the host that the actor dialled
    layout: Layout
    table: Annotated[bytes, Meta(max_length=1 << 16)]  # the experiment's actor table, msgpack, not read by the learner
    table_digest: Digest  # BLAKE2b-64 of table
    credit_lag: Annotated[int, Meta(ge=1, le=1_000_000)] = 32  # updates that weights may lack of what was applied
    anneal_steps: Counter = 0  # environment steps of the run in which the rate falls to its floor; 0: it stays
    anneal_floor: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0  # share of the first rate that it falls to at most
    learning_rate: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.0  # at first; 0: not told
    share: Share = 0.0  # as in a heartbeat
    # (environment steps, share of the first rate), steps ascending, straight between them and level outside; where
    # there are any they stand in the place of anneal_steps and anneal_floor
    anneal_points: Annotated[tuple[tuple[Counter, Share], ...], Meta(max_length=COSINE_PARTS + 1)] = ()

    @property
    def annealing(self) -> Told:
        """How the rate falls."""
        return Told(self.anneal_steps, self.anneal_floor, self.anneal_points)


class Refusal(Message, frozen=True, tag="refusal"):
    """learner -> actor: a message was not taken. Its session lives on unless the reason is unknown_session."""

    reason: Name  # a protocol.errors.Reason
    detail: Text


class Gradient(Message, frozen=True, tag="gradient"):
    """actor -> learner: one gradient or update. Buffers: payload, then moments if report.observations > 0."""

    session: Session
    sequence: Annotated[int, Meta(ge=1, lt=1 << 53)]  # counts from 1 in each session, without gaps
    base_version: Counter  # version of θ at which it was taken; 0 <= base_version <= current; set by the actor
    codec: Name
    length: Length  # P
    count: Length  # coordinates carried; = length for dense codecs
    report: Report | None = None


class Ruling(msgspec.Struct, frozen=True, array_like=True):
    """What became of one gradient."""

    sequence: Counter
    outcome: Name  # "applied", or the Reason it was dropped for
    version: Counter  # the version that applying it made, or the current one
    scale: float = 1.0  # what staleness multiplied it by; 0 if dropped


class Verdict(Message, frozen=True, tag="verdict"):
    """learner -> actor: answers gradients, in the order of their judgement, and renews credit."""

    session: Session
    credit: Annotated[int, Meta(ge=1, le=65_536)]
    rulings: Annotated[tuple[Ruling, ...], Meta(min_length=1, max_length=65_536)]
    unlogged: bool = False  # what they say was applied is not in the journal that the run keeps: a crash loses it


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """One kind of what went wrong in an actor without ending it."""

    kind: Name  # one of FAULTS
    count: Counter  # in this session
    detail: Annotated[str, Meta(max_length=200)] = ""  # the first of them, for people


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """Either way: alive, and how far. A wedged peer is one whose progress stands still."""

    session: Session
    progress: Counter  # actor: environment steps of its life; learner: updates applied
    version: Counter  # actor: newest weights held; learner: newest version
    round_trip_s: Span = 0.0  # actor: of a gradient until its verdict, a running mean; 0: not known
    work_s: Span = 0.0  # actor: of one gradient, waiting not counted; 0: not known
    # Actor: where its worker's time went in its life. Milliseconds, since whole numbers are short on the wire, and
    # totals, so that a heartbeat that was lost loses nothing.
    collect_ms: Counter = 0  # stepping simulators
    learn_ms: Counter = 0  # gradients
    compress_ms: Counter = 0  # preconditioning, choosing and encoding them
    wait_ms: Counter = 0  # for permits and weights
    residual_age: Counter = 0  # actor: gradients that what it holds back has waited, on average
    faults: Annotated[tuple[Fault, ...], Meta(max_length=16)] = ()  # actor: totals of this session, by kind
    share: Share = 0.0  # learner: of the environment steps that all actors collect, which this one does; 0: not told


class SnapshotRequest(Message, frozen=True, tag="snapshot_request"):
    """actor -> learner: send the newest weights over this link."""

    session: Session
    target: bool = False  # send those of the target network instead; the newest where the run has none


class Snapshot(Message, frozen=True, tag="snapshot"):
    """learner -> actor, on the weight stream and as a reply. Buffers: payload, then moments if observations > 0."""

    epoch: Counter
    version: Counter
    record: Literal["key", "delta"]  # a delta adds to the reconstruction of base_version
    base_version: Counter  # 0 in a key frame
    layout: Digest
    codec: Name
    length: Length
    count: Length
    observations: Counter = 0  # rows behind the moments buffer
    target: Counter | None = None  # version whose θ is the target network now, <= version; None: the run has none
    env_steps: Counter = 0  # of the run, all actors together, when this was published; schedules follow it
    digest: Digest | None = None  # BLAKE2b-64 of the bytes of what a delta leads to, now and then


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """One update as it was applied: θ ← θ − factor · value, with one float32 product and one difference each."""

    codec: Name
    count: Length
    size: Counter  # bytes of its payload
    factor: float  # learning rate times staleness scale, exactly a float32


class Updates(Message, frozen=True, tag="updates"):
    """learner -> actor, on the weight stream: all that was applied since base_version, in order.

    Buffers: the payloads one behind the other, then moments if observations > 0.
    """

    epoch: Counter
    version: Counter  # base_version + the number of updates: each made one
    base_version: Counter
    layout: Digest
    length: Length
    applied: Annotated[tuple[Applied, ...], Meta(min_length=1, max_length=MAX_UPDATES)]
    observations: Counter = 0  # as in a snapshot, and so are the next two
    target: Counter | None = None
    env_steps: Counter = 0
    digest: Digest | None = None  # BLAKE2b-64 of θ's bytes at ``version``, now and then


class Evaluation(Message, frozen=True, tag="evaluation"):
    """actor -> learner, from a session that evaluates: what the policy of one snapshot scored."""

    session: Session
    version: Counter  # of the θ that played; counts for the best only if it is what this session was last handed
    episodes: Annotated[int, Meta(ge=1, lt=1 << 53)]  # finished ones, each from its beginning
    mean: float  # of the undiscounted sums of raw rewards
    std: float  # of the sample, n - 1; 0 for a single episode
    ci95: float  # half the width of the mean's 95 % interval; infinite for a single episode
    seed: Counter  # that the episodes began from


class Goodbye(Message, frozen=True, tag="goodbye"):
    """Either way: this session is over and owes nothing more."""

    session: Session
    final: bool  # learner: the run is over, do not come back; actor: always true
    detail: Text


AnyMessage = (
    Hello
    | Welcome
    | Refusal
    | Gradient
    | Verdict
    | Heartbeat
    | SnapshotRequest
    | Snapshot
    | Updates
    | Evaluation
    | Goodbye
)
KINDS: frozenset[str] = frozenset(kind.__struct_config__.tag for kind in AnyMessage.__args__)

_LATER: dict[type[msgspec.Struct], tuple[int, ...]] = {
    Hello: (1,),
    Report: (2,),
    Welcome: (2, 1, 1, 1),
    Verdict: (1,),
    Heartbeat: (2, 5, 1, 1),
    SnapshotRequest: (1,),
    Snapshot: (2, 1),
}  # how many trailing fields came later, in the order in which they came

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


class _Kind(msgspec.Struct, array_like=True):
    """The first element of any header; what follows is passed over without being built."""

    kind: str


_kind_decoder = msgspec.msgpack.Decoder(_Kind)


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """The frames of a message: its header, then its buffers as they are."""
    return [PREAMBLE + _encoder.encode(_as_written(message)), *buffers]


def _as_written(message: Message) -> object:
    """The message and the report in it, without their later fields where they say nothing."""
    if isinstance(message, Gradient):
        report = None if message.report is None else _kept(message.report)
        return message if report is None else (kind(message), *msgspec.structs.astuple(message)[:-1], report)
    kept = _kept(message)
    return message if kept is None else (kind(message), *kept)


def _kept(struct: msgspec.Struct) -> tuple[object, ...] | None:
    """The fields up to the last one that is to be written; None: all of them."""
    laters = _LATER.get(type(struct), ())
    kept = fields = msgspec.structs.astuple(struct) if laters else ()
    defaults = struct.__struct_defaults__
    for later in reversed(laters):
        end = len(defaults) - (len(fields) - len(kept))
        if kept[-later:] != defaults[end - later : end]:
            break
        kept = kept[:-later]
    return None if len(kept) == len(fields) else kept


def decode(frames: Sequence[Buffer]) -> tuple[AnyMessage, Sequence[Buffer]]:
    """The message and its buffers. ``frames`` have passed ``protocol.frames.check``.

    Raises FrameFault without our preamble or of another protocol version, MessageFault for a header that does not
    decode or whose buffers are not as many as it says.
    """
    header = frames[0]
    if bytes(header[:4]) != PREAMBLE:
        raise _foreign(bytes(header[:4]))
    try:
        message = _decoder.decode(header[4:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _unreadable(header[4:], error) from None
    buffers = frames[1:]
    if len(buffers) != expected_buffers(message):
        detail = f"{kind(message)} came with {len(buffers)} buffers, its header says {expected_buffers(message)}"
        raise MessageFault(Reason.MALFORMED_MESSAGE, detail)
    return message, buffers


def expected_buffers(message: Message) -> int:
    """How many raw frames follow this header."""
    if isinstance(message, Gradient):
        return 1 + bool(message.report and message.report.observations)
    if isinstance(message, Snapshot | Updates):
        return 1 + bool(message.observations)
    return 0


def kind(message: Message) -> str:
    """The message's name on the wire."""
    return str(message.__struct_config__.tag)


def _foreign(preamble: bytes) -> FrameFault:
    if preamble[:3] == PREAMBLE[:3] and len(preamble) == 4:
        return FrameFault(
            Reason.WRONG_PROTOCOL, f"protocol version {preamble[3]} spoken here to version {PROTOCOL_VERSION}"
        )
    return FrameFault(Reason.MALFORMED_FRAME, "the first frame does not begin with a Farflung preamble")


def _unreadable(header: Buffer, error: Exception) -> MessageFault:
    """Tells a kind from another future apart from a header that is simply broken."""
    try:
        named = _kind_decoder.decode(header).kind
    except (msgspec.DecodeError, ValueError, RecursionError):
        return MessageFault(Reason.MALFORMED_MESSAGE, "the header is not a msgpack array that begins with a kind")
    if named not in KINDS:
        return MessageFault(Reason.UNKNOWN_KIND, f"kind {named[:64]!r} is not one of {', '.join(sorted(KINDS))}")
    return MessageFault(Reason.MALFORMED_MESSAGE, f"{named}: {str(error)[:300]}")
