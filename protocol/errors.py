"""Every error of the wire, as one tree. Pure. Knows no message, no socket, no metric.

::

    FarflungError
    ├── UserError            what a person typed, configured or has on disk; one clear line, exit code 2, or 75 where
    │   │                    it may pass by itself
    │   └── SettingError     one key of an experiment: names the key, the value, what would be accepted
    └── PeerFault            what the other side sent; counted, answered, never fatal; ``reason`` is the wire code
        ├── FrameFault       too many frames, too many bytes, no preamble, another protocol version
        ├── MessageFault     a header that does not decode, an unknown kind, a field out of bounds
        ├── PayloadFault     array bytes that are not what their header says
        └── SessionFault     a message that is illegal in the session's present state

Our own faults have no class here: they are bugs, and crash loudly.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused: the wire code and the metric label at once (WIRE.md, section 8)."""

    MALFORMED_FRAME = "malformed_frame"  # no preamble, or more frames than any message has
    OVERSIZE = "oversize"  # a frame or a message past its limit
    WRONG_PROTOCOL = "wrong_protocol"  # another version of this protocol
    UNKNOWN_KIND = "unknown_kind"  # a message kind that this side does not know
    MALFORMED_MESSAGE = "malformed_message"  # a header that does not decode, or a field out of bounds
    UNEXPECTED_MESSAGE = "unexpected_message"  # a known kind that is illegal in this state
    UNKNOWN_SESSION = "unknown_session"  # expired, of an earlier learner life, or never granted
    WRONG_LAYOUT = "wrong_layout"  # the two sides do not hold the same parameter vector
    DRAINING = "draining"  # the learner is stopping and takes no more work
    DUPLICATE = "duplicate"  # this sequence number was answered and its verdict is no longer kept
    OVERDRAWN = "overdrawn"  # more unanswered gradients than credit
    WRONG_LENGTH = "wrong_length"  # a payload for another number of parameters
    UNKNOWN_CODEC = "unknown_codec"  # a codec that the learner does not know
    MALFORMED_PAYLOAD = "malformed_payload"  # bytes that are not what the codec says
    FUTURE_VERSION = "future_version"  # taken at weights that do not exist yet
    STALE_UPDATES = "stale_updates"  # too many updates since its weights
    STALE_SECONDS = "stale_seconds"  # too long since its weights were the newest
    NOT_FINITE = "not_finite"  # NaN or infinity inside
    NORM_EXCEEDED = "norm_exceeded"  # an L2 norm above the bound
    OVER_QUOTA = "over_quota"  # more gradients, bytes or sessions than one sender may have
    QUARANTINED = "quarantined"  # its sender broke too many rules lately; it was not looked at


# Gradients refused for these may go back into the residual (WIRE.md, section 8); for any other reason, one that we do
# not know included, never.
STALE = frozenset({Reason.STALE_UPDATES, Reason.STALE_SECONDS})
RESTORED = frozenset(
    {
        Reason.DRAINING,
        Reason.OVERDRAWN,
        Reason.WRONG_LENGTH,
        Reason.UNKNOWN_CODEC,
        Reason.FUTURE_VERSION,
        Reason.STALE_UPDATES,
        Reason.STALE_SECONDS,
        Reason.OVER_QUOTA,
    }
)


class FarflungError(Exception):
    """Root of everything that Farflung raises on purpose."""


TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
# What may go well later though nobody corrected a setting: no room, no answer, or somebody else was first. Not among
# them is what stays as it is, such as permissions and paths.
PASSING = frozenset(
    {errno.EADDRINUSE, errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC}
    | {errno.ESTALE, errno.ETIMEDOUT}
)


class UserError(FarflungError):
    """Something a person can put right; the command prints it as one line and exits with ``exit_code``.

    code: errno of the system's refusal that it tells of. passing: it may be over by itself, so a supervisor should try
    again.
    """

    def __init__(self, *told: object, code: int | None = None, passing: bool = False) -> None:
        super().__init__(*told)
        self.passing = passing or code in PASSING

    @property
    def exit_code(self) -> int:
        """75 for what may pass by itself, else 2: a supervisor need not try again."""
        return TRY_AGAIN if self.passing else 2


class SettingError(UserError):
    """One setting is wrong.

    key: ``table.key`` as a person writes it. value: what was given. accepted: what would have been. meant: the key or
    the value that a person may have meant, as it is to be written.
    """

    def __init__(self, key: str, value: object, accepted: str, meant: str | None = None) -> None:
        super().__init__(key, value, accepted)
        self.key, self.value, self.accepted, self.meant = key, value, accepted, meant

    def __str__(self) -> str:
        value = str(self.value).lower() if isinstance(self.value, bool) else repr(self.value)  # as TOML has it
        hint = f"; did you mean {self.meant}?" if self.meant else ""
        return f"{self.key} = {value}: {self.accepted}{hint}"


class PeerFault(FarflungError):
    """The other side broke the protocol. reason: the wire code. detail: one line for its log, never echoed bytes."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"


class FrameFault(PeerFault):
    """Frames that cannot be a message of ours (WIRE.md, section 2)."""


class MessageFault(PeerFault):
    """A header that cannot be read (WIRE.md, section 3)."""


class PayloadFault(PeerFault):
    """Array bytes that contradict their header (WIRE.md, section 4)."""


class SessionFault(PeerFault):
    """A message that is illegal in the present state of its session (WIRE.md, section 6)."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None where nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
