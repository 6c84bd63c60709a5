"""How much people are told of what peers do. Pure; ``now`` is an argument. Knows events' names, not what they say.

Whoever has a key may say hello and goodbye as often as it likes, and each would be a line in progress.jsonl and on
stdout. So of each such event a whole fleet's lines are told at once and then so many a second; those that are left out
are counted, and told together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from learner.events import Announce, Effect

BY_PEERS = frozenset(  # what peers can bring about as often as they like
    {"actor_joined", "actor_left", "evaluator_joined", "evaluator_left", "evaluated", "best_checkpoint"}
    | {"best_checkpoint_failed", "quarantined", "released"}
    | {"actor_fault", "report_doubted", "norm_exceeded"}
)
BURST = 1024.0  # lines of one event: as many as a fleet has actors
LINES_PER_S = 1.0  # afterwards
SUMMARY_S = 60.0  # between two lines that tell what was left out


class Notices:
    """What was told lately, by event."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}  # when a whole burst may be told again
        self._left_out: Counter[str] = Counter()
        self._summed_at = float("-inf")

    def bounded(self, effects: Iterable[Effect], now: float) -> list[Effect]:
        """The effects without lines that are too many."""
        return [effect for effect in effects if not isinstance(effect, Announce) or self._told(effect.event, now)]

    def tick(self, now: float) -> list[Effect]:
        """Tells what was left out, now and then."""
        if not self._left_out or now - self._summed_at < SUMMARY_S:
            return []
        told, self._left_out, self._summed_at = dict(self._left_out), Counter(), now
        return [Announce("lines_left_out", dict(told))]

    def _told(self, event: str, now: float) -> bool:
        if event not in BY_PEERS:
            return True
        full_at = max(now, self._full_at.get(event, now)) + 1.0 / LINES_PER_S
        if full_at - now > BURST / LINES_PER_S:
            self._left_out[event] += 1
            return False
        self._full_at[event] = full_at
        return True
