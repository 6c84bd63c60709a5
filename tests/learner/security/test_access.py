"""Connections refused for a key that nobody authorized are announced, however many there are, at a bounded rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from learner.security.access import ANNOUNCE_S, AccessList


def test_refused_connections_are_announced_at_once_and_then_together() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    sockets = SimpleNamespace(unauthenticated=0, last_unauthenticated="")
    ring = SimpleNamespace(refresh=dict)
    access = AccessList(cast("Any", ring), cast("Any", sockets), lambda event, fields: told.append((event, fields)))
    access.poll(0.0)
    assert told == []
    sockets.unauthenticated, sockets.last_unauthenticated = 1, "first"
    access.poll(1.0)
    for second in range(2, 60):
        sockets.unauthenticated, sockets.last_unauthenticated = sockets.unauthenticated + 1, f"number {second}"
        access.poll(float(second))
    assert told == [("key_unknown", {"key": "first", "connections": 1})]
    access.poll(1.0 + ANNOUNCE_S)
    access.poll(2.0 + 2 * ANNOUNCE_S)
    assert told[1:] == [("key_unknown", {"key": "number 59", "connections": 58})]
