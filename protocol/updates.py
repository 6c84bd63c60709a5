"""Updates as they were applied, and their repetition: one batch is one record. Pure. Knows θ; no optimizer, no clock.

Who holds θ of a record's base version and repeats it holds the learner's θ, to the bit (WIRE.md, section 7). The
learner itself applies updates with ``subtract``, so there is one definition of what an update does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from protocol.buffers import Buffer
from protocol.codecs.registry import Array, Floats, Sparse, codec
from protocol.errors import PayloadFault, Reason
from protocol.messages import Applied, Updates

MOST = 3e38  # below the largest float32
BLOCK = 16_384  # float32s worked on at a time: three such arrays lie in any core's second-level cache


@dataclass(frozen=True, slots=True)
class Entry:
    """One applied update. payload: in ``codec``, immutable. factor: a float32's value."""

    codec: str
    count: int
    payload: Buffer
    factor: float


def subtract(theta: Floats, value: Array, factor: np.float32) -> None:
    """θ ← θ − factor · value, in place. theta: float32 [P]. A sparse value costs O(k): its indices are unique."""
    if isinstance(value, Sparse):
        theta[value.indices] -= factor * value.values
        return
    for start in range(0, len(theta), BLOCK):
        theta[start : start + BLOCK] -= factor * value[start : start + BLOCK]


def pack(entries: Sequence[Entry]) -> tuple[tuple[Applied, ...], bytes]:
    """The fields and the first buffer of a record."""
    applied = tuple(Applied(each.codec, each.count, len(each.payload), each.factor) for each in entries)
    return applied, b"".join(each.payload for each in entries)


def unpack(record: Updates, buffer: Buffer) -> Iterator[tuple[Array, np.float32]]:
    """Every update's value and factor, decoded and found sound, in order, one at a time.

    Raises, at the latest where it comes to what is wrong, PayloadFault: malformed_payload where the versions or the
    payloads do not add up, not_finite, and what codecs raise.
    """
    sizes = [each.size for each in record.applied]
    view = memoryview(buffer)
    if record.version - record.base_version != len(sizes) or sum(sizes) != view.nbytes:
        made = f"{len(sizes)} updates of {sum(sizes)} bytes"
        raise PayloadFault(
            Reason.MALFORMED_PAYLOAD,
            f"{made} lead from version {record.base_version} to {record.version} in {view.nbytes} bytes",
        )
    start = 0
    for each in record.applied:
        value = codec(each.codec).decode(view[start : start + each.size], record.length, each.count)
        start += each.size
        factor = _factor(each)
        _check_finite(value, factor)
        yield value, factor


def _factor(applied: Applied) -> np.float32:
    """Raises PayloadFault for what no learner multiplies by."""
    factor = np.float32(applied.factor) if abs(applied.factor) < MOST else np.float32(np.nan)
    if not (math.isfinite(factor) and float(factor) == applied.factor):
        raise PayloadFault(Reason.MALFORMED_PAYLOAD, f"factor {applied.factor} is no finite float32")
    return factor


def _check_finite(value: Array, factor: np.float32) -> None:
    numbers = value.values if isinstance(value, Sparse) else value
    largest = float(np.abs(numbers).max()) if numbers.size else 0.0
    if not largest * abs(float(factor)) < MOST:  # and not if it is NaN
        raise PayloadFault(Reason.NOT_FINITE, "an update holds NaN or infinity, or its product with its factor does")


def theta_digest(theta: Floats) -> bytes:
    """BLAKE2b-64 of θ's bytes: who holds the same bits holds the same digest. About 1 ms a megabyte."""
    return hashlib.blake2b(theta.data, digest_size=8).digest()
