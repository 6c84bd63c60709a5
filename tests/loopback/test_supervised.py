"""Daemons under somebody who watches them: what a service manager hears of them, and an actor's probes."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.loopback.conftest import Finished
from tests.loopback.system import DEADLINE_S, ENDLESS, Launcher, free_ports

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix datagram sockets")


class Manager:
    """Where ``NOTIFY_SOCKET`` leads. It reads at once, as systemd does: a socket may hold ten messages, and who finds
    it full says nothing.
    """

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}

    def hear(self) -> str:
        return self._heard.get(timeout=DEADLINE_S)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RD)  # which ends the reader
        self.socket.close()

    def _read(self) -> None:
        while said := self.socket.recv(1024):
            self._heard.put(said.decode())

    def hear_until(self, last: str) -> set[str]:
        """What was said before ``last``."""
        heard = set()
        while (said := self.hear()) != last:
            heard.add(said)
        return heard


@pytest.fixture
def managers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Manager, Manager]]:
    folder = tmp_path_factory.mktemp("x")
    first, second = Manager(folder / "learner"), Manager(folder / "actor")
    with contextlib.closing(first), contextlib.closing(second):
        yield first, second


def probe(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_learner_whose_run_is_over_began_and_ended_in_order(
    finished: Finished, managers: tuple[Manager, Manager]
) -> None:
    """One that ends without having been ready has failed, in systemd's eyes, and is started for ever."""
    manager, _ = managers
    learner = finished.launcher.learner("--run-dir", finished.run_dir, "--continue", **manager.environment)
    assert [manager.hear(), manager.hear()] == ["READY=1", "STOPPING=1"]
    assert learner.wait() == 3, learner.story()
    assert [said["event"] for said in learner.events] == ["over"]


def test_both_daemons_are_ready_alive_and_stopping(launch: Launcher, managers: tuple[Manager, Manager]) -> None:
    """An actor that waits for its learner is alive and not ready; its service manager need not wait for it."""
    of_learner, of_actor = managers
    port, page = free_ports(), free_ports()
    address = f"tcp://127.0.0.1:{port}"
    actor = launch.actor(address, "watched", "--metrics", f"127.0.0.1:{page}", **of_actor.environment)
    actor.event("waiting_for_learner")
    assert of_actor.hear() == "READY=1"
    assert of_actor.hear() == "WATCHDOG=1"
    assert probe(page, "/livez") == (200, "ok\n")
    code, why = probe(page, "/readyz")
    assert (code, why.rpartition(" for ")[0]) == (503, f"no session with {address}: no learner")

    learner = launch.learner("--actors", 0, "--bind", address, *ENDLESS, **of_learner.environment)
    assert of_learner.hear() == "READY=1"
    assert of_learner.hear() == "WATCHDOG=1"
    actor.event("welcomed")
    learner.event("progress", lambda said: said["version"] > 0)
    assert probe(page, "/readyz") == (200, "ok\n")

    learner.signal(signal.SIGTERM)
    assert of_learner.hear_until("STOPPING=1") <= {"WATCHDOG=1"}
    assert learner.wait() == 0, learner.story()
    actor.event("learner_lost")
    assert probe(page, "/readyz")[0] == 503
    assert probe(page, "/livez") == (200, "ok\n")
    actor.signal(signal.SIGTERM)
    assert of_actor.hear_until("STOPPING=1") <= {"WATCHDOG=1"}
    assert actor.wait() == 0, actor.story()
