"""How many gradients one actor may have unanswered. Pure. Knows numbers that a heartbeat told; no session.

Credit hides latency: with a round trip of r and w of work for each gradient, an actor that may have 1 + r / w
unanswered never waits. Its price is staleness: what everybody has under way is about what a gradient is late by. So an
actor is granted what hides its round trip, as long as all grants together stay within a lag that learning bears; in a
fleet larger than that lag each has one.
"""

from __future__ import annotations

import math

from learner.config import LearnerSettings

BURST = 1.25  # gradients come one behind the other after each rollout, and none while the next is collected
NOISE_S = 0.01  # of a round trip: a batch under way and busy cores, which more gradients would not hide


def first(training: int, settings: LearnerSettings) -> int:
    """What an actor begins with, and the least it is granted: with half of the lag, nobody's link being long.

    training: sessions that train, the new one too.
    """
    return max(1, min(settings.credit, settings.credit_lag // (2 * max(training, 1))))


def ceiling(training: int, settings: LearnerSettings) -> int:
    """The most it can be granted, however long its round trip. training: as in ``first``."""
    return max(first(training, settings), min(settings.most_credit, settings.credit_lag // max(training, 1)))


def grant(held: int, round_trip_s: float, work_s: float, training: int, settings: LearnerSettings) -> int:
    """The next grant: twice ``held`` at most; half of it where the fleet has grown, else one less, and none less for a
    difference of one, lest it flap.

    work_s: of one gradient, waiting not counted; 0 where nothing is known. training: sessions that train, this one too.
    """
    least = first(training, settings)
    most = ceiling(training, settings)
    if held > most:
        return max(most, held // 2)
    if not (math.isfinite(round_trip_s) and 0.0 < work_s < math.inf):
        return held
    hiding = BURST * max(0.0, round_trip_s - NOISE_S) / work_s  # infinity where an actor tells of next to no work
    wanted = max(least, 1 + math.ceil(min(hiding, most - 1)))
    if wanted > held:
        return min(2 * held, wanted)
    return held - 1 if wanted < held - 1 else held
