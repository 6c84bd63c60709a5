"""What an actor holds of θ and of the target network, and what it must ask for. Pure; ``now`` is an argument.

A training actor follows the weight stream and asks for what it missed. One that evaluates takes one snapshot at a time:
it wants the next when it has played with the last.
"""

from __future__ import annotations

from collections.abc import Sequence

from actor.events import Weights
from protocol.messages import Buffer, Snapshot, Welcome
from protocol.snapshot import Outcome, Reconstruction


class Holding:
    """The weights of one session.

    newest: what the learner published last, as far as was heard. target: the target network's; the old one serves until
    the one that ``newest`` names is here. wanting: an evaluating actor has nothing to play with next.
    """

    def __init__(self, welcome: Welcome, trains: bool) -> None:
        digest, length = welcome.layout.digest, welcome.layout.length
        self.newest = Reconstruction(digest, length)
        self.target = Reconstruction(digest, length)
        self.wanting = not trains
        self._trains, self._patience_s = trains, welcome.heartbeat_s
        self._asked_at: float | None = None  # when a snapshot was last asked for and has not come
        self._target_asked_at: float | None = None  # the same for the target network's

    def take(self, record: Snapshot, buffers: Sequence[Buffer]) -> Outcome:
        """As Reconstruction.apply, and raises what it does; "taken" also for a new target that is old as weights."""
        outcome = self.newest.apply(record, buffers)
        if outcome == "taken":
            self._asked_at, self.wanting = None, False
            if record.target == record.version:
                self.target.follow(self.newest)
        elif record.target == record.version and record.record == "key":
            return self.target.apply(record, buffers)
        return outcome

    @property
    def usable(self) -> bool:
        """Whether there are weights to work with, and a target network where a worker that trains needs one."""
        return self.newest.held and (not self._trains or self.newest.target is None or self.target.held)

    def weights(self) -> Weights:
        """What the worker gets. Arrays are read-only and shared."""
        held, target = self.newest, self.target
        known = target.held and held.target is not None
        return Weights(
            epoch=held.epoch,
            version=held.version,
            theta=held.theta,
            moments=held.moments,
            env_steps=held.env_steps,
            target=target.theta if known else None,
            target_version=target.version if known else None,
        )

    def behind(self, version: int) -> bool:
        """Whether a learner that has published ``version`` has something that the stream should have brought."""
        return self._trains and (not self.newest.held or self.newest.version < version)

    def lacks_target(self) -> bool:
        """Whether the newest weights name a target network that is not here."""
        named = self.newest.target if self._trains else None
        return named is not None and not (self.target.held and self.target.version >= named)

    def lacks_weights(self) -> bool:
        """Whether there is nothing to work with, or, evaluating, nothing to play with next."""
        return self.wanting or not self.newest.held

    # asking: once per heartbeat

    def ask(self, now: float) -> bool:
        """Whether to ask for the newest weights now; notes that it is done."""
        if self._asked_at is not None and now - self._asked_at < self._patience_s:
            return False
        self._asked_at = now
        return True

    def ask_target(self, now: float) -> bool:
        """Whether to ask for the target network's now; notes that it is done."""
        if not self.lacks_target():
            self._target_asked_at = None
            return False
        if self._target_asked_at is not None and now - self._target_asked_at < self._patience_s:
            return False
        self._target_asked_at = now
        return True

    def want_next(self) -> None:
        """An evaluation is done; what was asked for before counts for nothing."""
        self.wanting, self._asked_at = True, None

    def forget_asks(self) -> None:
        """The link is another: what was asked for over the old one may never come."""
        self._asked_at = self._target_asked_at = None
