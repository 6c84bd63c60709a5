"""Which signals are a second one."""

from __future__ import annotations

from signal import SIGINT, SIGTERM

from protocol.process.interrupts import DOUBLED_S, Interrupts


def test_a_signal_that_is_delivered_twice_insists_on_nothing() -> None:
    heard = Interrupts()
    assert heard.receive(SIGINT, 10.0) == "first"
    assert heard.receive(SIGINT, 10.003) == "same"
    assert heard.receive(SIGTERM, 10.004) == "insists"
    assert heard.receive(SIGINT, 10.0 + DOUBLED_S) == "insists"
