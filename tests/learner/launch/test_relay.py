"""What is passed on of an actor's output: events and lines, so many in each span, and what was not is counted."""

from __future__ import annotations

import re
from pathlib import Path

import learner
from learner.launch.relay import EVENTS, LINES_RELAYED, WINDOW_S, Relay, understood

PAGE = Path(learner.__file__).parents[1] / "deploy" / "PROGRESS.md"


class Told(list[tuple[str, dict[str, object]]]):
    def __call__(self, event: str, fields: dict[str, object]) -> None:
        self.append((event, fields))


def test_events_of_actors_are_told_from_other_lines() -> None:
    assert understood('{"event": "welcomed", "run": "r"}') == ("welcomed", {"run": "r"})
    for line in ("plain", "{broken", '{"no": "event"}', "{}", '["event"]', '{"event": "reset done"}', '{"event": []}'):
        assert understood(line) == ("actor_said", {"text": line})


def test_every_event_that_the_page_has_of_actors_is_known() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## What an actor says")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == EVENTS


def test_lines_of_each_span_are_bounded_and_the_others_counted() -> None:
    told = Told()
    relay = Relay("local-0", told)
    for n in range(LINES_RELAYED + 5):
        relay.forward(f"{n}", now=0.0)
    relay.forward("later", now=WINDOW_S)
    assert [fields["text"] for event, fields in told if event == "actor_said"] == [
        *map(str, range(LINES_RELAYED)),
        "later",
    ]
    assert told[LINES_RELAYED] == ("actor_muted", {"actor": "local-0", "lines": 5})


def test_a_failure_is_passed_on_behind_any_chatter_and_is_the_last_word() -> None:
    told = Told()
    relay = Relay("local-0", told)
    for _ in range(2 * LINES_RELAYED):
        relay.forward("chatter", now=0.0)
    relay.forward('{"event": "worker_failed", "detail": "ValueError: boom", "traceback": "Traceback"}', now=0.0)
    relay.forward("more chatter", now=0.0)
    assert told[-1][0] == "worker_failed"
    assert (relay.last_words, relay.tail[-1]) == ("ValueError: boom", "more chatter")


def test_how_the_link_fared_is_nobody_s_last_word() -> None:
    relay = Relay("local-0", Told())
    relay.forward("Segmentation fault", now=0.0)
    relay.forward('{"event": "welcomed", "ordinal": 3}', now=0.0)
    assert relay.last_words == "Segmentation fault"
