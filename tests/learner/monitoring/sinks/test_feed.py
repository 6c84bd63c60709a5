"""Listeners that are slow or that raise: nobody waits for them, and what they missed is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from learner.monitoring.sinks.feed import Feed, Feeds
from learner.monitoring.sinks.sink import SinkFollower

Told = list[tuple[str, dict[str, object]]]
PATIENCE_S = 60.0  # for what happens at once


def line(event: str, **fields: object) -> bytes:
    return msgspec.json.encode({"event": event, **fields}) + b"\n"


def feed(hear: Any, told: Told, limit: int = 1000) -> Feed:
    return Feed("mine", hear, lambda event, fields: told.append((event, fields)), limit)


def test_lines_are_heard_in_order_as_they_are_written_and_the_result_comes_last() -> None:
    heard: list[Mapping[str, Any]] = []
    told: Told = []
    listener = feed(heard.append, told)
    for event in ("started", "finished", "dismissed"):
        listener.submit(event, line(event, lag=None))
    assert listener.close(PATIENCE_S)
    assert [said["event"] for said in heard] == ["started", "dismissed", "finished"]
    assert heard[0] == {"event": "started", "lag": None}
    assert (told, listener.failed, listener.lost) == ([], 0, 0)


def test_one_that_raises_is_told_once_by_name_and_goes_on() -> None:
    def hear(said: Mapping[str, Any]) -> None:
        raise SystemExit(f"cannot {said['event']}")

    told: Told = []
    listener = feed(hear, told)
    for event in ("started", "progress", "progress"):
        listener.submit(event, line(event))
    assert listener.close(PATIENCE_S)
    assert listener.failed == 3
    assert told == [("sink_failed", {"sink": "mine", "detail": "SystemExit: cannot started"})]


def test_one_that_is_slow_loses_lines_which_is_told_once_and_still_gets_the_result() -> None:
    entered, released = threading.Event(), threading.Event()
    heard: list[str] = []
    told: Told = []

    def hear(said: Mapping[str, Any]) -> None:
        entered.set()
        assert released.wait(PATIENCE_S)
        heard.append(said["event"])

    listener = feed(hear, told, limit=2)
    listener.submit("first", line("first"))
    assert entered.wait(PATIENCE_S)
    for number in range(5):
        listener.submit(f"e{number}", line(f"e{number}"))
    listener.submit("finished", line("finished"))
    assert listener.lost == 3
    assert told == [("sink_behind", {"sink": "mine", "lines": 2})]
    assert not listener.close(0.0)
    released.set()
    assert listener.close(PATIENCE_S)
    assert heard[:3] == ["first", "e0", "e1"]
    assert "finished" in heard


def test_in_the_end_who_missed_anything_is_told_and_who_hangs_is_left() -> None:
    released = threading.Event()
    told: Told = []

    def broken(said: Mapping[str, Any]) -> None:
        raise ValueError("no")

    async def life() -> list[str]:
        listeners = [
            ("sound", lambda _: None),
            ("broken", broken),
            ("hung", lambda _: released.wait(PATIENCE_S)),
        ]
        feeds = Feeds(listeners, lambda event, fields: told.append((event, fields)))
        feeds.submit("finished", line("finished"))
        await feeds.close(0.2)
        return feeds.unfinished

    try:
        assert asyncio.run(life()) == ["hung"]
    finally:
        released.set()
    closed = [fields for event, fields in told if event == "sink_closed"]
    assert closed == [
        {"sink": "broken", "failed": 1, "lost": 0, "unfinished": False, "detail": "ValueError: no"},
        {"sink": "hung", "failed": 0, "lost": 0, "unfinished": True, "detail": "still busy with the event finished"},
    ]
    assert ("sink_failed", {"sink": "broken", "detail": "ValueError: no"}) in told


def test_what_a_program_was_busy_with_says_where_it_is() -> None:
    entered, released = threading.Event(), threading.Event()

    class Slow:
        where = "http://tracking"

        def start(self, *_: object) -> None:
            entered.set()
            assert released.wait(PATIENCE_S)

    listener = feed(SinkFollower(cast("Any", Slow()), {}, lambda: 0.0), [])
    listener.submit("started", line("started", run="r", env_steps=0))
    assert entered.wait(PATIENCE_S)
    assert listener.detail == "http://tracking: still busy with the event started"
    released.set()
    assert listener.close(PATIENCE_S)
    assert listener.detail == ""
