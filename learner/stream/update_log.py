"""What was applied since the last record of the weight stream, ready to be the next one. Pure; on the math thread.

A record says what its batch did instead of what became of θ, so it is as thin as what actors sent. Where that is past
its worth (payloads of more than half a key) the log lets go of it, and the next record is a key.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learner.optim.applied import AppliedUpdate
from protocol import snapshot as records
from protocol.buffers import Buffer, size_of
from protocol.codecs.registry import Floats
from protocol.messages import MAX_UPDATES, Updates
from protocol.moments import Moments
from protocol.updates import Entry, theta_digest

DIGEST_VERSIONS = 1000  # a record that completes so many tells θ's digest: a pass over θ, so it must be rare


class UpdateLog:
    """Bound to one layout. version: where the last record ended, and where the next begins."""

    def __init__(self, layout_digest: bytes, length: int, version: int) -> None:
        self._layout_digest, self._length = layout_digest, length
        self.restart(version)

    def restart(self, version: int) -> None:
        """The stream stands at this version: what led there is told, or will never be."""
        self.version = version
        self._entries: list[Entry] = []
        self._left_bytes = 2 * self._length  # of payloads that a record may still take; below 0 it is given up

    def add(self, update: AppliedUpdate) -> None:
        """This was applied: as followers repeat it, θ ← θ − factor · update, the factor being a float32."""
        self._left_bytes -= size_of(update.payload)
        if self._left_bytes < 0 or len(self._entries) == MAX_UPDATES:
            self._entries, self._left_bytes = [], -1
            return
        factor = float(np.float32(update.rate * update.scale))
        self._entries.append(Entry(update.codec, update.count, update.payload, factor))

    def next_record(
        self, epoch: int, version: int, theta: Floats, moments: Moments | None
    ) -> tuple[Updates, Sequence[Buffer]] | None:
        """All that leads from the last record to ``version``, θ being ``theta``; None where it was let go.

        Begins the next. moments: as in a key.
        """
        entries, base = self._entries, self.version
        self.restart(version)
        if not entries or len(entries) != version - base:
            return None
        digest = theta_digest(theta) if version // DIGEST_VERSIONS > base // DIGEST_VERSIONS else None
        return records.updates(epoch, base, self._layout_digest, self._length, entries, moments, digest)
