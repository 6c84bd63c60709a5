"""What a service manager hears: a real datagram socket in its place."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.process.notify import Supervisor


class Manager:
    """A socket where a service manager's would be."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.address = address

    def heard(self) -> list[str]:
        """All that waits; a datagram that was sent is here."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(1024).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["file", "abstract"] if sys.platform == "linux" else ["file"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "file" else f"@farflung-{os.getpid()}-{tmp_path.name}")
    with made.socket:
        yield made


def test_it_hears_the_stations_of_a_life(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000000", "HOME": "/"}
    supervisor = Supervisor(environ)
    assert environ == {"HOME": "/"}, "a child would speak for its parent"
    supervisor.ready()
    for second in range(13):
        supervisor.alive(100.0 + second)
    supervisor.stopping()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_without_a_watchdog_or_with_another_s_there_are_no_signs_of_life(manager: Manager) -> None:
    for watchdog in ({}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}):
        supervisor = Supervisor({"NOTIFY_SOCKET": manager.address, **watchdog})
        supervisor.alive(0.0)
        supervisor.alive(1e9)
    assert manager.heard() == []


def test_our_own_process_id_counts(manager: Manager) -> None:
    Supervisor({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}).alive(
        0.0
    )
    assert manager.heard() == ["WATCHDOG=1"]


def test_nobody_there_disturbs_nobody(tmp_path: Path) -> None:
    """Nor does it end what is told: a service manager that is there later hears the rest."""
    nobody, gone = Supervisor({}), Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    nobody.ready()
    gone.ready()
    manager = Manager(str(tmp_path / "gone"))
    with manager.socket:
        nobody.stopping()
        gone.stopping()
        assert manager.heard() == ["STOPPING=1"]
