"""How an actor's process ends: a signal asks, a second one insists, and neither changes a code that is decided."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from actor.environments import signals
from actor.environments.signals import OURS
from actor.events import ConnectionSettings, Finish
from actor.service import Service


class Left(Exception):
    """In place of the process's end."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """One that does not dial."""

    def left(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", left)
    made = Service(ConnectionSettings("ipc:///nowhere", "a"), "train", None)
    yield made
    made.close()


@pytest.mark.parametrize(("decided", "code"), [(None, 1), (0, 0), (2, 2)])
def test_a_second_signal_ends_at_once_with_what_was_decided(service: Service, decided: int | None, code: int) -> None:
    if decided is not None:
        service.perform(Finish(decided))
    service.signalled(signal.SIGTERM, None)
    service.signalled(signal.SIGTERM, None)  # the same one, as a terminal's
    with pytest.raises(Left) as left:
        service.signalled(signal.SIGINT, None)
    assert left.value.args == (code,)


def test_once_all_is_over_signals_are_not_heard() -> None:
    held = [signal.getsignal(number) for number in OURS]
    try:
        signals.ignore()
        assert [signal.getsignal(number) for number in OURS] == [signal.SIG_IGN] * len(OURS)
    finally:
        for number, handler in zip(OURS, held, strict=True):
            signal.signal(number, handler)
