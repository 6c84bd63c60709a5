"""Sockets: the only file that knows ZeroMQ, and every socket option. Knows frames, not messages.

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
import socket as unix
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import zmq

from protocol.errors import UserError
from protocol.frames import MAX_FRAME_BYTES
from protocol.messages import PREAMBLE, Buffer, Quantity
from protocol.security import ANY_HOST, Address, weights_address

Frames = list[Buffer]
Options = Mapping[zmq.SocketOption, int]
Take = Callable[[Frames], None]

DRAIN_MESSAGES = 256  # taken per wake-up before the loop's other work gets its turn
DRAIN_S = 0.002  # the same bound in seconds, for messages that are long or slow to handle
DRAIN_WEIGHTS_S = 0.05  # longer: to read an old snapshot is cheaper than to decode it before the newer one is seen
LENT_BYTES = (
    64 << 10
)  # a frame from here on is handed over as libzmq's own memory: copying it would cost more than that
GOODBYE_MS = 200  # what closing may wait for the last words to leave; one round trip around the earth

_EVERY: Options = {
    zmq.LINGER: 0,  # −1, the default, hangs exit behind a peer that is gone; close() allows a goodbye
    zmq.HANDSHAKE_IVL: 10_000,  # ms; a stranger who connects and says nothing gives its descriptor back
    zmq.HEARTBEAT_IVL: 0,  # libzmq's own thread answers them for a wedged process, and they cut long frames short
    zmq.TCP_KEEPALIVE: 1,  # a machine that vanished never says so; and NAT forgets a link that is silent for long
    zmq.TCP_KEEPALIVE_IDLE: 60,  # s; below the two minutes after which common routers forget
    zmq.TCP_KEEPALIVE_INTVL: 15,  # s
    zmq.TCP_KEEPALIVE_CNT: 4,  # unanswered probes, so two minutes until a dead link is given back
    zmq.BACKLOG: 1024,  # a fleet that reconnects at once; the default of 100 refuses the rest
}
_DIALLING: Options = {
    zmq.IMMEDIATE: 0,  # what is sent while dialling waits for the connection: no hello is lost to the first 50 ms
    zmq.CONNECT_TIMEOUT: 10_000,  # ms; the system's own is minutes
}
_ROUTER: Options = {
    zmq.ROUTER_MANDATORY: 1,  # a peer that is gone is told to the sender instead of being swallowed
    zmq.ROUTER_HANDOVER: 0,  # leaked descriptors, and lets one peer take over another's route by naming it
    zmq.SNDHWM: 256,  # messages per peer; credit binds earlier, so only a peer that stopped reading gets here
    zmq.RCVHWM: 64,  # messages per peer, then TCP pushes back; high enough not to cost throughput
}
_DEALER: Options = {
    zmq.SNDHWM: 64,  # messages; credit binds earlier
    zmq.RCVHWM: 256,  # messages; verdicts are small
}
_PUB: Options = {
    zmq.RCVHWM: 16,  # only subscriptions arrive here
    zmq.MAXMSGSIZE: 256,  # bytes; likewise
}
# Messages of the weight stream that wait for one subscriber, on each side; when full the newest are dropped, so that a
# queue holds old weights and whoever wakes asks for a key. Records of updates are thin, and each one that is dropped
# costs a key; keys are thick, and each of them is worth no more than the one after it. CONFLATE would keep the last
# frame of a message alone.
STREAM_DEPTH: dict[Quantity, int] = {"update": 64, "gradient": 16}
RECONNECT_MS = (100, 200)  # drawn once per socket: libzmq adds no jitter of its own once a maximum is set
RECONNECT_MAX_MS = (3_000, 6_000)  # likewise; doubles from the one to the other

_jitter = random.SystemRandom()  # the shared generator belongs to whoever seeded it


class BindError(UserError):
    """An address that cannot be listened on. address: as asked. problem: why not."""

    def __init__(self, address: Address, problem: str) -> None:
        super().__init__(address, problem)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.problem}"


class _Pump:
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
    ) -> None:
        self._socket, self._take, self._rested, self._failed = socket, take, rested, failed
        self._drain_s = drain_s
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
                frames = _receive(self._socket)
            except zmq.Again:
                return
            self._take(frames)
            if not self._running:
                return
            if time.perf_counter() > until:
                break
        self.poke()


class _Sockets:
    """What both sides share: a context, its sockets, and pumps while ``_receive`` runs."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None, max_frame_bytes: int) -> None:
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._max_frame_bytes = max_frame_bytes
        self._pumps: dict[zmq.Socket[bytes], _Pump] = {}
        self._over: asyncio.Future[None] | None = None

    def _open(self, kind: int, *tables: Options, ipv6: bool = False) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.IPV6, ipv6)  # only for such addresses: with it on, localhost is ::1 and nothing else
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_frame_bytes)  # one frame; frames.check bounds the message
        for table in (_EVERY, *tables):
            for option, value in table.items():
                socket.setsockopt(option, value)
        return socket

    def _dial(self, kind: int, address: Address, table: Options) -> zmq.Socket[bytes]:
        socket = self._open(kind, _DIALLING, table, ipv6=address.is_ipv6)
        socket.setsockopt(zmq.RECONNECT_IVL, _jitter.randint(*RECONNECT_MS))
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _jitter.randint(*RECONNECT_MAX_MS))
        return socket

    def _watch(
        self, socket: zmq.Socket[bytes], take: Take | None, rested: Callable[[], None], drain_s: float = DRAIN_S
    ) -> None:
        self._pumps[socket] = _Pump(socket, take, rested, self._fail, drain_s)

    def _hang_up(self, socket: zmq.Socket[bytes] | None, linger_ms: int = 0) -> None:
        if socket is None:
            return
        if pump := self._pumps.pop(socket, None):
            pump.stop()
        socket.close(linger_ms)

    def _send(self, socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> int:
        """0, or the errno of a peer that is full or gone. Frames are copied, so the caller may reuse its memory."""
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (errno.EAGAIN, errno.EHOSTUNREACH):
                return error.errno
            raise
        finally:
            if pump := self._pumps.get(socket):
                pump.poke()
        return 0

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


class LearnerSockets(_Sockets):
    """ROUTER and PUB of the learner, bound on construction; raises BindError, AddressError.

    bound: the link's addresses with their real ports. weights: the weight stream's addresses as a welcome names them,
    separated by spaces. quantity: what it tells of, as in a welcome. unreachable, full: messages that ``send``
    refused because their peer is gone, or does not read.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        quantity: Quantity = "gradient",
    ) -> None:
        beside = [address.weights() for address in addresses]
        super().__init__(context, max_frame_bytes)
        self.unreachable = 0
        self.full = 0
        self._files: list[Path] = []
        ipv6 = any(address.is_ipv6 for address in addresses)
        self._link = self._open(zmq.ROUTER, _ROUTER, ipv6=ipv6)
        self._weights = self._open(zmq.PUB, {**_PUB, zmq.SNDHWM: STREAM_DEPTH[quantity]}, ipv6=ipv6)
        try:
            self.bound = tuple(self._bind(self._link, address) for address in addresses)
            streams = [self._bind(self._weights, address) for address in beside]
        except UserError:
            self.close()
            raise
        self.weights = " ".join(str(replace(stream, host=stream.host and ANY_HOST)) for stream in streams)

    def send(self, route: bytes, frames: Sequence[Buffer]) -> bool:
        """Whether the message is on its way to the peer that ``route`` came from. Never blocks, never raises for it."""
        problem = self._send(self._link, [route, *frames])
        self.unreachable += problem == errno.EHOSTUNREACH
        self.full += problem == errno.EAGAIN
        return problem == 0

    def publish(self, frames: Sequence[Buffer]) -> None:
        """To every subscriber that keeps up; one that does not misses this message and will see a gap."""
        self._send(self._weights, frames)

    async def receive(self, handler: Callable[[bytes, Frames], None]) -> None:
        """Calls ``handler(route, frames)`` for each message until ``close``; raises what it raises."""
        self._begin()
        self._watch(self._link, lambda frames: handler(bytes(frames[0]), frames[1:]), _nothing)
        self._watch(self._weights, None, _nothing)
        await self._until_over()

    def close(self, linger_ms: int = GOODBYE_MS) -> None:
        """Blocks for ``linger_ms`` at most. ``receive`` returns."""
        while self._files:  # before the sockets close, lest it be the next learner's file that goes
            self._files.pop().unlink(missing_ok=True)
        self._hang_up(self._link, linger_ms)
        self._hang_up(self._weights)
        self._finish()

    def _bind(self, socket: zmq.Socket[bytes], address: Address) -> Address:
        bound = _bind(socket, address)
        if address.scheme == "ipc":
            self._files.append(Path(address.path))
        return bound


class ActorSockets(_Sockets):
    """DEALER and SUB of an actor. Nothing is opened before ``connect``. unsent: messages that ``send`` refused."""

    def __init__(
        self,
        learner: Address,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        super().__init__(context, max_frame_bytes)
        self.learner = learner
        self.unsent = 0
        self.subscribed: Address | None = None
        self._link: zmq.Socket[bytes] | None = None
        self._weights: zmq.Socket[bytes] | None = None
        self._on_link: Take = _nothing
        self._on_weights: Callable[[list[Frames]], None] = _nothing
        self._waiting: list[Frames] = []

    def connect(self) -> None:
        """Dials; what is sent meanwhile waits. libzmq redials by itself, and the learner then sees another route."""
        self._hang_up(self._link)
        self._link = self._dial(zmq.DEALER, self.learner, _DEALER)
        self._link.connect(str(self.learner))
        self._watch_link()

    redial = connect  # a fresh DEALER has a fresh routing id and an empty queue

    def subscribe(self, weights: str, quantity: Quantity = "gradient") -> None:
        """Follows the weight stream that a welcome names; raises MessageFault if none of it can be dialled.

        quantity: as in the welcome: how many records may wait here depends on what they are.
        """
        address = weights_address(self.learner, weights)
        if address == self.subscribed:
            return
        self._hang_up(self._weights)
        self.subscribed = address
        self._weights = self._dial(zmq.SUB, address, {zmq.RCVHWM: STREAM_DEPTH[quantity]})
        self._weights.setsockopt(zmq.SUBSCRIBE, PREAMBLE)
        self._weights.connect(str(address))
        self._watch_weights()

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Whether the message was taken: sent, or queued until the link is up. Never blocks."""
        assert self._link is not None, "connect first"
        taken = self._send(self._link, frames) == 0
        self.unsent += not taken
        return taken

    async def receive(self, link: Take, weights: Callable[[list[Frames]], None]) -> None:
        """Calls handlers until ``close``; raises what they raise.

        link: gets each message of the learner. weights: gets all snapshots that were waiting, oldest first, so that
        it can find the newest key from the end and decode nothing before it.
        """
        self._begin()
        self._on_link, self._on_weights = link, weights
        self._watch_link()
        self._watch_weights()
        await self._until_over()

    def close(self, linger_ms: int = GOODBYE_MS) -> None:
        """Blocks for ``linger_ms`` at most. ``receive`` returns."""
        self._hang_up(self._link, linger_ms)
        self._hang_up(self._weights)
        self._link = self._weights = None
        self._finish()

    def _watch_link(self) -> None:
        if self._over is not None and self._link is not None:
            self._watch(self._link, self._on_link, _nothing)

    def _watch_weights(self) -> None:
        if self._over is not None and self._weights is not None:
            self._watch(self._weights, self._waiting.append, self._hand_over, DRAIN_WEIGHTS_S)

    def _hand_over(self) -> None:
        if self._waiting:
            waiting = self._waiting[:]
            self._waiting.clear()
            self._on_weights(waiting)


def _receive(socket: zmq.Socket[bytes]) -> Frames:
    """One whole message, or zmq.Again. Asking each frame for ``more`` beats asking the socket by a tenth."""
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    frames: Frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        frames.append(frame.bytes if len(frame) < LENT_BYTES else frame.buffer)
    return frames


def _bind(socket: zmq.Socket[bytes], address: Address) -> Address:
    """Binds and returns the address with its real port; raises BindError."""
    if address.scheme == "ipc":
        _require_free(address)
    try:
        socket.bind(str(address))
    except zmq.ZMQError as error:
        raise BindError(address, _PROBLEMS.get(error.errno or 0, error.strerror)) from None
    if address.scheme == "ipc":
        return address
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return replace(address, port=int(endpoint.rstrip(b"\0").rpartition(b":")[2]))


_PROBLEMS = {
    errno.EADDRINUSE: "it is in use; another learner may be running",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.ENODEV: "no interface of this machine has that address",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is not a folder",
    errno.EACCES: "this user may not",
}


def _require_free(address: Address) -> None:
    """libzmq removes whatever lies at an ipc path, a live learner's socket or a file; raises BindError instead."""
    path = Path(address.path)
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise BindError(address, "a file that is not a socket lies there")
        with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a listener whose backlog is full is alive too
            probe.connect(address.path)
    except BlockingIOError:
        pass
    except OSError:  # nothing there, or nobody behind it: what a learner that was killed leaves
        return
    raise BindError(address, _PROBLEMS[errno.EADDRINUSE])


def _nothing(*_: object) -> None:
    """For a pause that means nothing, and for handlers before ``receive``."""
