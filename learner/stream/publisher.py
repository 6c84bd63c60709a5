"""When to publish what, who waits for a key frame, and what of the published is kept. Pure. ``now`` is an argument.

The weight stream is one log: each batch that was applied is a record, and those who follow it need nothing else. A key
frame is made where somebody asks for one (a late joiner, one who missed a record, one who evaluates: one key frame
answers all who wait) or where the target network changes, and a record ends there. While nobody trains there is no
record.

What is made for the stream costs the math thread time that it could have spent applying gradients, and the sockets'
thread a little for each who listens. So that cost sets the pace: from the start of one record to the start of the next
at least ``cost / share`` passes, which keeps it below ``share`` of elapsed time whatever the size of network and fleet.
Key frames that are not records have a pace of their own.
"""

from __future__ import annotations

import bisect
import math
from collections import deque

import msgspec

from learner.config import LearnerSettings
from learner.events import BatchApplied, Effect, KeyFrame, Publish, Record, Send
from learner.stream.bandwidth import BandwidthEstimate, TokenBucket
from learner.stream.best import BestCheckpoint
from learner.stream.delta import HEADER_BYTES
from protocol.buffers import size_of
from protocol.messages import Snapshot, SnapshotRequest
from protocol.session import Peer

LISTENER_S = 10e-6  # of libzmq's thread for one record to one follower, encrypted: so many more in a fleet of thousands
VERSIONS_REMEMBERED = 4096  # publication times kept to measure a gradient's age in seconds


class DutyCycle(msgspec.Struct):
    """How often something that costs time may be begun; at most one is under way.

    interval_s: >= 0, least time between starts. share: 0 < share <= 1, largest part of the time spent.
    not_before: time at which the next may start.
    """

    interval_s: float
    share: float
    not_before: float = -math.inf

    def ready(self, now: float) -> bool:
        """Whether the next may start."""
        return now >= self.not_before

    def spent(self, now: float, cost_s: float) -> None:
        """One was finished at ``now`` and took ``cost_s``."""
        self.not_before = now - cost_s + max(self.interval_s, cost_s / self.share)


class Publisher:
    """What the weight stream says next. published: what it said. version: how far it has told.

    first: the key frame of θ as this life begins. best: must know which θ an evaluating session was handed.
    """

    def __init__(
        self, settings: LearnerSettings, first: KeyFrame, best: BestCheckpoint, env_steps: int, now: float
    ) -> None:
        self._best = best
        self.published = PublishedWeights(first, settings.target_interval_steps, env_steps, now)
        self.version = first[0].version
        self._pace = DutyCycle(settings.publish_interval_s, settings.publish_share)
        self._key_frames = DutyCycle(0.0, settings.publish_share)
        key_frame_bytes = HEADER_BYTES + sum(map(size_of, first[1]))
        self._felt = BandwidthEstimate(now) if settings.downlink_kbps == "auto" else None
        self.budget = TokenBucket(
            None if settings.downlink_kbps == "auto" else settings.downlink_kbps, key_frame_bytes, now
        )
        self._waiting: dict[int, Peer] = {}  # by session; a key frame each

    def plan(self, news: bool, listening: bool, env_steps: int, now: float) -> tuple[int | None, bool]:
        """What the math thread is to make: above which version a record, and whether a key frame.

        news: θ is, or after the batch will be, newer than what was told. listening: whether anybody trains. With a key
        frame a record ends, so that whoever takes it goes on with the next one.
        """
        key = (bool(self._waiting) or (news and self.published.target_due(env_steps))) and self._key_frames.ready(now)
        record = news and (key or (listening and self._pace.ready(now) and self.budget.ready(now)))
        return self.version if record else None, key

    def answer(self, request: SnapshotRequest, peer: Peer, version: int) -> list[Effect]:
        """Answers a request where what is wanted is here; else its session waits for the next key frame.

        version: of θ as it is now.
        """
        if request.target and self.published.target is not None:
            return [Send(peer.route, *self.published.target)]
        if self.published.key_frame[0].version == version:
            return [self._hand(self.published.key_frame, peer)]
        self._waiting[peer.session] = peer
        return []

    def record_heartbeat(self, peer: Peer, round_trip_s: float, training: int, now: float) -> None:
        """A heartbeat said which version a training session holds. training: how many there are."""
        if self._felt is not None and self._felt.observe(
            peer.session, self.published.lag_s(peer.version, now), round_trip_s, training, now
        ):
            self.budget.set_rate(self._felt.kbps, now)

    def forget(self, session: int) -> None:
        """The session is over."""
        self._waiting.pop(session, None)
        if self._felt is not None:
            self._felt.forget(session)

    def publish(self, event: BatchApplied, listeners: int, env_steps: int, now: float) -> list[Effect]:
        """Publishes the record and answers those who wait with the key frame. listeners: who follow the stream."""
        listeners_s = listeners * LISTENER_S
        record, key = self.published.add(event.record, event.key_frame, env_steps, now)
        effects: list[Effect] = []
        if record is not None:
            self.version = record[0].version
            self._pace.spent(now, event.record_s + listeners_s)
            record_bytes = HEADER_BYTES + sum(map(size_of, record[1]))
            self.budget.spend(now, record_bytes, key=_is_key_frame(record))
            if self._felt is not None:
                self._felt.sent(record_bytes)
            effects.append(Publish(*record))
        if key is not None:
            self._key_frames.spent(now, event.record_s + event.key_frame_s)
            effects += [self._hand(key, peer) for peer in self._waiting.values()]
            self._waiting.clear()
        return effects

    def _hand(self, key: KeyFrame, peer: Peer) -> Effect:
        if not peer.trains:
            self._best.hold(peer.session, key)
        return Send(peer.route, *key)


