"""What work and links cost in virtual time, and who takes part. Pure. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Virtual milliseconds. step_ms: of one step, or reset, of one environment. gradient_ms: of a minibatch's gradient,
    sending included. apply_ms: of a message at the learner, which applies one at a time. up_ms, down_ms: of a message's
    way to the learner and back.

    jitter: 0 <= jitter < 1; by at most this share each rollout and each gradient takes more time or less, by chance.
    Without it actors of one speed keep step: all begin a rollout at the same moment, which no real fleet does.
    """

    step_ms: float = 1.0
    gradient_ms: float = 0.25
    apply_ms: float = 0.05
    up_ms: float = 0.2
    down_ms: float = 0.2
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Crew:
    """Who takes part. actors: from the beginning. rates: of the first, the second ... actor ever, and over again.

    joins, leaves: how many more come, or go, and after how many virtual seconds; who has been there longest goes first.
    """

    actors: int
    rates: tuple[float, ...] = (1.0,)
    joins: tuple[tuple[int, float], ...] = ()
    leaves: tuple[tuple[int, float], ...] = ()
