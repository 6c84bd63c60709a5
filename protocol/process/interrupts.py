"""What a further signal to end means. Pure: ``now`` is an argument."""

from __future__ import annotations

from typing import Literal

DOUBLED_S = 0.5  # `timeout` and shells signal a process and then its group, milliseconds apart; people take longer


class Interrupts:
    """Signals to end that one process heard."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def receive(self, number: int, now: float) -> Literal["first", "same", "insists"]:
        """What this one is: the first, the same one delivered twice, or somebody's who does not want to wait."""
        if self._first is None:
            self._first = (number, now)
            return "first"
        return "same" if number == self._first[0] and now - self._first[1] < DOUBLED_S else "insists"
