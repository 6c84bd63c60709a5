"""Who knocks with a key that nobody authorized is told of, however many knock, at a bounded rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from learner.security.access import TELL_S, Doors


def test_strangers_are_told_of_at_once_and_then_together() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    sockets = SimpleNamespace(strangers=0, stranger="")
    ring = SimpleNamespace(refresh=dict)
    doors = Doors(cast("Any", ring), cast("Any", sockets), lambda event, fields: told.append((event, fields)))
    doors.look(0.0)
    assert told == []
    sockets.strangers, sockets.stranger = 1, "first"
    doors.look(1.0)
    for second in range(2, 60):
        sockets.strangers, sockets.stranger = sockets.strangers + 1, f"number {second}"
        doors.look(float(second))
    assert told == [("key_unknown", {"key": "first", "connections": 1})]
    doors.look(1.0 + TELL_S)
    doors.look(2.0 + 2 * TELL_S)
    assert told[1:] == [("key_unknown", {"key": "number 59", "connections": 58})]
