"""What an actor holds of θ and of the target network, and what it must ask for. Pure; ``now`` is an argument.

A training actor follows the weight stream and asks for what it missed. One that evaluates takes one snapshot at a time:
it wants the next when it has played with the last.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace

from actor.events import Effect, FaultArrived, MessageArrived, Send, Weights
from protocol.buffers import Buffer
from protocol.messages import Snapshot, SnapshotRequest, Updates, Welcome
from protocol.snapshot import Outcome, Reconstruction

MOST_PATIENCE = 64  # heartbeats between two requests for what does not come
# Own gradients that the weights must lack before the actor pauses. In a large fleet weights always lack many updates of
# other actors, which are on their way; that alone is no sign of a stream that stands still.
LEAST_UNREFLECTED = 4
MOST_CUTS = 6  # after so many the learner may be silent for 64 times as long


class WeightCache:
    """The weights of one session.

    newest: what the learner published last, as far as it arrived. target: the target network's; the old one serves
    until the one that ``newest`` names is here.
    """

    def __init__(self, welcome: Welcome, trains: bool) -> None:
        digest, length = welcome.layout.digest, welcome.layout.length
        self.newest = Reconstruction(digest, length)
        self.target = Reconstruction(digest, length)
        self._session = welcome.session
        self._needs_next = not trains  # an evaluating actor has nothing to play with next
        self._trains, self._heartbeat_s, self._silence_s = trains, welcome.heartbeat_s, welcome.silence_s
        self._cuts = 0  # how often the link was given up while a key may have been on its way
        self._patience_s = self._least_s  # doubled with each request that is not answered: a key may travel for long
        self._requested_at: float | None = None  # when a snapshot was last requested and has not come
        self._target_requested_at: float | None = None  # the same for the target network's
        self._most_behind = welcome.credit_lag
        self._applied: list[int] = []  # versions that gradients of ours made, in order; ``newest`` may have passed some
        self._published = 0  # the version that the learner had published when it last said so
        self._given: object = None  # what the worker was last given

    def apply_record(self, record: Snapshot | Updates, buffers: Sequence[Buffer]) -> Outcome:
        """As Reconstruction.apply, and raises what it does; "taken" also for a new target that is old as weights."""
        before = self._newest_id
        outcome = self.newest.apply(record, buffers)
        if outcome == "diverged":
            self._given, self.target.held = None, False  # the target was copied from the same bits
        answered = isinstance(record, Snapshot) and record.record == "key" and outcome != "gap"
        if answered:
            self._patience_s = self._least_s  # what was asked for came, newer or not
        if self._newest_id != before:
            self._needs_next = False
            if answered:
                self._requested_at = None
            if self.newest.version == self.newest.target:
                self.target.follow(self.newest)
        elif isinstance(record, Snapshot) and record.target == record.version and record.record == "key":
            return self.target.apply(record, buffers)
        return outcome

    @property
    def _newest_id(self) -> tuple[bool, int, int]:
        return self.newest.held, self.newest.epoch, self.newest.version

    def next_for_worker(self) -> Weights | None:
        """What the worker gets, where it is usable and not what it was given last. Arrays are read-only and shared."""
        given = (self._newest_id, self.target.version if self.target.held else None)
        if not self.usable or given == self._given:
            return None
        self._given = given
        return self._weights()

    @property
    def usable(self) -> bool:
        """Whether there are weights to work with, and a target network where a worker that trains needs one."""
        return self.newest.held and (not self._trains or self.newest.target is None or self.target.held)

    def _weights(self) -> Weights:
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

    def record_applied(self, version: int) -> None:
        """A gradient of ours made this version."""
        if self._trains and version > self.newest.version:
            del self._applied[: self._shown]
            bisect.insort(self._applied, version)

    @property
    def _shown(self) -> int:
        return bisect.bisect_right(self._applied, self.newest.version)

    @property
    def unreflected(self) -> int:
        """How many of our own gradients were applied that ``newest`` does not show."""
        return len(self._applied) - self._shown

    @property
    def too_far_behind(self) -> bool:
        """Whether gradients should stop, since ``newest`` lacks what those before them did (WIRE.md, section 6)."""
        if self.unreflected < LEAST_UNREFLECTED:
            return False
        return self._applied[-1] - self.newest.version >= self._most_behind

    def lacks_published(self, version: int) -> bool:
        """Whether the stream should have brought more: what was published before the last heartbeat is not here.

        version: what it has published now, which may still be under way.
        """
        due, self._published = self._published, version
        return self._trains and (not self.newest.held or self.newest.version < due)

    def lacks_target(self) -> bool:
        """Whether the newest weights name a target network that is not here."""
        named = self.newest.target if self._trains else None
        return named is not None and not (self.target.held and self.target.version >= named)

    def lacks_weights(self) -> bool:
        """Whether there is nothing to work with, or, evaluating, nothing to play with next."""
        return self._needs_next or not self.newest.held

    # requests: once per heartbeat at first

    def request(self, now: float) -> list[Effect]:
        """Requests the newest weights, unless that was just done."""
        if self._requested_at is not None and now - self._requested_at < self._patience_s:
            return []
        if self._requested_at is not None:
            self._patience_s = max(self._least_s, min(2.0 * self._patience_s, MOST_PATIENCE * self._heartbeat_s))
        self._requested_at = now
        return [Send(SnapshotRequest(self._session))]

    def request_target(self, now: float) -> list[Effect]:
        """Requests the target network that the newest weights name, if it is not here and that was not just done."""
        if not self.lacks_target():
            self._target_requested_at = None
            return []
        if self._target_requested_at is not None and now - self._target_requested_at < self._heartbeat_s:
            return []
        self._target_requested_at = now
        return [Send(SnapshotRequest(self._session, True))]

    def request_what_lacks(self, now: float) -> list[Effect]:
        """Requests whatever of the two is not here."""
        return [*(self.request(now) if self.lacks_weights() else []), *self.request_target(now)]

    def require_next(self) -> None:
        """An evaluation is done; what was requested before counts for nothing."""
        self._needs_next, self._requested_at = True, None

    @property
    def silence_s(self) -> float:
        """How long the learner may be silent.

        A message on its way counts for nothing before all of it is here, and what follows waits behind it. So where a
        key takes longer than a peer may be silent the link would be given up each time: the next one is waited for
        twice as long.
        """
        return self._silence_s * (1 << self._cuts)

    @property
    def _least_s(self) -> float:
        """Between two asks: where keys are known to travel for long, a second one would only be in the way."""
        return self.silence_s if self._cuts else self._heartbeat_s

    def forget_requests(self, silent: bool) -> None:
        """The link is another: what was requested over the old one may never come. silent: why that was given up."""
        waiting = self._requested_at is not None or self._target_requested_at is not None
        self._cuts = min(MOST_CUTS, self._cuts + (silent and waiting))
        self._requested_at = self._target_requested_at = None
        self._patience_s = self._least_s

    def validate(self, most: int) -> None:
        """Asserts what holds between any two events. most: gradients that may be under way at once."""
        assert self._applied == sorted(self._applied), f"versions {self._applied} are out of order"
        bound = max(LEAST_UNREFLECTED, self._most_behind) + most
        assert self.unreflected < bound, f"{self.unreflected} gradients that its weights do not show"


def latest(arrived: Sequence[MessageArrived | FaultArrived]) -> list[MessageArrived | FaultArrived]:
    """What still matters of what the stream brought while nobody read it: faults, and the records from the last key on.

    Each record but the last is marked as followed: what it leads to is passed by.
    """
    kept: list[MessageArrived | FaultArrived] = []
    for event in arrived:
        if isinstance(event, MessageArrived) and isinstance(event.message, Snapshot) and event.message.record == "key":
            kept = [each for each in kept if isinstance(each, FaultArrived)]
        kept.append(event)
    last = max((n for n, event in enumerate(kept) if isinstance(event, MessageArrived)), default=0)
    return [_followed(event) if n < last else event for n, event in enumerate(kept)]


def _followed(event: MessageArrived | FaultArrived) -> MessageArrived | FaultArrived:
    return replace(event, followed=True) if isinstance(event, MessageArrived) else event
