"""The math thread's work for one batch, and how long each part of it took. Knows θ and the clock; no sockets."""

from __future__ import annotations

import time

from learner import events
from learner.durability.journal import Journal
from learner.optim.parameters import Parameters
from learner.stream.delta import Record
from protocol.messages import Snapshot


def apply_batch(
    parameters: Parameters, order: events.ApplyBatch, epoch: int, journal: Journal | None = None
) -> events.BatchApplied:
    """The math thread's work for one batch. What it applies is in the journal before anybody can hear of it."""
    began = time.perf_counter()
    outcomes = parameters.apply(order.jobs, order.rate)
    unlogged = None if journal is None else _log(parameters, order, journal)
    applied = time.perf_counter()
    record: Record | None = None
    key: events.Key | None = None
    if order.publish_above is not None and parameters.version > order.publish_above:
        record = parameters.record(epoch, order.allowed_bytes, may_key=order.may_key)
        if isinstance(record[0], Snapshot) and record[0].record == "key":
            key = record[0], record[1]
    recorded = time.perf_counter()
    if order.key and key is None:
        key = parameters.snapshot(epoch)
    ended = time.perf_counter()
    return events.BatchApplied(
        outcomes, parameters.version, record, key, ended - began, recorded - applied, ended - recorded, unlogged
    )


def _log(parameters: Parameters, order: events.ApplyBatch, journal: Journal) -> str | None:
    """Why what was applied is not in the journal."""
    assert parameters.draft is not None
    try:
        for record, buffers in parameters.draft.take(parameters.version, order.counters):
            journal.append(record, buffers)
    except OSError as error:
        return error.strerror or str(error)
    return None
