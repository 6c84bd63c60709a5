"""What the weight stream says next of θ: updates as they were applied, what a budget lets through, or a key frame.

Pure; runs on the math thread. Knows θ, the log of updates and what followers hold; no socket, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from learner.events import KeyFrame, Record
from learner.optim.applied import AppliedUpdate
from learner.optim.parameters import Parameters
from learner.stream.delta import FollowerReplica
from learner.stream.update_log import UpdateLog
from protocol import snapshot as records
from protocol.codecs.registry import Floats


class StreamWriter:
    """Bound to one θ, from its present version on. budgeted: records may have to be thinner than updates are."""

    def __init__(self, parameters: Parameters, *, budgeted: bool) -> None:
        layout, version = parameters.layout, parameters.version
        self._parameters, self._budgeted = parameters, budgeted
        self._log = UpdateLog(layout.digest, layout.length, version) if parameters.adds else None
        self._replica: FollowerReplica | None = None  # of a stream with a budget, from the first key frame on

    def add(self, applied: Sequence[AppliedUpdate]) -> None:
        """These updates led to θ as it is now, and belong into the next record."""
        if self._log is not None:
            for each in applied:
                self._log.add(each)

    def key_frame(self, epoch: int) -> KeyFrame:
        """θ as it is now, or where followers of the stream hold less, what they hold; immutable copies."""
        parameters = self._parameters
        version, moments = parameters.version, parameters.moments
        record, buffers = records.key_frame(epoch, version, parameters.layout.digest, self.published, moments)
        parameters.remember(version, buffers[0])
        if self._budgeted and self._replica is None:
            self._replica = FollowerReplica(record, buffers)
        return record, buffers

    def record(self, epoch: int, allowed_bytes: float = math.inf, *, may_key_frame: bool = True) -> Record:
        """The updates since the last record; where those are not at hand a key frame.

        allowed_bytes: with a budget, where the updates are more, as much as fits of the difference to what followers
        hold. may_key_frame: or a key frame, which makes what they hold exact.
        """
        updates, replica = self._updates(epoch), self._replica
        if replica is None:
            return updates if updates is not None else self.key_frame(epoch)
        if updates is not None and replica.fits(updates, allowed_bytes):
            record = replica.apply(updates)
        elif may_key_frame:
            replica.exact = True
            return replica.apply(self.key_frame(epoch))
        else:
            parameters = self._parameters
            record = replica.delta(parameters.version, parameters.theta, parameters.moments, allowed_bytes)
        self._parameters.remember(self._parameters.version, replica.theta.data)
        return record

    def _updates(self, epoch: int) -> Record | None:
        """The updates since the last record; None where not all are at hand, or followers hold less than θ."""
        parameters = self._parameters
        if self._log is None:
            return None
        if self._replica is not None and not self._replica.exact:
            self._log.restart(parameters.version)
            return None
        return self._log.next_record(epoch, parameters.version, parameters.theta, parameters.moments)

    @property
    def published(self) -> Floats:
        """float32 [P]: what who has followed the stream to its end holds; θ then, or less where it has a budget."""
        return self._parameters.theta if self._replica is None or self._replica.exact else self._replica.theta
