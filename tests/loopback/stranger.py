"""An actor of a few lines, honest or not, over a socket of its own. Knows zmq and the wire; blocks, with deadlines."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import zmq

from protocol import messages
from protocol.buffers import Buffer
from protocol.messages import (
    AnyMessage,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Message,
    Ruling,
    Snapshot,
    Verdict,
    Welcome,
)
from tests.loopback.system import DEADLINE_S

M = TypeVar("M", bound=Message)


class Stranger:
    """One DEALER. Leaving it says goodbye if it was welcomed, and closes it."""

    def __init__(self, address: str) -> None:
        self.welcome: Welcome | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.welcome is not None:
            self.say(Goodbye(self.welcome.session, True, "a stranger leaves"))
        self._socket.close()
        self._context.term()

    def say(self, message: Message, *buffers: bytes) -> None:
        """A message that is well formed."""
        self.throw(*map(bytes, messages.encode(message, buffers)))

    def throw(self, *frames: bytes) -> None:
        """Frames as they are."""
        self._socket.send_multipart(frames)

    def hear(self, kind: type[M]) -> M:
        """The next message that is of this kind; heartbeats and snapshots are passed over."""
        while True:
            message, _ = self._next()
            if isinstance(message, kind):
                return message
            assert isinstance(message, Heartbeat | Snapshot), f"{message} instead of {kind.__name__}"

    def _next(self) -> tuple[AnyMessage, Sequence[Buffer]]:
        assert self._socket.poll(int(1000 * DEADLINE_S)), "no answer"
        return messages.decode(self._socket.recv_multipart())

    def greet(self) -> Welcome:
        """Says hello properly."""
        self.say(Hello("stranger", secrets.randbits(62) + 1, ("f32",)))
        self.welcome = self.hear(Welcome)
        return self.welcome

    def gradient(self, sequence: int = 1, value: float = 0.0, **changed: object) -> tuple[Gradient, bytes]:
        """A dense gradient of equal values, at version 0 unless ``changed`` says otherwise."""
        assert self.welcome is not None
        length = self.welcome.layout.length
        fields: dict[str, object] = {
            "session": self.welcome.session,
            "sequence": sequence,
            "base_version": 0,
            "codec": "f32",
            "length": length,
            "count": length,
        }
        return Gradient(**(fields | changed)), np.full(length, value, "<f4").tobytes()  # type: ignore[arg-type]

    def judged(self, gradient: Gradient, *buffers: bytes) -> Ruling:
        """Sends one gradient and returns what became of it."""
        self.say(gradient, *buffers)
        (ruling,) = self.hear(Verdict).rulings
        return ruling
