"""Who is not listened to for a while, for what no honest actor does. Pure. ``now`` is an argument.

More than TOLERATED refusals of the kinds in STRIKES within about WINDOW_S send their sender into quarantine: for a
second at first, twice as long with each relapse up to MOST_S, and half as long again for each GOOD_S of good conduct.
In it gradients are refused unread. A key answers for all its sessions and is remembered when they end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from protocol.errors import Reason
from protocol.session import Sender

# Refusals that cannot come from a sound actor behind any network.
# Not here: what age, load and the network explain (stale_*, draining, over_quota, and duplicate: a message sent again
# may be delayed until its ruling is forgotten); what a wrong setting or another version explains (wrong_length,
# unknown_codec: a look at the header refuses them, and quarantine would hide the reason from who has to put it right);
# norm_exceeded, which a setting, too small for the task, or something new that a sound actor met explains, and which
# does no harm once it is refused; and quarantined itself, which would never end.
STRIKES = frozenset(
    {
        Reason.NOT_FINITE,  # actors leave such gradients out
        Reason.MALFORMED_PAYLOAD,
        Reason.FUTURE_VERSION,  # of a session's epoch there are no weights that the learner has not made
        Reason.OVERDRAWN,  # the ledger bears the largest credit that is ever granted
    }
)
TOLERATED = 8  # strikes: a fault that passes, of memory or of a link, makes fewer
WINDOW_S = 60.0  # in which so many are forgotten again
FIRST_S, MOST_S = 1.0, 300.0
GOOD_S = 120.0  # of good conduct after a quarantine, that halve the next one
MOST_TERMS = math.ceil(math.log2(MOST_S / FIRST_S)) + 1  # after so many in a row they do not grow any more


@dataclass(slots=True)
class Conduct:
    """What is held against one sender.

    clean_at: when the strikes are all forgotten; each moves it on by WINDOW_S / TOLERATED. until: end of the last
    quarantine. terms: served in a row, as they stood at ``until``. released: whether its end was told.
    """

    clean_at: float = -math.inf
    until: float = -math.inf
    terms: int = 0
    released: bool = True

    def terms_at(self, now: float) -> int:
        """Terms that still count: one is forgiven for each GOOD_S."""
        return max(0, self.terms - int((now - self.until) / GOOD_S)) if self.terms else 0


class Quarantine:
    """Everybody's conduct. Holds nothing of who never misbehaved, nor of who did so long ago."""

    def __init__(self) -> None:
        self._records: dict[Sender, Conduct] = {}

    def is_quarantined(self, sender: Sender, now: float) -> bool:
        """Whether gradients of ``sender`` are refused unread."""
        record = self._records.get(sender)
        return record is not None and now < record.until

    def strike(self, sender: Sender, outcome: str, now: float) -> float | None:
        """A gradient of ``sender`` came to this outcome. Seconds of quarantine where that was one strike too many.

        What was under way when it began is not held against its sender a second time.
        """
        if outcome not in STRIKES or self.is_quarantined(sender, now):
            return None
        record = self._records.setdefault(sender, Conduct())
        record.clean_at = max(record.clean_at, now) + WINDOW_S / TOLERATED
        if record.clean_at - now <= WINDOW_S:
            return None
        terms = record.terms_at(now)
        term_s = min(MOST_S, FIRST_S * 2.0**terms)
        record.clean_at, record.released = -math.inf, False
        record.until, record.terms = now + term_s, min(MOST_TERMS, terms + 1)
        return term_s

    def release(self, now: float) -> list[Sender]:
        """Whose quarantine has ended since the last call; who has nothing left against it is forgotten."""
        free = [(sender, record) for sender, record in self._records.items() if now >= record.until]
        released = [sender for sender, record in free if not record.released]
        for sender, record in free:
            record.released = True
            if now >= record.clean_at and not record.terms_at(now):
                del self._records[sender]
        return released

    def forget(self, session: int) -> None:
        """A session ended that no key answers for: its number never comes back."""
        self._records.pop(session, None)

    def __len__(self) -> int:
        """Senders of whom something is held."""
        return len(self._records)
