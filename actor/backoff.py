"""How long an actor waits between hellos that nobody answers. Pure given a generator."""

from __future__ import annotations

from random import Random

FIRST_S, LONGEST_S = 0.5, 15.0  # doubled each time, jittered, so that a fleet does not come back as one
DOUBLINGS = 5  # reach the longest; an actor may wait for days, and 2.0**1024 is no float


def wait_s(attempts: int, random: Random) -> float:
    """Before the next hello, after so many that were in vain: from half to one and a half of the doubled time."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(attempts, DOUBLINGS)) * (0.5 + random.random())
