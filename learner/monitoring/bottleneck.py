"""What keeps a run from going faster, in one sentence. Pure: numbers in, words out.

The causes are asked for in order, the worst first; the first that holds is the answer. Each follows from numbers that
the answer names, so that a reader can disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from learner.monitoring.scaling import Scaling

SATURATED = 0.9  # of the time that the math thread works; what is left goes into handing it the next batch
REFUSED = 0.5  # of gradients, from which on refusals are what is wrong
APPLIED = "applied"
TWO = 2
MORE = (2, 100)  # actors: what somebody would add by hand, and what a cluster would
NOTHING = 0.005  # a gain that rounds to no percent


class Cause(Enum):
    """What is to be done differs for each."""

    ENDED = "ended"
    NO_ACTORS = "no_actors"
    STALLED = "stalled"
    REFUSED = "refused"
    MATH = "math"
    CREDIT = "credit"
    ACTORS = "actors"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One cause and one sentence about it."""

    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A run as it is judged. Counts of actors are of those that train."""

    running: bool = True
    solved: bool = False
    final: bool = False  # the run itself is over, and not this life alone
    started: bool = True  # an actor of this life had weights
    actors: int = 0
    responding: int = 0  # actors that were heard of within some heartbeats
    stepping: int = 0  # actors whose simulators stepped lately
    stalled: bool = False  # as in summary.py
    idle_s: float = 0.0  # since the last update
    busy: bool = False  # a batch is with the math thread
    aggregates: bool = False  # many gradients become one step
    pending: int = 0  # gradients that wait for the math thread
    out_of_credit: int = 0  # actors that use all the credit that can be granted
    math_share: float | None = None  # of the last seconds that the math thread worked; None: not known yet
    scaling: Scaling | None = None  # what more actors would add; None: not known
    rulings: Mapping[str, int] = field(default_factory=dict)  # of the last seconds, by outcome


def find_bottleneck(facts: Facts) -> Bottleneck:
    """The first cause that holds."""
    if not facts.running:
        return Bottleneck(Cause.ENDED, _ended(facts))
    if not facts.actors:
        text = "Starved: no actor is here." if facts.started else "Waiting for the first actor."
        return Bottleneck(Cause.NO_ACTORS, text)
    if facts.stalled:
        return Bottleneck(Cause.STALLED, f"Nothing was applied for {facts.idle_s:.0f} s: {_stalled(facts)}.")
    refused = _refused(facts.rulings)
    if refused is not None and refused[0] >= REFUSED:
        share, reason = refused
        return Bottleneck(Cause.REFUSED, f"{share:.0%} of gradients are refused, most as {_said(reason)}.")
    return _slowest_part(facts)


def _ended(facts: Facts) -> str:
    if facts.solved:
        return "The run is over: its target was reached."
    return "The run is over: its step limit was reached." if facts.final else "The learner was asked to stop."


def _stalled(facts: Facts) -> str:
    refused = _refused(facts.rulings)
    if facts.busy:
        return "the math thread is still at its last batch"
    if not facts.responding:
        return "no actor is heard from"
    if refused is not None:
        return f"gradients are refused, most as {_said(refused[1])}"
    if facts.aggregates and facts.pending:
        return f"{facts.pending} gradients wait until their group is whole"
    if facts.stepping:
        return f"{facts.stepping} of {facts.actors} actors step, but no gradient comes"
    return "actors answer, but none of them steps"


def _slowest_part(facts: Facts) -> Bottleneck:
    if facts.math_share is None:
        return Bottleneck(Cause.UNKNOWN, "Too early to say what limits the run.")
    busy = f"the math thread is busy {min(facts.math_share, 1.0):.0%} of the time"
    waiting = f"{facts.pending:,} gradients wait" if facts.pending > 1 else "one gradient waits"
    waits = waiting if facts.pending else "nothing waits"
    if facts.math_share >= SATURATED:
        adds = "More actors would add staleness only." if facts.scaling is None else _gains(facts.scaling)
        text = f"The learner sets the pace: {busy}, {waits}. {adds}"
        return Bottleneck(Cause.MATH, text)
    if 2 * facts.out_of_credit > facts.actors:
        why = "their groups take that long" if facts.aggregates else "learner.credit_lag allows no more under way"
        return Bottleneck(Cause.CREDIT, f"{facts.out_of_credit} of {facts.actors} actors wait for credit: {why}.")
    adds = _not_known(facts.actors) if facts.scaling is None else _gains(facts.scaling)
    return Bottleneck(Cause.ACTORS, f"Actors set the pace: {busy}, {waits}. {adds}")


def _not_known(actors: int) -> str:
    why = "the noise scale is taken from messages of two" if actors < TWO else "it takes some pairs of messages"
    return f"What more of them would add to learning is not known yet: {why}."


def _gains(scaling: Scaling) -> str:
    """What more actors would add, and the numbers that say so."""
    fleet, least = scaling.fleet, "" if scaling.told else "at least "
    few, many = (_faster(fleet.gain(more), least) for more in MORE)
    batch, noise = f"{fleet.batch_steps:,.0f}", f"{fleet.noise_steps:,.0f}"
    said = "is" if scaling.told else "cannot be told yet from chance, and is at least"
    return (
        f"Two more actors would make learning {few}, a hundred more {many}: {batch} environment steps are collected"
        f" between two policies, and the noise scale {said} {noise}."
    )


def _faster(gain: float, least: str) -> str:
    if gain >= 1.0:
        return f"{least}{1.0 + gain:.1f} times as fast"
    if abs(gain) < NOTHING:
        return f"{least}no faster".removeprefix("at least ")
    return f"{least}{gain:.0%} faster" if gain > 0.0 else f"{-gain:.0%} slower"


def _refused(rulings: Mapping[str, int]) -> tuple[float, str] | None:
    """The share of gradients that were refused, and the reason of most; None if none was."""
    refusals = {outcome: count for outcome, count in rulings.items() if outcome != APPLIED and count > 0}
    if not refusals:
        return None
    return sum(refusals.values()) / sum(rulings.values()), max(refusals, key=lambda outcome: refusals[outcome])


def _said(outcome: str) -> str:
    return str(outcome).replace("_", " ")
