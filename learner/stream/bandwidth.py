"""How many bytes the weight stream may take to each actor: a budget, or as many as are felt to be borne. Pure.

``now`` is an argument. Nobody answers records, but heartbeats say which version an actor holds: one that has not taken,
for a second and its round trip, what was published since is behind a link that is full. Where most are, time after
time, the stream gets half of what it took; up again it goes slowly, and every step down doubles the wait for that.
"""

from __future__ import annotations

import math

# in a record; what may be left over; the part that goes to a key, which may take so long
LEAST_BYTES, BURST_S, SAVED, KEY_S = 2_000, 1.0, 0.25, 5.0

LATE_S = 1.0  # and two round trips: later than this is no matter of the way
LATE_BEATS = 3  # heartbeats in a row: one stall is no thin link
SETTLE_S = 5.0  # after a change, for what is under way
PATIENCE_S, MOST_PATIENCE_S = 10.0, 600.0  # without lateness, before there is more
UP, DOWN, LEAST_KBPS = 1.25, 0.5, 8.0


class TokenBucket:
    """Bytes that the stream may take, where it has a budget: so many a second, and what was not taken of the last.

    kbps: kilobits a second; None for no budget. A record is LEAST_BYTES at least, lest most of it be header. SAVED of
    what comes in goes to a key of ``key_bytes``, where one may be had in KEY_S of the budget.
    """

    def __init__(self, kbps: float | None, key_bytes: int, now: float) -> None:
        self._whole_key_bytes = key_bytes
        self._left, self._saved, self._counted_at = math.inf, 0.0, now
        self._bytes_per_s: float | None = None
        self.set_rate(kbps, now)

    def set_rate(self, kbps: float | None, now: float) -> None:
        """From now on it is so much. What is left over of more is let go."""
        if self._bytes_per_s is not None:
            self._left, self._saved = self._count(now)
        self._bytes_per_s = None if kbps is None else 125.0 * kbps
        self._most_bytes = BURST_S * (self._bytes_per_s or 0.0)
        payable = self._bytes_per_s is not None and self._whole_key_bytes <= KEY_S * self._bytes_per_s
        self._key_bytes = float(self._whole_key_bytes) if payable else math.inf
        self._left, self._counted_at = min(self._left, self._most_bytes), now

    def available(self, now: float) -> float:
        """Of a record made now. Below 0 where the last took more than it should."""
        return math.inf if self._bytes_per_s is None else self._count(now)[0]

    def affords_key_frame(self, now: float) -> bool:
        """Whether what is saved pays a key."""
        return self._bytes_per_s is None or self._count(now)[1] >= self._key_bytes

    def ready(self, now: float) -> bool:
        """Whether a record made now would be more than a header."""
        return self.available(now) >= min(LEAST_BYTES, self._most_bytes)

    def spend(self, now: float, record_bytes: int, *, key: bool) -> None:
        """A record was published."""
        if self._bytes_per_s is None:
            return
        self._left, self._saved = self._count(now)
        self._counted_at = now
        if key and self._saved >= self._key_bytes:
            self._saved = 0.0
        else:
            self._left -= record_bytes

    def _count(self, now: float) -> tuple[float, float]:
        """What is left for records, and what is saved for a key."""
        income = (self._bytes_per_s or 0.0) * max(0.0, now - self._counted_at)
        saving = 0.0 if math.isinf(self._key_bytes) else min(SAVED * income, self._key_bytes - self._saved)
        return min(self._most_bytes, self._left + income - saving), self._saved + saving


class BandwidthEstimate:
    """What followers bear. kbps: kilobits a second; None as long as most were never late."""

    def __init__(self, now: float) -> None:
        self.kbps: float | None = None
        self._late: dict[int, int] = {}  # heartbeats in a row, by session
        self._shortest_s: dict[int, float] = {}  # round trips, by session
        self._changed_at, self._patience_s = now, PATIENCE_S
        self._sent_bytes, self._sent_since = 0, now
        self._taken_kbps = math.inf  # in the last window of SETTLE_S or more

    def sent(self, record_bytes: int) -> None:
        """A record was published."""
        self._sent_bytes += record_bytes

    def observe(self, session: int, behind_s: float, round_trip_s: float, training: int, now: float) -> bool:
        """A heartbeat of one of ``training`` sessions. behind_s: since newer weights than it holds were published.

        Whether ``kbps`` changed.
        """
        shortest_s = self._shortest_s.get(session, math.inf)  # what a full link adds to it is no excuse
        if 0.0 < round_trip_s < shortest_s:
            shortest_s = self._shortest_s[session] = round_trip_s
        late = behind_s > LATE_S + 2.0 * shortest_s
        self._late[session] = self._late.get(session, 0) + 1 if late else 0
        if now - self._sent_since >= SETTLE_S:
            self._taken_kbps = self._sent_bytes / 125.0 / (now - self._sent_since)
            self._sent_bytes, self._sent_since = 0, now
        if now - self._changed_at < SETTLE_S:
            return False
        if 2 * sum(beats >= LATE_BEATS for beats in self._late.values()) > training:
            self._patience_s = min(MOST_PATIENCE_S, 2.0 * self._patience_s)
            return self._go(max(LEAST_KBPS, DOWN * min(self._taken_kbps, self.kbps or math.inf)), now)
        if self.kbps is not None and now - self._changed_at >= self._patience_s and not any(self._late.values()):
            return self._go(UP * self.kbps, now)
        return False

    def forget(self, session: int) -> None:
        """The session is over."""
        self._late.pop(session, None)
        self._shortest_s.pop(session, None)

    def _go(self, kbps: float, now: float) -> bool:
        self.kbps, self._changed_at = kbps, now
        self._late.clear()
        return True