class PublishedWeights:
    """The published that somebody may still ask for, and when each version was published, in time and in steps.

    key_frame: the newest. target: the target network's, always a key frame; None in a run without one.

    The first key frame of a life is the target. After each ``interval_steps`` environment steps of the run, all actors
    together, the next key frame becomes the new one: T mod I_target = 0 in the paper, as near as a key frame was made;
    once it is due one is ordered. The steps are counted from the first on a fixed grid, so that a late one delays no
    other. A resumed life begins with its restored θ as the target: the old target is not in checkpoints.
    """

    def __init__(self, first: KeyFrame, interval_steps: int | None, env_steps: int, now: float) -> None:
        self._interval_steps, self._due_steps = interval_steps, env_steps
        self._published: deque[tuple[int, float, int]] = deque(maxlen=VERSIONS_REMEMBERED)  # version, time, steps
        self.target: KeyFrame | None = None
        self.key_frame = first
        self.add(first, first, env_steps, now)

    def add(
        self, record: Record | None, key: KeyFrame | None, env_steps: int, now: float
    ) -> tuple[Record | None, KeyFrame | None]:
        """Takes what is about to be published or sent; returns it with its target and the run's env_steps filled in."""
        target = self._next_target(None if record is None else key, env_steps)
        stamped = None if key is None else _stamped(key, target, env_steps)
        if stamped is not None:
            self.key_frame = stamped
            if target == stamped[0].version:
                self.target = stamped
        if record is None:
            return None, stamped
        self._published.append((record[0].version, now, env_steps))
        message = record[0]
        if _is_key_frame(record):
            return stamped, stamped
        return (msgspec.structs.replace(message, target=target, env_steps=env_steps), record[1]), stamped

    def target_due(self, env_steps: int) -> bool:
        """Whether the next key frame is to become the target."""
        return self._interval_steps is not None and (self.target is None or env_steps >= self._due_steps)

    def _next_target(self, key: KeyFrame | None, env_steps: int) -> int | None:
        """The version that is the target from now on."""
        if self._interval_steps is None:
            return None
        if key is None or not self.target_due(env_steps):
            return self.target_version
        self._due_steps += self._interval_steps * ((env_steps - self._due_steps) // self._interval_steps + 1)
        return key[0].version

    @property
    def target_version(self) -> int | None:
        """Of the target network; None in a run without one."""
        return None if self.target is None else self.target[0].version

    def lag_s(self, base_version: int, now: float) -> float:
        """Seconds since newer weights than ``base_version`` were published; 0 while it is the newest."""
        index = bisect.bisect_right(self._published, (base_version, math.inf))
        return now - self._published[index][1] if index < len(self._published) else 0.0

    def env_steps_at(self, base_version: int) -> int:
        """Of the run when ``base_version`` was published, or the oldest that is remembered."""
        index = bisect.bisect_right(self._published, base_version, key=lambda entry: entry[0])
        return self._published[max(0, index - 1)][2]


def _is_key_frame(record: Record) -> bool:
    return isinstance(record[0], Snapshot) and record[0].record == "key"


def _stamped(key: KeyFrame, target: int | None, env_steps: int) -> KeyFrame:
    return msgspec.structs.replace(key[0], target=target, env_steps=env_steps), key[1]
