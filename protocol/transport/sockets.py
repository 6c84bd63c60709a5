"""What the sockets of both sides share: their options, how they are read, how they end. Knows ZeroMQ; no role.

Each object here belongs to the thread of one event loop. Sockets are plain ones whose descriptor the loop watches,
which was measured to be faster than ``zmq.asyncio`` and has nothing to lose when a task is cancelled: a message
is either still in the socket or already in the handler's hands.

Delivery is at most once: a message can be lost with its connection, never torn, repeated or reordered within one
connection. Whoever needs more counts and asks again (``protocol.session``).
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from protocol.buffers import PREAMBLE, Buffer
from protocol.messages import Quantity
from protocol.transport.address import Address
from protocol.transport.keys import KeyPair

Frames = list[Buffer]
Options = Mapping[zmq.SocketOption, int]
Take = Callable[[Frames], None]

DRAIN_MESSAGES = 256  # taken per wake-up before the loop's other work gets its turn
DRAIN_S = 0.002  # the same bound in seconds, for messages that are long or slow to handle
DRAIN_WEIGHTS_S = 0.05  # longer: to read an old snapshot is cheaper than to decode it before the newer one is seen
LENT_BYTES = (
    64 << 10
)  # a frame from here on is handed over as libzmq's own memory: copying it would cost more than that
CURVE_BYTES = 33  # what CURVE adds to a frame (RFC 26: 8 of name, 8 of nonce, 16 of seal, 1 of flags)
GOODBYE_MS = 200  # what closing may wait for the last words to leave; one round trip around the earth

EVERY: Options = {
    zmq.LINGER: 0,  # −1, the default, hangs exit behind a peer that is gone; close() allows a goodbye
    zmq.HANDSHAKE_IVL: 10_000,  # ms; a peer that connects and says nothing gives its descriptor back
    zmq.HEARTBEAT_IVL: 0,  # libzmq's own thread answers them for a wedged process, and they cut long frames short
    zmq.TCP_KEEPALIVE: 1,  # a machine that vanished never says so; and NAT forgets a link that is silent for long
    zmq.TCP_KEEPALIVE_IDLE: 60,  # s; below the two minutes after which common routers forget
    zmq.TCP_KEEPALIVE_INTVL: 15,  # s
    zmq.TCP_KEEPALIVE_CNT: 4,  # unanswered probes, so two minutes until a dead link is given back
    zmq.BACKLOG: 1024,  # a fleet that reconnects at once; the default of 100 refuses the rest
}
DIALLING: Options = {
    zmq.IMMEDIATE: 0,  # what is sent while dialling waits for the connection: no hello is lost to the first 50 ms
    zmq.CONNECT_TIMEOUT: 10_000,  # ms; the system's own is minutes
}
ROUTER: Options = {
    zmq.ROUTER_MANDATORY: 1,  # a peer that is gone is told to the sender instead of being swallowed
    zmq.ROUTER_HANDOVER: 0,  # leaked descriptors, and lets one peer take over another's route by naming it
    zmq.SNDHWM: 256,  # messages per peer; credit binds earlier, so only a peer that stopped reading gets here
    zmq.RCVHWM: 64,  # messages per peer, then TCP pushes back; high enough not to cost throughput
}
DEALER: Options = {
    zmq.SNDHWM: 64,  # messages; credit binds earlier
    zmq.RCVHWM: 256,  # messages; verdicts are small
}
PUB: Options = {
    zmq.RCVHWM: 16,  # only subscriptions arrive here
    zmq.MAXMSGSIZE: 1024,  # bytes; likewise, and CURVE's handshake, which has up to 500
}
# Messages of the weight stream that wait for one subscriber, on each side; when full the newest are dropped, so that a
# queue holds old weights and whoever wakes asks for a key frame. Records of updates are thin, and each one that is
# dropped costs a key frame; those are thick, and each of them is worth no more than the one after it. CONFLATE would
# keep the last frame of a message alone. libzmq counts messages and not bytes, so a record that is thicker than its
# share of STREAM_KEY_FRAMES counts as several (``LearnerSockets.publish``).
STREAM_DEPTH: dict[Quantity, int] = {"update": 62, "gradient": 14}
PADDING = [PREAMBLE]  # a message of the weight stream that says nothing
STREAM_KEY_FRAMES = 2  # of which bytes may wait for a subscriber, beside one on its way; depths are multiples of it
RECONNECT_MS = (100, 200)  # drawn once for all sockets of a dial: libzmq adds no jitter once a maximum is set
RECONNECT_MAX_MS = (3_000, 6_000)  # likewise; doubles from the one to the other


_jitter = random.SystemRandom()  # the shared generator belongs to whoever seeded it


class Pump:
    """Hands what arrives on one socket to ``take``, and says ``rested`` whenever it pauses.

    The descriptor of a ZeroMQ socket tells of a change, not of a state, and any call on the socket may use the change
    up. So each wake-up reads until nothing is left or comes back by itself, and each send is followed by ``poke``.
    Without ``take`` the socket is one that only sends: asked now and then, it lets go of peers that are gone.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        take: Take | None,
        rested: Callable[[], None],
        failed: Callable[[Exception], None],
        drain_s: float,
        read: Callable[[zmq.Socket[bytes]], Frames],
    ) -> None:
        self._socket, self._take, self._rested, self._failed = socket, take, rested, failed
        self._drain_s, self._read = drain_s, read
        self._descriptor = socket.fileno()
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.Handle | None = None
        self._running = True
        self._loop.add_reader(self._descriptor, self._drain)
        self.poke()  # what came before we watched

    def poke(self) -> None:
        """Look again soon."""
        if self._again is None and self._running:
            self._again = self._loop.call_soon(self._drain)

    def stop(self) -> None:
        """Leaves the rest in the socket. Safe from within the handler."""
        if not self._running:
            return
        self._running = False
        self._loop.remove_reader(self._descriptor)
        if self._again is not None:
            self._again.cancel()

    def _drain(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        try:
            self._read_some()
            self._rested()
        except Exception as error:  # our own fault, in a handler: it must end the service, not be logged
            self.stop()
            self._failed(error)

    def _read_some(self) -> None:
        if self._take is None:
            self._socket.getsockopt(zmq.EVENTS)
            return
        until = time.perf_counter() + self._drain_s
        for _ in range(DRAIN_MESSAGES):
            try:
                frames = self._read(self._socket)
            except zmq.Again:
                return
            self._take(frames)
            if not self._running:
                return
            if time.perf_counter() > until:
                break
        self.poke()


class Sockets:
    """What both sides share: a context, its sockets, and pumps while ``_receive`` runs."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None, max_frame_bytes: int) -> None:
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._max_frame_bytes = max_frame_bytes
        self._pumps: dict[zmq.Socket[bytes], Pump] = {}
        self._over: asyncio.Future[None] | None = None

    def _open(self, kind: int, *tables: Options, ipv6: bool = False) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.IPV6, ipv6)  # only for such addresses: with it on, localhost is ::1 and nothing else
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_frame_bytes + CURVE_BYTES)  # one frame; frames.check does the rest
        for table in (EVERY, *tables):
            for option, value in table.items():
                socket.setsockopt(option, value)
        return socket

    def _dial(
        self, kind: int, address: Address, table: Options, pair: KeyPair | None, again: Options
    ) -> zmq.Socket[bytes]:
        socket = self._open(kind, DIALLING, table, again, ipv6=address.is_ipv6)
        if pair is not None:
            assert pair.learner is not None, "an actor's key file names its learner"
            socket.setsockopt(zmq.CURVE_SERVERKEY, pair.learner.encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.reveal())
        return socket

    def _watch(
        self,
        socket: zmq.Socket[bytes],
        take: Take | None,
        rested: Callable[[], None],
        drain_s: float = DRAIN_S,
        *,
        routed: bool = False,
    ) -> None:
        read = receive_routed if routed else receive_frames
        self._pumps[socket] = Pump(socket, take, rested, self._fail, drain_s, read)

    def _hang_up(self, socket: zmq.Socket[bytes] | None, linger_ms: int = 0) -> None:
        if socket is None:
            return
        if pump := self._pumps.pop(socket, None):
            pump.stop()
        socket.close(linger_ms)

    def _send(self, socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> int:
        """0, or the errno of a peer that is full or gone. Frames are copied, so the caller may reuse its memory."""
        if socket.closed:
            return errno.EHOSTUNREACH
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (errno.EAGAIN, errno.EHOSTUNREACH):
                return error.errno
            raise
        finally:
            self._poke(socket)
        return 0

    def _poke(self, socket: zmq.Socket[bytes]) -> None:
        if pump := self._pumps.get(socket):
            pump.poke()

    async def _until_over(self) -> None:
        """Runs until the sockets are closed; raises what a handler raised. Cancelling it loses nothing."""
        assert self._over is not None
        try:
            await self._over
        finally:
            self._over = None
            for pump in self._pumps.values():
                pump.stop()
            self._pumps.clear()

    def _begin(self) -> None:
        assert self._over is None, "one receiver at a time"
        self._over = asyncio.get_running_loop().create_future()

    def _fail(self, error: Exception) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    def _finish(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if self._own_context:
            self._context.term()


def back_off() -> Options:
    """When to dial again, drawn anew."""
    first_ms, most_ms = _jitter.randint(*RECONNECT_MS), _jitter.randint(*RECONNECT_MAX_MS)
    return {zmq.RECONNECT_IVL: first_ms, zmq.RECONNECT_IVL_MAX: most_ms}


def receive_frames(socket: zmq.Socket[bytes]) -> Frames:
    """One whole message, or zmq.Again. Asking each frame for ``more`` beats asking the socket by a tenth."""
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    frames: Frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        frames.append(frame.bytes if len(frame) < LENT_BYTES else frame.buffer)
    return frames


def receive_routed(socket: zmq.Socket[bytes]) -> Frames:
    """The same of a ROUTER, whose first frame stays libzmq's, which knows the connection that it came over."""
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    frames: list[Any] = [frame]
    while frame.more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        frames.append(frame.bytes if len(frame) < LENT_BYTES else frame.buffer)
    return frames


def nothing(*_: object) -> None:
    """For a pause that means nothing, and for handlers before ``receive``."""
