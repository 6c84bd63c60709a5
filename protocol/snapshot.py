"""Records of the weight stream, and what a subscriber makes of them. Pure. Knows θ and versions; no sockets, no clock.

A key frame carries θ whole; a delta carries what to add to the θ of ``base_version``; updates are what the learner
applied since then (WIRE.md, section 7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np

from protocol.buffers import Buffer, size_of
from protocol.codecs.registry import Encoded, Floats, Sparse, codec
from protocol.codecs.vectors import finite
from protocol.errors import PayloadFault, Reason
from protocol.messages import Snapshot, Updates
from protocol.moments import Moments
from protocol.updates import Entry, pack, subtract, theta_digest, unpack

KEY_FRAME_CODEC = "f32"  # a key frame sets everybody's bits, so it must lose none
WAITING = 8192  # records kept while a key frame is on its way, of at most two key frames' bytes
Outcome = Literal["taken", "old", "gap", "diverged"]
Record = tuple[Snapshot, list[Buffer]]


def key_frame(
    epoch: int, version: int, layout_digest: bytes, theta: Floats, observations: Moments | None = None
) -> Record:
    """θ whole. theta: float32 [P]; it is copied."""
    encoded = codec(KEY_FRAME_CODEC).encode(theta)
    rows, buffers = _buffers(encoded.buffer, observations)
    return (
        Snapshot(epoch, version, "key", 0, layout_digest, KEY_FRAME_CODEC, len(theta), encoded.count, rows),
        buffers,
    )


def delta(
    held: Snapshot | Updates, version: int, codec_name: str, encoded: Encoded, observations: Moments | None = None
) -> Record:
    """What leads from what ``held`` led to on to ``version``: each decoded coordinate is added in float32."""
    rows, buffers = _buffers(encoded.buffer, observations)
    return (
        Snapshot(held.epoch, version, "delta", held.version, held.layout, codec_name, held.length, encoded.count, rows),
        buffers,
    )


def updates(
    epoch: int,
    base_version: int,
    layout_digest: bytes,
    length: int,
    entries: Sequence[Entry],
    observations: Moments | None = None,
    digest: bytes | None = None,
) -> tuple[Updates, list[Buffer]]:
    """What was applied to the θ of ``base_version``, in order. digest: of θ afterwards, where it is told."""
    applied, payloads = pack(entries)
    rows, buffers = _buffers(payloads, observations)
    version = base_version + len(entries)
    record = Updates(epoch, version, base_version, layout_digest, length, applied, rows, digest=digest)
    return record, buffers


def _buffers(payload: bytes, observations: Moments | None) -> tuple[int, list[Buffer]]:
    if observations is None or not observations.count:
        return 0, [payload]
    return observations.count, [payload, observations.to_buffer()]


class Reconstruction:
    """What one subscriber holds of the weight stream.

    epoch, version: of theta; ``held`` says whether there are any. moments: of what actors normalise, where the stream
    carries any. target: version of the target network that the newest record names, None where the run has none.
    env_steps: of the run when that record was published.

    Records that do not continue what is held wait for the key frame that was asked for, the newest of them: it is made
    by a learner that goes on meanwhile.
    """

    def __init__(self, layout_digest: bytes, length: int) -> None:
        self.held = False
        self.epoch = 0
        self.version = 0
        self.moments: Moments | None = None
        self.target: int | None = None
        self.env_steps = 0
        self._theta: Floats = np.zeros(length, np.float32)
        self._ours = True  # nobody else holds _theta
        self._waiting: deque[tuple[Snapshot | Updates, Sequence[Buffer]]] = deque()
        self._waiting_bytes = 0
        self._layout_digest, self._length = layout_digest, length

    @property
    def theta(self) -> Floats:
        """float32 [P], read-only and never written again: readers may keep it. Zeros until ``held``."""
        self._theta.setflags(write=False)
        self._ours = False
        return self._theta

    def behind(self, theta: Floats, out: Floats) -> Floats:
        """out ← theta − what is held. Both float32 [P]."""
        return np.subtract(theta, self._theta, out=out)

    def apply(self, record: Snapshot | Updates, buffers: Sequence[Buffer]) -> Outcome:
        """Take the record: "taken"; "old" for what is not newer than what is held; "gap": ask for a key frame;
        "diverged": what is held is not what the learner holds, so nothing is held any more: ask for a key frame.

        Raises PayloadFault: wrong_layout, wrong_length, not_finite, or what codecs, updates or moments raise. A record
        that is refused changes nothing.
        """
        self._check(record)
        if self.held and (record.epoch, record.version) <= (self.epoch, self.version):
            return "old"
        if isinstance(record, Updates) or record.record == "delta":
            return self._follow(record, buffers)
        theta, moments = self._whole(record, buffers[0]), self._moments(record, buffers)
        self._theta, self._ours, self.held = theta, theta.flags.writeable, True
        self._note(record, moments)
        return self._catch_up()

    def _follow(self, record: Snapshot | Updates, buffers: Sequence[Buffer]) -> Outcome:
        if not self._continues(record):
            self._wait(record, buffers)
            return "gap"
        moments = self._moments(record, buffers)
        follow = self._repeated if isinstance(record, Updates) else self._added
        self._theta = follow(record, buffers[0])  # type: ignore[arg-type]
        self._ours = True
        self._note(record, moments)
        if record.digest is not None and record.digest != theta_digest(self._theta):
            self.held = False
            return "diverged"
        return "taken"

    def _repeated(self, record: Updates, buffer: Buffer) -> Floats:
        """θ with the updates, in place where nobody else holds it and they are thin."""
        steps = unpack(record, buffer)
        thin = sum(each.count for each in record.applied) <= self._length
        if thin:
            steps = iter(list(steps))  # found sound before θ is touched
        theta = self._theta if thin and self._ours else self._theta.copy()
        for value, factor in steps:  # one at a time where they are thick: together they may be hundreds of θ
            subtract(theta, value, factor)
        return theta

    def _added(self, record: Snapshot, buffer: Buffer) -> Floats:
        """θ and what a delta adds, in a new array."""
        value = codec(record.codec).decode(buffer, record.length, record.count)
        theta = self._theta.copy()
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            if isinstance(value, Sparse):
                theta[value.indices] += value.values
            else:
                theta += value
        return _sound(theta)

    def _wait(self, record: Snapshot | Updates, buffers: Sequence[Buffer]) -> None:
        self._waiting.append((record, buffers))
        self._waiting_bytes += sum(map(size_of, buffers))
        while len(self._waiting) > WAITING or self._waiting_bytes > 8 * self._length:
            self._waiting_bytes -= sum(map(size_of, self._waiting.popleft()[1]))

    def _catch_up(self) -> Outcome:
        """Repeats what waited and continues the key frame; the rest of it is too old or lacks something before it."""
        waiting = list(self._waiting)
        outcome: Outcome = "taken"
        self._waiting.clear()
        self._waiting_bytes = 0
        for record, buffers in waiting:
            if (record.epoch, record.version) > (self.epoch, self.version):
                try:
                    outcome = self._follow(record, buffers)
                except PayloadFault:
                    outcome = "gap"  # the key frame is taken all the same
            if outcome == "diverged":
                break
        return outcome

    def _note(self, record: Snapshot | Updates, moments: Moments | None) -> None:
        self.epoch, self.version, self.moments = record.epoch, record.version, moments
        self.target, self.env_steps = record.target, record.env_steps

    def _moments(self, record: Snapshot | Updates, buffers: Sequence[Buffer]) -> Moments | None:
        if not record.observations:
            return self.moments
        return Moments.from_buffer(buffers[1], record.observations, self.moments.size if self.moments else None)

    def follow(self, other: Reconstruction) -> None:
        """Hold what ``other`` holds. Arrays are shared: nobody writes to them."""
        self.held, self.epoch, self.version = other.held, other.epoch, other.version
        self._theta, self._ours = other.theta, False
        self.moments, self.target, self.env_steps = other.moments, other.target, other.env_steps

    def _check(self, record: Snapshot | Updates) -> None:
        if record.layout != self._layout_digest:
            detail = f"layout {record.layout.hex()}, this side holds {self._layout_digest.hex()}"
            raise PayloadFault(Reason.WRONG_LAYOUT, detail)
        if record.length != self._length:
            raise PayloadFault(Reason.WRONG_LENGTH, f"{record.length} parameters, this side holds {self._length}")

    def _continues(self, record: Snapshot | Updates) -> bool:
        return self.held and record.epoch == self.epoch and record.base_version == self.version

    def _whole(self, record: Snapshot, buffer: Buffer) -> Floats:
        if record.codec == KEY_FRAME_CODEC:
            codec(KEY_FRAME_CODEC).check_size(size_of(buffer), record.length, record.count)
            view: Floats = np.frombuffer(buffer, "<f4")  # keeps what arrived; a copy would cost as much as its receipt
            view.setflags(write=False)
            return _sound(view if view.flags.aligned else view.copy())
        value = codec(record.codec).decode(buffer, record.length, record.count)
        return _sound(value.dense() if isinstance(value, Sparse) else value)


def _sound(theta: Floats) -> Floats:
    """Raises PayloadFault where it holds NaN or infinity."""
    if not finite(theta):
        raise PayloadFault(Reason.NOT_FINITE, "weights hold NaN or infinity")
    return theta
