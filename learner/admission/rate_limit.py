"""How much one sender may send. Pure. ``now`` is an argument. Knows sizes and times; no message, no session.

Two token buckets for each sender: gradients and bytes. Each is one number, the time at which it would be full again
(the generic cell rate algorithm, ITU-T I.371): what is sent moves it on by size / rate, and once it lies BURST_S ahead
nothing more is taken.

A bucket that is full says nothing that a new one would not, so it is forgotten then and not before: a key that leaves
and comes back finds what it left, and memory is bounded by who sent lately.
"""

from __future__ import annotations

from protocol.session import Sender

BURST_S = 5.0  # of its rate a sender may spend at once: gradients come in bursts, one behind each rollout
LEAST_SWEEP = 64  # buckets, below which looking for full ones is not worth it


class RateLimit:
    """Every sender's buckets. gradients_per_s, kbps: what each may send, > 0; None sets no bound."""

    def __init__(self, gradients_per_s: float | None, kbps: float | None) -> None:
        self._gradient_s = 0.0 if gradients_per_s is None else 1.0 / gradients_per_s
        self._byte_s = 0.0 if kbps is None else 1.0 / (125.0 * kbps)
        self._full_at: dict[Sender, tuple[float, float]] = {}  # when both buckets are full again
        self._sweep_at = LEAST_SWEEP

    def spend(self, sender: Sender, size_bytes: int, now: float) -> bool:
        """Whether ``sender`` may send one more gradient of ``size_bytes`` now; only then it is charged for it."""
        if not (self._gradient_s or self._byte_s):
            return True
        gradients, size = self._full_at.get(sender, (now, now))
        if max(gradients, size) - now >= BURST_S:
            return False
        if len(self._full_at) >= self._sweep_at:
            self._sweep(now)
        later = max(gradients, now) + self._gradient_s, max(size, now) + size_bytes * self._byte_s
        self._full_at[sender] = later
        return True

    def forget(self, session: int) -> None:
        """A session ended that no key answers for: its number never comes back."""
        self._full_at.pop(session, None)

    def __len__(self) -> int:
        """Senders that are remembered."""
        return len(self._full_at)

    def _sweep(self, now: float) -> None:
        """Forgets full buckets. As often as their number has doubled, so it costs O(1) for each gradient."""
        self._full_at = {sender: full for sender, full in self._full_at.items() if max(full) > now}
        self._sweep_at = max(LEAST_SWEEP, 2 * len(self._full_at))
