"""A stopping actor's last seconds: what its worker holds back goes out, verdicts come in. Pure; times are arguments."""

from __future__ import annotations

import math

from actor.events import Work

DRAIN_S = 2.0  # how long a stopping actor waits for what its worker holds back, and for verdicts


class Drain:
    """What a stopping actor still waits for.

    awaits_worker: it was asked for what it holds back, and has not answered. held_back: it has, and there was no room
    yet.
    """

    def __init__(self) -> None:
        self.awaits_worker = False
        self.held_back: Work | None = None
        self._until = math.inf

    def start(self, now: float, awaits_worker: bool) -> None:
        """The actor was asked to stop."""
        self.awaits_worker, self._until = awaits_worker, now + DRAIN_S

    def receive(self, work: Work | None) -> None:
        """The worker answered; None: it holds nothing back."""
        self.awaits_worker, self.held_back = False, work

    def is_over(self, now: float, unanswered: int) -> bool:
        """Whether nothing is missing any more, or it was for too long."""
        return now >= self._until or not (self.awaits_worker or self.held_back is not None or unanswered)
