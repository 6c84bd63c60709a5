"""Actors without simulators: ``python -m tests.faults.peers.light ADDRESS NAME ...``. Knows the wire; no torch.

Each has the real decisions of an actor's link (``actor/state.py``, the real sockets) and a worker that makes gradients
of one coordinate, a number a second. Says what it hears as JSON lines on stderr, with the time; with ``--acks`` writes
a line before each gradient that it sends (session, sequence) and after each that was applied (the same, epoch,
version), which a SIGKILL cannot take back.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np
import uvloop
import zmq

from actor import events
from actor.events import Effect, Event, Identity, Work
from actor.state import ActorState
from actor.stats import WorkerStats
from protocol import messages
from protocol.buffers import Buffer
from protocol.codecs.registry import Sparse, codec
from protocol.errors import PeerFault
from protocol.messages import Updates, Verdict
from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import parse_learner_address
from protocol.transport.keys import KeyPair, read_pair

TICK_S = 0.05
SIZE = 127.0  # of the coordinate: exactly a scale of 1 and the largest level
BACKLOG_S = 1.0  # of gradients that could not be sent in time and are still made
QUIET_S = 3.0  # of the weight stream that is worth a line once it is over
BOOKS_S = 1.0  # between lines of what was sent and answered
SOCKETS = 65_536  # of one context; the default of 1,023 is too few for a thousand peers


def say(event: str, **fields: object) -> None:
    """One line. at: seconds on the clock that all processes of this machine share."""
    print(json.dumps({"event": event, "at": time.monotonic(), **fields}), file=sys.stderr, flush=True)


class LightActor:
    """One actor. rate: gradients a second that it makes, as far as its permits go. coordinate: that they carry.

    skims: takes from the weight stream which version it tells and does not repeat the updates: a thousand that did, on
    one machine, would be what is measured. acks: descriptor of the file of what was sent and applied.
    """

    def __init__(
        self,
        address: str,
        name: str,
        rate: float,
        coordinate: int,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        pair: KeyPair | None = None,
        skims: bool = False,
        acks: int | None = None,
    ) -> None:
        learner = parse_learner_address(address)
        self.state = ActorState(Identity(name, secrets.randbits(62) + 1), address, SystemRandom())
        self.finished = asyncio.Event()
        self.sent = self.acked = 0
        self._sockets = ActorSockets(learner, context, pair=pair)
        self._name, self._rate, self._coordinate, self._skims, self._acks = name, rate, coordinate, skims, acks
        self._permitted = self._unanswered = 0
        self._weights: events.Weights | None = None
        self._accepted_in = 0  # the last epoch in which a gradient was
        self._owed, self._owed_at = 0.0, time.monotonic()
        self._saw_at = 0.0

    async def run(self) -> None:
        """Until it is finished."""
        self._handle(events.Started())
        receiving = asyncio.create_task(self._sockets.receive(self._heard, self._saw))
        await self.finished.wait()
        self._sockets.close()
        await receiving

    def tick(self) -> None:
        """Time passed."""
        if not self.finished.is_set():
            self._handle(events.Ticked(WorkerStats(env_steps=self.sent)))
            self._work()

    def stop(self) -> None:
        """Says goodbye, once what it sent is answered."""
        self._handle(events.StopRequested("the drill is over"))

    def _heard(self, frames: list[Buffer]) -> None:
        arrived = _read(frames)
        if isinstance(arrived, events.MessageArrived) and isinstance(arrived.message, Verdict):
            self._count(arrived.message)
        self._handle(arrived)
        self._work()

    def _saw(self, waiting: Sequence[list[Buffer]]) -> None:
        now = time.monotonic()
        if now - self._saw_at > QUIET_S:
            say("stream_flows", actor=self._name, after_s=round(now - self._saw_at, 3))
        self._saw_at = now
        for frames in waiting[-1:] if self._skims else waiting:
            arrived = _read(frames)
            if not self._skims or not self._skim(arrived):
                self._handle(arrived)

    def _skim(self, arrived: events.MessageArrived | events.FaultArrived) -> bool:
        """Whether the record was taken by its version alone; a first key is needed before any."""
        weights, record = self.state.weights, getattr(arrived, "message", None)
        if weights is None or not weights.held or self._weights is None or not isinstance(record, Updates):
            return False
        if record.epoch == weights.epoch:
            weights.version = record.version
            self._weights = replace(self._weights, version=record.version)
            self._perform(self.state._permit())  # the record may show what its permits waited for
        return True

    def _count(self, verdict: Verdict) -> None:
        outbox, welcome = self.state.gradients.outbox, self.state.welcome
        if outbox is None or welcome is None or verdict.session != outbox.session:
            return
        for ruling in verdict.rulings:
            if ruling.outcome == "applied" and ruling.sequence in outbox.unanswered:
                self.acked += 1
                self._write(f"applied {outbox.session} {ruling.sequence} {welcome.epoch} {ruling.version}\n")
                if welcome.epoch > self._accepted_in:
                    self._accepted_in = welcome.epoch
                    say("accepted", actor=self._name, epoch=welcome.epoch, version=ruling.version)

    def _write(self, line: str) -> None:
        if self._acks is not None:
            os.write(self._acks, line.encode())

    def _work(self) -> None:
        """Makes the gradients that are due, against permits."""
        now = time.monotonic()
        self._owed = min(self._owed + self._rate * (now - self._owed_at), max(1.0, BACKLOG_S * self._rate))
        self._owed_at = now
        while self._owed >= 1.0 and self._unanswered < self._permitted and self._weights is not None:
            self._owed -= 1.0
            self._unanswered += 1
            if (outbox := self.state.gradients.outbox) is not None:
                self._write(f"sent {outbox.session} {outbox.next_sequence}\n")
            self._handle(events.WorkDone(self._gradient(self._weights)))

    def _gradient(self, weights: events.Weights) -> Work:
        length = len(weights.theta)
        value = Sparse(length, np.array([self._coordinate % length], np.int32), np.array([SIZE], np.float32))
        encoded = codec("topk_i8").encode(value)
        version = weights.version
        return Work(weights.epoch, version, "topk_i8", length, encoded.count, encoded.buffer, encoded.decoded)

    def _handle(self, event: Event) -> None:
        self._perform(self.state.handle(event, time.monotonic()))

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            _PERFORM[type(effect)](self, effect)

    def _later(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._handle, event)

    def _send(self, effect: events.Send) -> None:
        self._sockets.send(messages.encode(effect.message, effect.buffers))
        self.sent += isinstance(effect.message, messages.Gradient)

    def _subscribe(self, effect: events.Subscribe) -> None:
        self._sockets.subscribe(effect.address, effect.quantity)

    def _adopt(self, effect: events.Adopt) -> None:
        held, new = self._weights, effect.weights
        if held is not None and (new.epoch, new.version) < (held.epoch, held.version):
            say("went_back", actor=self._name, held=[held.epoch, held.version], told=[new.epoch, new.version])
        self._weights = new

    def _settle(self, effect: events.Settle) -> None:
        self._unanswered -= 1

    def _permit(self, effect: events.Permit) -> None:
        self._permitted = effect.credit

    @property
    def version(self) -> int:
        """Of the weights that it holds."""
        return 0 if self._weights is None else self._weights.version


def _read(frames: Sequence[Buffer]) -> events.MessageArrived | events.FaultArrived:
    try:
        return events.MessageArrived(*messages.decode(frames))
    except PeerFault as fault:
        return events.FaultArrived(fault)


_PERFORM: dict[type[Any], Callable[[LightActor, Any], None]] = {
    events.Dial: lambda actor, _: actor._sockets.redial(),
    events.Send: LightActor._send,
    events.Subscribe: LightActor._subscribe,
    events.Configure: lambda actor, _: actor._later(events.WorkerReady()),
    events.Adopt: LightActor._adopt,
    events.Settle: LightActor._settle,
    events.Permit: LightActor._permit,
    events.Share: lambda actor, _: None,
    events.Leave: lambda actor, _: actor._later(events.LastWorkDone(None)),
    events.Announce: lambda actor, effect: say(effect.event, actor=actor._name, **effect.fields),
    events.Finish: lambda actor, _: actor.finished.set(),
}


async def live(asked: argparse.Namespace) -> None:
    """All actors of this process, until SIGTERM or their learner's last goodbye."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS)
    acks = None if asked.acks is None else os.open(asked.acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    names = [asked.name] if asked.count == 1 else [f"{asked.name}-{number}" for number in range(asked.count)]
    actors = [
        LightActor(
            asked.address,
            name,
            asked.rate,
            asked.coordinate,
            context=context,
            pair=None if asked.keys is None else read_pair(asked.keys / f"{name}.key"),
            skims=asked.skim,
            acks=acks,
        )
        for name in names
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, actors)
    told = asyncio.create_task(_books(actors))
    ticking = asyncio.create_task(_tick(actors, asked.tick))
    living = asyncio.create_task(_all(actors))
    tasks = (living, told, ticking)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
        else:
            task.cancel()
    _tell(actors)


def _stop(actors: Sequence[LightActor]) -> None:
    for actor in actors:
        actor.stop()


async def _tick(actors: Sequence[LightActor], interval_s: float) -> None:
    """Each actor once in every interval, one behind the other: a thousand at once would be a stall of their own."""
    for actor in itertools.cycle(actors):
        actor.tick()
        await asyncio.sleep(interval_s / len(actors))


async def _all(actors: Sequence[LightActor]) -> None:
    await asyncio.gather(*(actor.run() for actor in actors))


async def _books(actors: Sequence[LightActor]) -> None:
    while True:
        await asyncio.sleep(BOOKS_S)
        _tell(actors)


def _tell(actors: Sequence[LightActor]) -> None:
    refused, lost = (sum(getattr(a.state.gradients, name) for a in actors) for name in ("refused", "lost"))
    version = min(actor.version for actor in actors)
    acked, sent = (sum(getattr(actor, name) for actor in actors) for name in ("acked", "sent"))
    say("books", sent=sent, acked=acked, refused=refused, lost=lost, version=version)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser("python -m tests.faults.peers.light", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("name")
    parser.add_argument("--count", type=int, default=1, help="actors in this process; then named NAME-0, NAME-1, ...")
    parser.add_argument("--rate", type=float, default=20.0, help="gradients a second that each makes")
    parser.add_argument("--coordinate", type=int, default=0, help="that they carry")
    parser.add_argument("--acks", type=Path, help="file for what was sent and applied")
    parser.add_argument("--keys", type=Path, help="folder of key files, one for each name")
    parser.add_argument("--tick", type=float, default=TICK_S, help="seconds between two looks at the clock")
    parser.add_argument("--skim", action="store_true", help="holds what the weight stream tells without computing it")
    return parser.parse_args()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live(arguments()))
