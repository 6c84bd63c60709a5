"""What a daemon tells the service manager that started it, sd_notify(3). Knows one datagram socket; no clock.

Without ``NOTIFY_SOCKET`` in the environment every call does nothing. A service manager that cannot be told stops
nobody's training.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import MutableMapping

SHARE = 4  # signs of life for each that the service manager waits for: three may be late


class Supervisor:
    """The way to tell it. Takes its variables out of ``environ``, so that children do not speak for this process."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        patience_us, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = pid in ("", str(os.getpid()))
        self._interval_s = int(patience_us) / 1e6 / SHARE if ours and patience_us.isdigit() else math.inf
        self._next = -math.inf if self._interval_s < math.inf else math.inf

    def ready(self) -> None:
        """It has begun. From here on signs of life are waited for."""
        self._tell("READY=1")

    def alive(self, now: float) -> None:
        """A sign of life; call it often, and only where there is progress. now: seconds, of any steady clock."""
        if now >= self._next:
            self._next = now + self._interval_s
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """It has begun to end."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto(state.encode(), self._address)
