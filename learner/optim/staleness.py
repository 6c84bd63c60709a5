"""How old a gradient may be and what its age costs it. Pure. No clock: both lags are arguments.

Asked twice by the same function: on arrival, to drop cheaply before decoding, and at apply, because the version has
moved meanwhile. Age has two measures. ``lag_updates`` is what the mathematics feels: how far θ has moved since the
gradient was taken. ``lag_s`` catches what updates cannot: an actor that slept through a quiet hour.
"""

from __future__ import annotations

from typing import Literal, cast

import msgspec
from msgspec.structs import asdict

from learner.config import LearnerSettings, TrimmedMean
from protocol.errors import Reason

Scaling = Literal["none", "scale", "gap", "compensate"]
Aggregating = Literal["none", "mean", "trimmed_mean", "median"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of age; ``learner.config.LearnerSettings`` says how each is set.

    scaling: "none" applies every gradient in full up to the bounds; "scale" shrinks those past full_lag_updates.
    "gap" and "compensate" look at how far θ has moved instead of counting updates (``delay_compensation.py``). The
    bounds hold for all of them.
    """

    scaling: Scaling = "none"
    full_lag_updates: int = 16  # >= 0; up to here "scale" multiplies by 1
    max_lag_updates: int = 1000  # >= 0, with "scale" >= full_lag_updates; dropped above
    max_lag_s: float = 60.0  # > 0; dropped above
    compensation: float = 2.0  # "compensate": λ0 of DC-ASGD, > 0
    ring_bytes: int = 64 << 20  # "gap", "compensate": for θ of published versions
    learning_rate: float = 2e-3  # "gap": the largest that any step is made with
    budgeted: bool = False  # the weight stream has a budget, so that what actors hold may lag behind θ
    journaled: bool = False  # what is applied is kept in a journal
    aggregation: Aggregating = "none"  # of gradients of many senders to one step
    aggregate_trim: float = 0.25


def age_rule(settings: LearnerSettings) -> Rule:
    """What an experiment says of age; asked on arrival here, and at apply by the math thread."""
    rule, group = settings.staleness_rule, settings.group
    return Rule(
        scaling=cast(Scaling, rule.name),
        **asdict(rule),
        max_lag_updates=settings.max_lag_updates,
        max_lag_s=settings.max_lag_s,
        learning_rate=settings.learning_rate,
        budgeted=settings.downlink_kbps is not None,
        journaled=settings.journal is not None,
        aggregation=cast(Aggregating, settings.aggregation.name),
        aggregate_trim=group.aggregate_trim if isinstance(group, TrimmedMean) else 0.0,
    )


class Accepted(msgspec.Struct, frozen=True):
    """Young enough. scale: 0 < scale <= 1, multiplies the learning rate."""

    scale: float


class Dropped(msgspec.Struct, frozen=True):
    """Too old. reason: stale_updates or stale_seconds."""

    reason: Reason


def judge(lag_updates: int, lag_s: float, rule: Rule) -> Accepted | Dropped:
    """What becomes of a gradient of this age. lag_updates, lag_s: >= 0; a future version never comes this far."""
    assert lag_updates >= 0, "admission refuses gradients of future versions"
    if lag_updates > rule.max_lag_updates:
        return Dropped(Reason.STALE_UPDATES)
    if lag_s > rule.max_lag_s:
        return Dropped(Reason.STALE_SECONDS)
    return Accepted(_scale(lag_updates, rule))


def _scale(lag_updates: int, rule: Rule) -> float:
    """The rate divided by the lag (Zhang et al. 2016, staleness-aware async-SGD, eq. 6), past a grace of
    full_lag_updates. The added ones keep it continuous there and finite for a grace of zero.
    """
    if rule.scaling != "scale" or lag_updates <= rule.full_lag_updates:
        return 1.0
    return (rule.full_lag_updates + 1) / (lag_updates + 1)
