"""Who is heard: all that is asked of a gradient before it is decoded, and what is told of it. Pure."""

from __future__ import annotations

from learner.admission.checks import admit
from learner.admission.quarantine import Quarantine
from learner.admission.rate_limit import RateLimit
from learner.config import LearnerSettings
from learner.events import Announce, Effect
from learner.optim.aggregation import TAKEN
from learner.optim.staleness import Dropped, age_rule, judge
from protocol.codecs.registry import CODECS
from protocol.errors import Reason
from protocol.messages import Gradient
from protocol.session import Peer, Sender

TOLD_S = 60.0  # between two lines about one sender's norms


class AdmissionControl:
    """Quotas, quarantine, header and age. Hears what became of each gradient, too. length: P."""

    def __init__(self, settings: LearnerSettings, length: int) -> None:
        self._length, self._rule = length, age_rule(settings)
        self._codecs = CODECS if settings.group is None else TAKEN
        self._quota = RateLimit(settings.quota_gradients_per_s, settings.quota_kbps)
        self._quarantine = Quarantine()
        self._names: dict[Sender, str] = {}  # of who is in quarantine
        self._large: dict[Sender, tuple[str, float, int]] = {}  # whose norms were refused: name, told when, since then

    def check_rate(self, peer: Peer, size_bytes: int, now: float) -> Reason | None:
        """Why a new gradient of this size is not looked at; one that is counts for its sender's quota."""
        if self._quarantine.is_quarantined(peer.sender, now):
            return Reason.QUARANTINED
        return None if self._quota.spend(peer.sender, size_bytes, now) else Reason.OVER_QUOTA

    def check_header(self, gradient: Gradient, version: int, lag_s: float) -> Reason | None:
        """Why its header is refused, or its age. version: of θ now. lag_s: since its weights were the newest."""
        reason = admit(gradient, layout_length=self._length, version=version, codecs=self._codecs)
        if reason is not None:
            return reason
        judged = judge(version - gradient.base_version, lag_s, self._rule)
        return judged.reason if isinstance(judged, Dropped) else None

    def record_outcome(self, sender: Sender, name: str, outcome: str, now: float) -> list[Effect]:
        """A gradient came to this outcome. name: of its sender, for people."""
        if outcome == Reason.NORM_EXCEEDED:
            return self._refused_norm(sender, name, now)
        term_s = self._quarantine.strike(sender, outcome, now)
        if term_s is None:
            return []
        self._names[sender] = name
        return [Announce("quarantined", {"actor": name, "why": str(outcome), "term_s": term_s})]

    def _refused_norm(self, sender: Sender, name: str, now: float) -> list[Effect]:
        """Tells of the first at once, and of those of the next TOLD_S together."""
        if sender in self._large:
            _, told_at, count = self._large[sender]
            self._large[sender] = name, told_at, count + 1
            return []
        self._large[sender] = name, now, 0
        return [Announce("norm_exceeded", {"actor": name, "refused": 1})]

    def is_quarantined(self, sender: Sender, now: float) -> bool:
        """Whether it is in quarantine."""
        return self._quarantine.is_quarantined(sender, now)

    @property
    def quarantined(self) -> int:
        """Senders in quarantine: whose release was not told yet."""
        return len(self._names)

    def tick(self, now: float) -> list[Effect]:
        """Time passed."""
        released = [self._names.pop(sender, "") for sender in self._quarantine.release(now)]
        return [*(Announce("released", {"actor": name}) for name in released), *self._told_norms(now)]

    def _told_norms(self, now: float) -> list[Effect]:
        due = [(sender, *held) for sender, held in self._large.items() if now - held[1] >= TOLD_S]
        for sender, name, _, count in due:
            del self._large[sender]
            if count:
                self._large[sender] = name, now, 0
        return [Announce("norm_exceeded", {"actor": name, "refused": count}) for _, name, _, count in due if count]

    def forget(self, peer: Peer) -> None:
        """Its session is over. A key's conduct outlives its sessions."""
        if not peer.public_key:
            self._quota.forget(peer.session)
            self._quarantine.forget(peer.session)
            self._names.pop(peer.session, None)
            self._large.pop(peer.session, None)
