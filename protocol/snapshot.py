"""Records of the weight stream, and what a subscriber makes of them. Pure. Knows θ and versions; no sockets, no clock.

A key carries θ whole; a delta carries what to add to the θ of ``base_version`` (WIRE.md, section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from protocol.codecs import Encoded, Floats, Sparse, codec
from protocol.errors import PayloadFault, Reason
from protocol.messages import Buffer, Snapshot
from protocol.moments import Moments

KEY_CODEC = "f32"  # a key sets everybody's bits, so it must lose none
Outcome = Literal["taken", "old", "gap"]
Record = tuple[Snapshot, list[Buffer]]


def key(epoch: int, version: int, layout_digest: bytes, theta: Floats, observations: Moments | None = None) -> Record:
    """θ whole. theta: float32 [P]; it is copied."""
    encoded = codec(KEY_CODEC).encode(theta)
    rows, buffers = _buffers(encoded, observations)
    return (
        Snapshot(epoch, version, "key", 0, layout_digest, KEY_CODEC, len(theta), encoded.count, rows),
        buffers,
    )


def delta(
    held: Snapshot, version: int, codec_name: str, encoded: Encoded, observations: Moments | None = None
) -> Record:
    """What leads from the record ``held`` to ``version``: each decoded coordinate is added in float32."""
    rows, buffers = _buffers(encoded, observations)
    return (
        Snapshot(held.epoch, version, "delta", held.version, held.layout, codec_name, held.length, encoded.count, rows),
        buffers,
    )


def _buffers(encoded: Encoded, observations: Moments | None) -> tuple[int, list[Buffer]]:
    if observations is None or not observations.count:
        return 0, [encoded.buffer]
    return observations.count, [encoded.buffer, observations.to_buffer()]


class Reconstruction:
    """What one subscriber holds of the weight stream.

    theta: float32 [P], a new read-only array at every record taken, so that readers may keep the one they have; zeros
    until ``held``. epoch, version: of theta. moments: of what actors normalise, where the stream carries any.
    target: version of the target network that the newest record names, None where the run has none. env_steps: of the
    run when that record was published.
    """

    def __init__(self, layout_digest: bytes, length: int) -> None:
        self.held = False
        self.epoch = 0
        self.version = 0
        self.theta: Floats = np.zeros(length, np.float32)
        self.theta.setflags(write=False)
        self.moments: Moments | None = None
        self.target: int | None = None
        self.env_steps = 0
        self._layout_digest, self._length = layout_digest, length

    def apply(self, record: Snapshot, buffers: Sequence[Buffer]) -> Outcome:
        """Take the record: "taken"; "old" for what is not newer than what is held; "gap": ask for a key.

        Raises PayloadFault: wrong_layout, wrong_length, not_finite, or what its codec or moments raise. A record
        that is refused changes nothing.
        """
        self._check(record)
        if self.held and (record.epoch, record.version) <= (self.epoch, self.version):
            return "old"
        if record.record == "delta" and not self._continues(record):
            return "gap"
        theta = self._decoded(record, buffers[0])
        if not np.isfinite(theta).all():
            raise PayloadFault(Reason.NOT_FINITE, "weights hold NaN or infinity")
        if record.observations:
            size = self.moments.size if self.moments else None
            self.moments = Moments.from_buffer(buffers[1], record.observations, size)
        theta.setflags(write=False)
        self.theta, self.epoch, self.version, self.held = theta, record.epoch, record.version, True
        self.target, self.env_steps = record.target, record.env_steps
        return "taken"

    def follow(self, other: Reconstruction) -> None:
        """Hold what ``other`` holds. Arrays are shared: nobody writes to them."""
        self.held, self.epoch, self.version, self.theta = other.held, other.epoch, other.version, other.theta
        self.moments, self.target, self.env_steps = other.moments, other.target, other.env_steps

    def _check(self, record: Snapshot) -> None:
        if record.layout != self._layout_digest:
            detail = f"layout {record.layout.hex()}, this side holds {self._layout_digest.hex()}"
            raise PayloadFault(Reason.WRONG_LAYOUT, detail)
        if record.length != self._length:
            raise PayloadFault(Reason.WRONG_LENGTH, f"{record.length} parameters, this side holds {self._length}")

    def _continues(self, record: Snapshot) -> bool:
        return self.held and record.epoch == self.epoch and record.base_version == self.version

    def _decoded(self, record: Snapshot, buffer: Buffer) -> Floats:
        value = codec(record.codec).decode(buffer, record.length, record.count)
        if record.record == "key":
            return value.dense() if isinstance(value, Sparse) else value
        theta = self.theta.copy()
        with np.errstate(over="ignore", invalid="ignore"):  # apply looks at what came of it
            if isinstance(value, Sparse):
                theta[value.indices] += value.values
            else:
                theta += value
        return theta
