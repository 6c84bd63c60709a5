"""Feeds a learner as fast as it may: ``python -m tests.bench.rates.feeder ADDRESS CODEC DENSITY SESSIONS SECONDS``.

Speaks the protocol as actors do but computes nothing: payloads are encoded before the clock starts, the weight stream
is received by the first session and thrown away. Prints one JSON object with the verdicts of SECONDS.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import uvloop

from protocol import frames as framing
from protocol import messages
from protocol.buffers import Buffer
from protocol.codecs.registry import CODECS, Encoded
from protocol.messages import Goodbye, Gradient, Hello, SnapshotRequest, Verdict, Welcome
from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import parse_learner_address
from tests.bench.rates.payloads import make_payloads

WARM_S = 1.0  # after the first verdict; what comes before is not counted


class Feed:
    """One session, always as many gradients under way as its credit allows."""

    def __init__(self, address: str, instance: int, codec: str, density: float, follows: bool) -> None:
        self._sockets = ActorSockets(parse_learner_address(address))
        self._sockets.connect()
        self._instance, self._codec, self._density, self._follows = instance, codec, density, follows
        self._welcome: Welcome | None = None
        self._payloads: list[Encoded] = []
        self._sequence = self._version = 0
        self.began = asyncio.Event()  # set by the first verdict
        self.applied = 0
        self.refused = 0
        self.weights = 0  # snapshots that came
        self.length = 0  # P

    async def run(self) -> None:
        """Until cancelled."""
        self._say(Hello(f"feeder-{self._instance}", self._instance, tuple(CODECS)))
        await self._sockets.receive(self._heard, self._saw)

    def close(self) -> None:
        """Says goodbye."""
        if self._welcome is not None:
            self._say(Goodbye(self._welcome.session, True, "fed"))
        self._sockets.close()

    def _say(self, message: messages.Message, buffers: Sequence[Buffer] = ()) -> None:
        self._sockets.send(messages.encode(message, buffers))

    def _saw(self, waiting: list[list[Buffer]]) -> None:
        self.weights += len(waiting)

    def _heard(self, frames: list[Buffer]) -> None:
        framing.check(frames)
        message, _ = messages.decode(frames)
        if isinstance(message, Welcome) and self._welcome is None:
            self._begin(message)
        elif isinstance(message, Verdict):
            self.began.set()
            for ruling in message.rulings:
                self.applied += ruling.outcome == "applied"
                self.refused += ruling.outcome != "applied"
                self._version = max(self._version, ruling.version)
            for _ in message.rulings:
                self._feed()

    def _begin(self, welcome: Welcome) -> None:
        self._welcome, self.length = welcome, welcome.layout.length
        self._payloads = make_payloads(self._codec, self.length, self._density)
        if self._follows:
            self._sockets.subscribe(welcome.weights)
        self._say(SnapshotRequest(welcome.session))
        for _ in range(welcome.credit):
            self._feed()

    def _feed(self) -> None:
        assert self._welcome is not None
        payload = self._payloads[self._sequence % len(self._payloads)]
        self._sequence += 1
        gradient = Gradient(
            session=self._welcome.session,
            sequence=self._sequence,
            base_version=self._version,
            codec=self._codec,
            length=self.length,
            count=payload.count,
        )
        self._say(gradient, [payload.buffer])


async def feed(address: str, codec: str, density: float, sessions: int, seconds: float) -> dict[str, float]:
    """What the learner applied in so many seconds."""
    feeds = [Feed(address, number + 1, codec, density, follows=number == 0) for number in range(sessions)]
    tasks = [asyncio.create_task(each.run()) for each in feeds]
    await asyncio.gather(*(each.began.wait() for each in feeds))
    await asyncio.sleep(WARM_S)
    applied, weights, began = _applied(feeds), feeds[0].weights, time.perf_counter()
    await asyncio.sleep(seconds)
    spent_s, applied, weights = time.perf_counter() - began, _applied(feeds) - applied, feeds[0].weights - weights
    for each in feeds:
        each.close()
    await asyncio.gather(*tasks)
    refused = sum(each.refused for each in feeds)
    return {
        "learner": applied / spent_s,
        "snapshots_per_s": weights / spent_s,
        "refused": refused,
        "parameters": feeds[0].length,
    }


def _applied(feeds: Sequence[Feed]) -> int:
    return sum(each.applied for each in feeds)


if __name__ == "__main__":
    _, link, name, share, count, duration_s = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(feed(link, name, float(share), int(count), float(duration_s)))))
