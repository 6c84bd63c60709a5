"""What of a burst still matters to an actor that was not reading."""

from __future__ import annotations

import numpy as np

from actor.events import FaultArrived, MessageArrived
from actor.link.weights import latest
from protocol import snapshot as records
from protocol.errors import FrameFault, Reason
from protocol.messages import Updates

FAULT = FaultArrived(FrameFault(Reason.OVERSIZE, "?"))


def key(version: int) -> MessageArrived:
    return MessageArrived(*records.key_frame(1, version, bytes(8), np.zeros(2, np.float32)))


def updates(version: int) -> MessageArrived:
    return MessageArrived(Updates(1, version, version - 1, bytes(8), 2, ()), [b""])


def told(*arrived: MessageArrived | FaultArrived) -> list[object]:
    """Versions; negative where another follows; None for a fault."""
    return [
        (-1 if event.followed else 1) * event.message.version if isinstance(event, MessageArrived) else None  # type: ignore[union-attr]
        for event in latest(arrived)
    ]


def test_one_record_is_handed_on() -> None:
    assert told(updates(4)) == [4]


def test_updates_are_all_needed_and_the_last_is_worked_with() -> None:
    assert told(updates(4), updates(5), updates(6)) == [-4, -5, 6]


def test_what_is_older_than_a_key_is_dropped_but_for_faults() -> None:
    assert told(updates(4), FAULT, key(5), updates(6), key(7), updates(8)) == [None, -7, 8]


def test_a_fault_at_the_end_does_not_keep_weights_back() -> None:
    assert told(updates(4), updates(5), FAULT) == [-4, 5, None]
