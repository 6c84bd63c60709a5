"""What is passed on of what a local actor prints: its events, and all else as lines, at a bounded rate. Pure.

``now`` is an argument. Whatever runs in the actor's process writes to the same pipe, so only the events that actors are
known to tell are taken for such.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import msgspec

Announcer = Callable[[str, dict[str, object]], None]  # event, fields

LINE_CHARACTERS, LINE_BYTES = 500, 1 << 14  # of a line that is passed on; of an event, which may hold a traceback
LINES_RELAYED, WINDOW_S = 100, 10.0  # so many lines of one actor, and as many events, in each such span
TAIL_LINES = 15
EVENTS = frozenset(  # of actors, as deploy/PROGRESS.md has them
    {
        "waiting_for_learner",
        "gave_up",
        "welcomed",
        "learner_lost",
        "refused",
        "dismissed",
        "fault",
        "diverged",
        "worker_failed",
    }
    | {
        "simulator_failed",
        "gradient_not_finite",
        "local_steps_unused",
        "image_flattened",
        "portion_changed",
        "actions_masked",
        "stage_entered",
        "output_lost",
    }
)


class Relay:
    """One process's output, from its first line to its last. cause: what it said to have failed of, or None."""

    def __init__(self, name: str, announce: Announcer) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.cause: str | None = None
        self.dismissed = False  # the learner told it to leave
        self._name, self._announce = name, announce
        self._left = {True: LINES_RELAYED, False: LINES_RELAYED}  # of events, of other lines
        self._until: float | None = None
        self._muted = 0

    @property
    def last_words(self) -> str:
        """Why it ended, as far as it said."""
        return self.cause or (self.tail[-1] if self.tail else "")

    def forward(self, line: str, now: float) -> None:
        """One line that the process wrote."""
        event, fields = understood(line)
        if event == "worker_failed":
            self.cause = str(fields.get("detail", ""))
        self.dismissed |= event == "dismissed"
        known = event in EVENTS
        if not known:  # those tell how the link fared, and differ each time
            self.tail.append(line[:LINE_CHARACTERS])
        if self._until is None or now >= self._until:
            self.finish()
            self._until, self._left = now + WINDOW_S, {True: LINES_RELAYED, False: LINES_RELAYED}
        if self._left[known]:
            self._left[known] -= 1
            self._announce(event, {"actor": self._name} | fields | {"actor": self._name})
        else:
            self._muted += 1

    def finish(self) -> None:
        """Tells how many lines were not passed on since it was last told."""
        if self._muted:
            self._announce("actor_muted", {"actor": self._name, "lines": self._muted})
            self._muted = 0


def understood(line: str) -> tuple[str, dict[str, object]]:
    """(event, fields) of a line that an actor wrote: its own JSON event, or else ("actor_said", its text)."""
    if line.startswith("{"):
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
            fields = msgspec.json.decode(line, type=dict[str, object])
            if (event := fields.pop("event")) in EVENTS:
                return str(event), fields
    return "actor_said", {"text": line[:LINE_CHARACTERS]}
