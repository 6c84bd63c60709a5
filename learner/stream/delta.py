"""What those who follow a stream of few bytes hold, and what brings it nearer to θ. Pure; runs on the math thread.

Where all that was applied does not fit into ``downlink_kbps``, a record carries what fits of the difference between θ
and what followers hold; the rest stays in that difference, which is the publisher's error feedback. What they hold is
held here by the same code, so it is the same to the bit. Once the part of the budget that deltas leave alone pays a
key, all is θ again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from learner.events import Record
from learner.stream.update_log import DIGEST_VERSIONS
from protocol import snapshot as records
from protocol.buffers import Buffer, size_of
from protocol.codecs.budget import THIN, fit, largest
from protocol.codecs.registry import codec
from protocol.codecs.vectors import Floats, Sparse
from protocol.messages import Snapshot, Updates
from protocol.moments import MOMENT_BYTES, Moments
from protocol.snapshot import Reconstruction
from protocol.updates import theta_digest

HEADER_BYTES = 150  # of a record, ZeroMQ's, TCP's and IP's included
MOMENTS_SHARE = 8  # a delta takes moments along where so many times their bytes went since they last did


class FollowerReplica:
    """Followers' θ, which begins as ``first`` says. exact: it is the learner's, at the same version.

    first: a key.
    """

    def __init__(self, first: Snapshot, buffers: Sequence[Buffer]) -> None:
        self.exact = True
        self._held = Reconstruction(first.layout, first.length)
        self._held.apply(first, buffers)
        self._newest: Snapshot | Updates = first
        self._difference = np.empty(first.length, np.float32)
        self._magnitudes = np.empty(first.length, np.float32)
        self._since_moments = 0.0  # bytes of deltas

    @property
    def theta(self) -> Floats:
        """float32 [P], read-only and never written again."""
        return self._held.theta

    def fits(self, told: Record, allowed_bytes: float) -> bool:
        """Whether the updates since the newest record may be told as they were applied."""
        return sum(map(size_of, told[1])) + HEADER_BYTES <= allowed_bytes

    def apply(self, record: Record, *, exact: bool = True) -> Record:
        """The record is about to be published: holds what it leads to. exact: that is θ."""
        message, buffers = record
        if self._held.apply(message, buffers) != "taken":
            raise AssertionError(f"our own record {message.version} does not continue {self._held.version}")
        self.exact, self._newest = exact, message
        return record

    def delta(self, version: int, theta: Floats, moments: Moments | None, allowed_bytes: float) -> Record:
        """What fits into so many bytes of the way to ``theta``, float32 [P], of ``version``; it is followed."""
        before = self._newest
        difference = self._held.behind(theta, self._difference)
        due, moments_bytes = self._moments_due(moments, allowed_bytes)
        payload_bytes = allowed_bytes - HEADER_BYTES - moments_bytes
        chosen = fit(min(payload_bytes, 4.0 * len(theta) - 1.0), len(theta))
        value: Floats | Sparse = difference
        if chosen.codec == THIN:
            indices = largest(difference, round(chosen.density * len(theta)), self._magnitudes)
            value = Sparse(len(theta), indices, difference[indices])
        encoded = codec(chosen.codec).encode(value)
        made = records.delta(before, version, chosen.codec, encoded, due)
        self.apply(made, exact=False)
        if version // DIGEST_VERSIONS == before.version // DIGEST_VERSIONS:
            return made
        return msgspec.structs.replace(made[0], digest=theta_digest(self.theta)), made[1]

    def _moments_due(self, moments: Moments | None, allowed_bytes: float) -> tuple[Moments | None, int]:
        """The moments, where it is their turn, and their bytes: of many numbers they would be most of a thin record."""
        self._since_moments += max(0.0, allowed_bytes)
        size = 0 if moments is None else MOMENT_BYTES * moments.size
        if moments is None or self._since_moments < MOMENTS_SHARE * size:
            return None, 0
        self._since_moments = 0.0
        return moments, size
