"""``python -m tests.late_stream SECONDS actor run ...``: our own command, whose weight stream is dialled so late."""

from __future__ import annotations

import asyncio
import sys

from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import Address


def delay(seconds: float) -> None:
    """From now on, in this process, each time that the stream is dialled."""
    dial = ActorSockets.dial_weights

    def late(sockets: ActorSockets, address: Address) -> None:
        asyncio.get_running_loop().call_later(seconds, dial, sockets, address)

    setattr(ActorSockets, "dial_weights", late)  # noqa: B010  (mypy minds the assignment)


def main() -> None:
    """Runs the command that follows, delayed."""
    from actor import cli

    delay(float(sys.argv[1]))
    sys.argv = sys.argv[2:]
    cli.process()


if __name__ == "__main__":
    main()
