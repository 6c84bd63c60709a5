"""What happened, as a list of operations, and whether it could have happened to a learner that keeps its word. Pure.

The world writes it down as it goes; so can anybody who watches real daemons. ``check`` looks at the whole of it, and
knows nothing of how it came about: each line of ``PROMISES`` is one of docs/resilience.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Number = tuple[int, int]  # session and sequence


@dataclass(frozen=True, slots=True)
class Began:
    """A life of the learner, at this version. theta: digest of θ."""

    epoch: int
    version: int
    theta: str


@dataclass(frozen=True, slots=True)
class Applied:
    """These gradients made this version. durable: the journal says so."""

    epoch: int
    version: int
    numbers: tuple[Number, ...]
    theta: str | None  # digest of θ after the batch that it was the last of
    durable: bool


@dataclass(frozen=True, slots=True)
class Acked:
    """A verdict told an actor that its gradient made this version. durable: the learner's word for it."""

    epoch: int
    version: int
    number: Number
    durable: bool


@dataclass(frozen=True, slots=True)
class Adopted:
    """An actor took these weights."""

    epoch: int
    version: int
    actor: str


@dataclass(frozen=True, slots=True)
class Told:
    """Weights of this version left the learner. durable: its word for it."""

    epoch: int
    version: int
    durable: bool


Operation = Began | Applied | Acked | Adopted | Told
Lie = str


def check(history: Sequence[Operation]) -> list[Lie]:
    """What cannot be; empty for a history that keeps every promise."""
    return [f"{promise.__name__}: {lie}" for promise in PROMISES for lie in promise(history)]


def each_gradient_is_applied_at_most_once(history: Sequence[Operation]) -> Iterator[Lie]:
    seen: dict[Number, Applied] = {}
    for operation in history:
        if isinstance(operation, Applied):
            for number in operation.numbers:
                if number in seen:
                    yield f"{operation} after {seen[number]}"
                seen[number] = operation


def what_is_acked_was_applied(history: Sequence[Operation]) -> Iterator[Lie]:
    made: dict[Number, int] = {}
    for operation in history:
        if isinstance(operation, Applied):
            made |= dict.fromkeys(operation.numbers, operation.version)
        elif isinstance(operation, Acked) and made.get(operation.number) != operation.version:
            yield f"{operation}, but it made {made.get(operation.number)}"


def each_version_follows_the_one_before(history: Sequence[Operation]) -> Iterator[Lie]:
    version = epoch = 0
    for operation in history:
        if isinstance(operation, Began):
            if operation.epoch <= epoch:
                yield f"{operation} after life {epoch}"
            epoch, version = operation.epoch, operation.version
        elif isinstance(operation, Applied):
            if (operation.epoch, operation.version) != (epoch, version + 1):
                yield f"{operation} after version {version} of life {epoch}"
            version = operation.version


def a_life_begins_with_bits_that_there_were(history: Sequence[Operation]) -> Iterator[Lie]:
    """At a version that the lives before it went through, with the θ that they had there.

    Or beyond all that is known of them: what is on disk of a batch in which a life ended was heard of by nobody.
    """
    thetas: dict[int, str] = {}
    for operation in history:
        if isinstance(operation, Began):
            known = thetas.get(operation.version)
            if known != operation.theta and operation.version <= max(thetas, default=-1):
                yield f"{operation}, where θ was {known}"
            thetas = {version: theta for version, theta in thetas.items() if version <= operation.version}
            thetas[operation.version] = operation.theta
        elif isinstance(operation, Applied) and operation.theta is not None:
            thetas[operation.version] = operation.theta


def nothing_that_was_promised_is_lost(history: Sequence[Operation]) -> Iterator[Lie]:
    """No life begins before a version that an earlier one called durable, in a verdict or by sending its weights."""
    durable: Acked | Told | None = None
    for operation in history:
        if (
            isinstance(operation, Acked | Told)
            and operation.durable
            and (not durable or operation.version > durable.version)
        ):
            durable = operation
        elif isinstance(operation, Began) and durable is not None and operation.version < durable.version:
            yield f"{operation} after {durable}"


def weights_only_get_newer(history: Sequence[Operation]) -> Iterator[Lie]:
    held: dict[str, tuple[int, int]] = {}
    for operation in history:
        if isinstance(operation, Adopted):
            before, after = held.get(operation.actor, (0, 0)), (operation.epoch, operation.version)
            if after < before:
                yield f"{operation} after {before}"
            held[operation.actor] = after


PROMISES: tuple[Callable[[Sequence[Operation]], Iterator[Lie]], ...] = (
    each_gradient_is_applied_at_most_once,
    what_is_acked_was_applied,
    each_version_follows_the_one_before,
    a_life_begins_with_bits_that_there_were,
    nothing_that_was_promised_is_lost,
    weights_only_get_newer,
)
