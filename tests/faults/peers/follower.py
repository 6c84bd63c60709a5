"""Who hears the weight stream and does nothing else: when each version was told, and that none is told twice."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from types import TracebackType
from typing import Self

import zmq

from protocol import messages
from protocol.buffers import PREAMBLE
from protocol.messages import Snapshot, Updates

POLL_MS, DEPTH = 100, 10_000


class Follower:
    """A SUB socket and its thread. A context manager. records: (time, epoch, base version, version), as they came."""

    def __init__(self, weights: str) -> None:
        self.records: list[tuple[float, int, int, int]] = []
        self._address, self._over = weights, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, DEPTH)
            socket.setsockopt(zmq.SUBSCRIBE, PREAMBLE)
            socket.connect(self._address)
            while not self._over.is_set():
                if socket.poll(POLL_MS):
                    message, _ = messages.decode(socket.recv_multipart())
                    if isinstance(message, Updates | Snapshot):
                        seen = (message.epoch, message.base_version, message.version)
                        self.records.append((time.monotonic(), *seen))

    def breaks(self) -> int:
        """Records of updates that do not continue the one before them in their epoch."""
        return sum(new[1] == old[1] and new[2] not in (0, old[3]) for old, new in pairwise(self.records))

    def pauses_s(self) -> list[float]:
        """Between two records, each time."""
        return [new[0] - old[0] for old, new in pairwise(self.records)]

    def steps_s(self, updates: int) -> list[float]:
        """How long so many updates took, each time."""
        found, oldest = [], 0
        for at, _, _, version in self.records:
            while self.records[oldest][3] + updates <= version:
                found.append(at - self.records[oldest][0])
                oldest += 1
        return found


def weights_of(address: str) -> str:
    """Where the weight stream of a link is."""
    head, _, port = address.rpartition(":")
    return f"{head}:{int(port) + 1}"
