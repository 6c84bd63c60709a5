"""Who is heard: quotas and quarantine together, and what is told of them. Pure; ``now`` is an argument."""

from __future__ import annotations

from learner.config import LearnerSettings
from learner.events import Announce, Effect
from learner.quarantine import Quarantine
from learner.quota import Quota
from protocol.errors import Reason
from protocol.session import Peer, Sender


class Guard:
    """Asked for every gradient before anything of it is decoded, and told what became of it."""

    def __init__(self, settings: LearnerSettings) -> None:
        self._quota = Quota(settings.quota_gradients_per_s, settings.quota_kbps)
        self._quarantine = Quarantine()
        self._names: dict[Sender, str] = {}  # of who is in quarantine

    def charge(self, peer: Peer, size_bytes: int, now: float) -> Reason | None:
        """Why a new gradient of this size is not looked at; one that is counts for its sender's quota."""
        if self._quarantine.holds(peer.sender, now):
            return Reason.QUARANTINED
        return None if self._quota.take(peer.sender, size_bytes, now) else Reason.OVER_QUOTA

    def judge(self, sender: Sender, name: str, outcome: str, now: float) -> list[Effect]:
        """A gradient came to this outcome. name: of its sender, for people."""
        term_s = self._quarantine.strike(sender, outcome, now)
        if term_s is None:
            return []
        self._names[sender] = name
        return [Announce("quarantined", {"actor": name, "why": str(outcome), "term_s": term_s})]

    def tick(self, now: float) -> list[Effect]:
        """Time passed."""
        return [
            Announce("released", {"actor": self._names.pop(sender, "")}) for sender in self._quarantine.release(now)
        ]

    def forget(self, peer: Peer) -> None:
        """Its session is over. A key's conduct outlives its sessions."""
        if not peer.key:
            self._quota.forget(peer.session)
            self._quarantine.forget(peer.session)
            self._names.pop(peer.session, None)
