"""An honest client that sends the same updates in every run, one at a time. Knows the wire; blocks."""

from __future__ import annotations

import numpy as np

from protocol.codecs.registry import CODECS
from protocol.messages import Snapshot, SnapshotRequest
from tests.loopback.stranger import Stranger

SIZE = 1e-3  # of a coordinate


class Feed(Stranger):
    """A session that waits for each verdict, so that what is applied depends on nothing else. sent: updates."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.greet()
        self._numbers = np.random.default_rng(0)
        self.sent = 0

    def feed(self, count: int) -> None:
        """So many more updates; all are applied."""
        assert self.welcome is not None
        for _ in range(count):
            vector = SIZE * self._numbers.standard_normal(self.welcome.layout.length).astype(np.float32)
            encoded = CODECS["i8"].encode(vector)
            self.sent += 1
            gradient, _ = self.gradient(self.sent, codec="i8", base_version=self.sent - 1)
            ruling = self.judged(gradient, encoded.buffer)
            assert (ruling.outcome, ruling.version) == ("applied", self.sent), ruling

    def theta(self) -> tuple[bytes, int]:
        """θ as a key says it, and its version."""
        assert self.welcome is not None
        self.say(SnapshotRequest(self.welcome.session))
        while True:
            message, buffers = self._next()
            if isinstance(message, Snapshot):
                return bytes(buffers[0]), message.version
