"""The math thread's work for one batch: apply, journal, record; and how long each took. Knows the clock; no sockets."""

from __future__ import annotations

import time

from learner import events
from learner.durability.journal import Journal
from learner.durability.journal_format import batches
from learner.optim.applied import AppliedUpdate
from learner.optim.parameters import Parameters
from learner.stream.writer import StreamWriter
from protocol.messages import Snapshot


def apply_batch(
    parameters: Parameters,
    stream: StreamWriter,
    order: events.ApplyBatch,
    epoch: int,
    journal: Journal | None = None,
) -> events.BatchApplied:
    """The math thread's work for one batch. What it applies is in the journal before anybody can hear of it."""
    began = time.perf_counter()
    before = parameters.version
    outcomes, applied = parameters.apply(order.jobs, order.rate)
    unlogged = None if journal is None else _log(journal, before, applied, order.counters)
    stream.add(applied)
    logged = time.perf_counter()
    record: events.Record | None = None
    key_frame: events.KeyFrame | None = None
    if order.publish_above is not None and parameters.version > order.publish_above:
        record = stream.record(epoch, order.allowed_bytes, may_key_frame=order.may_key_frame)
        if isinstance(record[0], Snapshot) and record[0].record == "key":
            key_frame = record[0], record[1]
    recorded = time.perf_counter()
    if order.key_frame and key_frame is None:
        key_frame = stream.key_frame(epoch)
    ended = time.perf_counter()
    return events.BatchApplied(
        outcomes=outcomes,
        version=parameters.version,
        record=record,
        key_frame=key_frame,
        math_s=ended - began,
        record_s=recorded - logged,
        key_frame_s=ended - recorded,
        unlogged=unlogged,
        noise=parameters.noise.estimate(),
    )


def _log(journal: Journal, version: int, applied: list[AppliedUpdate], counters: dict[str, int | float]) -> str | None:
    """Why what was applied is not in the journal. version: of θ before it."""
    try:
        for record, buffers in batches(version, applied, counters):
            journal.append(record, buffers)
    except OSError as error:
        return error.strerror or str(error)
    return None
