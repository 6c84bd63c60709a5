"""What an actor says is there once it has finished, in order, and it may speak again."""

from __future__ import annotations

import json

import pytest

from actor.monitoring import log


def test_lines_are_out_once_it_has_finished(capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        log.say({"event": "said", "number": number})
    log.finish()
    lines = capfd.readouterr().err.splitlines()
    assert [json.loads(line) for line in lines] == [{"event": "said", "number": number} for number in range(3)]


def test_it_may_speak_again(capfd: pytest.CaptureFixture[str]) -> None:
    log.finish()
    log.say({"event": "again"})
    log.finish()
    assert capfd.readouterr().err == '{"event":"again"}\n'
