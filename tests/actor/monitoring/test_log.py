"""What an actor says is there once it has finished, in order, and it may speak again."""

from __future__ import annotations

import json

import pytest

from actor.monitoring import log


def test_lines_are_out_once_it_has_finished(capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        log.write({"event": "said", "number": number})
    log.close()
    lines = capfd.readouterr().err.splitlines()
    assert [json.loads(line) for line in lines] == [{"event": "said", "number": number} for number in range(3)]


def test_it_may_speak_again(capfd: pytest.CaptureFixture[str]) -> None:
    log.close()
    log.write({"event": "again"})
    log.close()
    assert capfd.readouterr().err == '{"event":"again"}\n'
