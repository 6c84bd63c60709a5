"""The actor's sockets: dialled anew whenever the learner is not heard, and able to say why. Knows ZeroMQ; no messages.

An address with a host's name is looked up at each dial, and what is sent meanwhile waits. libzmq would look names up by
itself, for one family, on the thread that serves every connection, and never try a second address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.buffers import PREAMBLE, Buffer
from protocol.frames import MAX_FRAME_BYTES
from protocol.messages import Quantity
from protocol.transport.address import Address, weights_address
from protocol.transport.keys import KeyPair
from protocol.transport.resolver import NoSuchName, Resolver, first_answering
from protocol.transport.sockets import (
    DEALER,
    DRAIN_WEIGHTS_S,
    GOODBYE_MS,
    PADDING,
    STREAM_DEPTH,
    Frames,
    Sockets,
    Take,
    back_off,
    nothing,
)

EARLY_MESSAGES = 16  # that wait for a name to be looked up: a hello, and what a leaving actor says
SEEN = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_HANDSHAKE_SUCCEEDED


class ActorSockets(Sockets):
    """DEALER and SUB of an actor. Nothing is opened before ``connect``. unsent: messages that ``send`` refused.

    pair: its keys, which name the learner's; None where that asks for none. trouble: what became of the dial before
    this one, in words; empty before the second.
    """

    def __init__(
        self,
        learner: Address,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        pair: KeyPair | None = None,
    ) -> None:
        super().__init__(context, max_frame_bytes)
        self.learner, self._pair = learner, pair
        self.unsent = 0
        self.trouble = ""
        self.subscribed: Address | None = None
        self._quantity: Quantity = "gradient"  # as the welcome said
        self._link: zmq.Socket[bytes] | None = None
        self._weights: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None  # of the link
        self._on_link: Take = nothing
        self._on_weights: Callable[[list[Frames]], None] = nothing
        self._waiting: list[Frames] = []
        self._again = back_off()
        self._resolver = Resolver(learner) if learner.is_name else None
        self._finding: asyncio.Task[None] | None = None  # where the name leads
        self._early: list[list[bytes]] = []  # sent meanwhile
        self._reached = learner  # the address in numbers
        self._seen = 0  # events of this dial
        self._unknown = ""  # why the name leads nowhere

    def connect(self) -> None:
        """Dials; what is sent meanwhile waits. libzmq redials by itself, and the learner then sees another route.

        The weight stream too, where one was followed: a connection over which packets were lost for long may be alive
        and yet say nothing for as long again, until the other side tries once more. Both try at the same times: whoever
        finds the learner on the link and not on the stream until seconds later sends gradients and sees no weights.
        """
        if self._link is not None or self._unknown:
            self.trouble = self.dial_status
        self._hang_up_link()
        self._again = back_off()
        self._seen, self._unknown = 0, ""
        if self._resolver is None:
            self._reach(self.learner)
            return
        self._early.clear()
        self._finding = asyncio.get_running_loop().create_task(self._find(self._resolver))
        self._finding.add_done_callback(self._found)

    redial = connect  # a fresh DEALER has a fresh routing id and an empty queue

    def _found(self, finding: asyncio.Task[None]) -> None:
        if not finding.cancelled() and isinstance(error := finding.exception(), Exception):
            self._fail(error)  # our own fault

    async def _find(self, resolver: Resolver) -> None:
        """Dials where the name leads: of several addresses the first where somebody listens."""
        try:
            found = await resolver.look_up()
        except NoSuchName as error:
            self._unknown = str(error)
            return
        answering = await first_answering(found) if len(found) > 1 else found[0]
        if answering is None:
            self._unknown = f"nobody listens at any of {', '.join(map(str, found))}"
        self._reach(answering or found[0])

    def _reach(self, address: Address) -> None:
        self._reached = address
        self._link = self._dial(zmq.DEALER, address, DEALER, self._pair, self._again)
        self._monitor = self._link.get_monitor_socket(SEEN)
        self._link.connect(str(address))
        self._watch_link()
        for frames in self._early:
            self.send(frames)
        self._early.clear()
        if self.subscribed is not None:
            self.dial_weights(self.subscribed)

    def subscribe(self, weights: str, quantity: Quantity = "gradient") -> None:
        """Follows the weight stream that a welcome names; raises MessageFault if none of it can be dialled.

        quantity: as in the welcome: how many records may wait here depends on what they are.
        """
        address = weights_address(self.learner, weights)
        if address == self.subscribed:
            return
        self.subscribed, self._quantity = address, quantity
        self.dial_weights(address)

    def dial_weights(self, address: Address) -> None:
        """Connects to the weight stream, in place of the one before."""
        self._hang_up(self._weights)
        if address.host == self.learner.host:
            address = replace(address, host=self._reached.host)
        depth = {zmq.RCVHWM: STREAM_DEPTH[self._quantity]}
        self._weights = self._dial(zmq.SUB, address, depth, self._pair, self._again)
        self._weights.setsockopt(zmq.SUBSCRIBE, PREAMBLE)
        self._weights.connect(str(address))
        self._watch_weights()

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Whether the message was taken: sent, or queued until the link is up. Never blocks."""
        if self._link is None:
            assert self._finding is not None, "connect first"
            taken = len(self._early) < EARLY_MESSAGES
            self._early += [[bytes(frame) for frame in frames]] * taken
        else:
            taken = self._send(self._link, frames) == 0
        self.unsent += not taken
        return taken

    async def receive(self, link: Take, weights: Callable[[list[Frames]], None]) -> None:
        """Calls handlers until ``close``; raises what they raise.

        link: gets each message of the learner. weights: gets all snapshots that were waiting, oldest first, so that
        it can find the newest key frame from the end and decode nothing before it.
        """
        self._begin()
        self._on_link, self._on_weights = link, weights
        self._watch_link()
        self._watch_weights()
        await self._until_over()

    def close(self, linger_ms: int = GOODBYE_MS) -> None:
        """Blocks for ``linger_ms`` at most. ``receive`` returns."""
        self._hang_up_link(linger_ms)
        self._hang_up(self._weights)
        self._weights = None
        if self._resolver is not None:
            self._resolver.close()
        self._finish()

    def _hang_up_link(self, linger_ms: int = 0) -> None:
        if self._finding is not None:
            self._finding.cancel()
        if self._link is not None:
            self._link.disable_monitor()
        self._hang_up(self._monitor)
        self._hang_up(self._link, linger_ms)
        self._link = self._monitor = None

    @property
    def dial_status(self) -> str:
        """How far the present dial has come, in words."""
        if self._unknown:
            return self._unknown
        if self._seen & zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return f"{self._reached} is there, and has not answered"
        if self._seen & zmq.EVENT_CONNECTED and self._pair is not None:
            ours, theirs = f"the key {self._pair.name}: {self._pair.public}", f"{self._pair.learner}"[:8]
            causes = f"`learner keys authorize` has not been told it, or the file is for another learner: {theirs}..."
            causes += ", or this is not a learner's first port, but its second one, its page or another program"
            return f"{self._reached} is there, and has not let in {ours}: {causes}"
        if self._seen & zmq.EVENT_CONNECTED:
            hint = "--key FILE (`learner keys new` makes one there)"
            return f"{self._reached} is there, and if it is a learner, it asks for a key: {hint}"
        if self._seen & zmq.EVENT_CONNECT_RETRIED:
            return f"nobody listens at {self._reached}"
        return f"{self._reached} does not answer"

    def _note(self, frames: Frames) -> None:
        self._seen |= parse_monitor_message([bytes(frame) for frame in frames])["event"]

    def _watch_link(self) -> None:
        if self._over is not None and self._link is not None and self._monitor is not None:
            self._watch(self._monitor, self._note, nothing)
            self._watch(self._link, self._on_link, nothing)

    def _watch_weights(self) -> None:
        if self._over is not None and self._weights is not None:
            self._watch(self._weights, self._keep, self._hand_over, DRAIN_WEIGHTS_S)

    def _keep(self, frames: Frames) -> None:
        if frames != PADDING:
            self._waiting.append(frames)

    def _hand_over(self) -> None:
        if self._waiting:
            waiting = self._waiting[:]
            self._waiting.clear()
            self._on_weights(waiting)
