"""What a gradient must be to come near θ. Pure. Knows one gradient, not its session.

``admit`` reads the header, before a byte is decoded; ``learner/optim/norms.py`` reads decoded numbers. Sequence, credit
and duplicates belong to the session's ledger (``protocol/session.py``); age belongs to ``learner/optim/staleness.py``.
"""

from __future__ import annotations

import math
from collections.abc import Container

import msgspec

from protocol.errors import Reason
from protocol.messages import MAX_METRIC, Gradient, Losses, Report

MAX_REPORT_STEPS = 1_000_000_000  # a rollout has thousands; a million a second for a quarter of an hour
MAX_SCORE = 1e15  # of an episode, either sign: what run.until_return may be, and no sum of them overflows


def admit(gradient: Gradient, *, layout_length: int, version: int, codecs: Container[str]) -> Reason | None:
    """Why this header is refused, or None. layout_length: P. version: the learner's current one."""
    if gradient.length != layout_length:
        return Reason.WRONG_LENGTH
    if gradient.count > gradient.length:
        return Reason.MALFORMED_PAYLOAD
    if gradient.codec not in codecs:
        return Reason.UNKNOWN_CODEC
    if gradient.base_version > version:
        return Reason.FUTURE_VERSION
    return None


def believable(report: Report, earlier_steps: int = 0) -> Report:
    """The report without what cannot be true: the gradient beside it may be sound.

    earlier_steps: that its actor took before these and that no episode accounted for, >= 0.

    Steps above MAX_REPORT_STEPS count as none: the learning rate and the actors' schedules follow their sum. Scores
    beyond MAX_SCORE, NaN among them, would stay in the mean of a hundred. Each episode ended with a step of this report
    and consists of steps that nothing else accounted for: where they do not all fit in, none is believed. Losses are
    finite, and explained variance is at most 1. Observations are of these steps. Metrics are within MAX_METRIC.
    """
    env_steps = report.env_steps if report.env_steps <= MAX_REPORT_STEPS else 0
    episodes = tuple(each for each in report.episodes if abs(each.score) <= MAX_SCORE and each.length)
    if len(episodes) > env_steps or sum(each.length for each in episodes) > earlier_steps + env_steps:
        episodes = ()
    sound = all(map(math.isfinite, msgspec.structs.astuple(report.losses)))
    losses = report.losses if sound else Losses()
    observations = report.observations if report.observations <= env_steps else 0
    explained = report.explained_variance
    if explained is not None and not -math.inf < explained <= 1.0:
        explained = None
    metrics = tuple(each for each in report.metrics if abs(each.mean) <= MAX_METRIC and each.name.isprintable())
    return Report(env_steps, episodes, losses, observations, explained, metrics)
