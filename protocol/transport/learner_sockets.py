"""The learner's sockets, and who may connect. Knows frames and addresses, not messages.

With ``sockets.py`` and ``actor_sockets.py`` the only files that know ZeroMQ. A learner with ``CurveAuth`` speaks CURVE
(ZeroMQ RFC 26): each connection proves a public key, and every message says over whose it came.
"""

from __future__ import annotations

import errno
import ipaddress
import socket as unix
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from protocol.buffers import Buffer, size_of
from protocol.errors import UserError
from protocol.frames import MAX_FRAME_BYTES, Limits
from protocol.messages import Quantity
from protocol.transport.address import ANY_HOST, Address
from protocol.transport.keys import KeyPair, Secret
from protocol.transport.sockets import (
    CURVE_BYTES,
    GOODBYE_MS,
    PADDING,
    PUB,
    ROUTER,
    STREAM_DEPTH,
    STREAM_KEY_FRAMES,
    Frames,
    Sockets,
    nothing,
)

Authenticate = Callable[[str], str | None]  # from a public key the name of its owner; None refuses it


ZAP_ENDPOINT = "inproc://zeromq.zap.01"  # where libzmq asks who may connect (ZeroMQ RFC 27)
ZAP_DOMAIN = b"farflung"
EARLY_FRAME_BYTES = 64 << 10  # until the layout is known: an actor says hello, in 17 kB at most, and waits
REBIND_S, REBIND_STEP_S = 2.0, 0.01  # libzmq gives a port back a moment after its socket was closed


@dataclass(frozen=True, slots=True)
class CurveAuth:
    """Who may reach a learner. secret: its own. authenticate: asked with the public key of each connection, once."""

    secret: Secret
    authenticate: Authenticate


class BindError(UserError):
    """An address that cannot be listened on. address: as asked. problem: why not. code: its errno, where it has one."""

    def __init__(self, address: Address, problem: str, code: int | None = None) -> None:
        super().__init__(address, problem, code=code)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.problem}"


class LearnerSockets(Sockets):
    """ROUTER and PUB of the learner, bound on construction; raises BindError, AddressError.

    Until ``expect`` a frame over TCP has EARLY_FRAME_BYTES at most, and one over ipc, where this machine's own actors
    dial before there is a θ, what the protocol bounds.

    bound: the link's addresses with their real ports. weights: the weight stream's addresses as a welcome names them,
    separated by spaces. quantity: what it tells of, as in a welcome. unreachable, full: messages that ``send``
    refused because their peer is gone, or does not read. auth: who may connect, over CURVE; None admits everybody.
    unauthenticated: connections that were refused. last_unauthenticated: the public key of the last of them.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        quantity: Quantity = "gradient",
        auth: CurveAuth | None = None,
    ) -> None:
        beside = [address.weights() for address in addresses]
        super().__init__(context, MAX_FRAME_BYTES)
        self._peer_limits: Limits | None = None
        self._endpoints: dict[Address, str] = {}  # of the link over TCP, as libzmq names them
        self.unreachable = 0
        self.full = 0
        self.unauthenticated, self.last_unauthenticated = 0, ""
        self._files: list[Path] = []
        self._unbound: list[tuple[bool, Address]] = []  # since cut_off: whether of the stream, and where
        self._auth, self._quantity = auth, quantity
        self._ipv6 = any(address.is_ipv6 for address in addresses)
        self._handler: Callable[[bytes, str, Frames], None] = nothing
        self._from: Any = None  # first frame of the message that is being handled, which knows its connection
        self._zap = None if auth is None else self._open(zmq.REP)
        try:
            if self._zap is not None:
                self._zap.bind(ZAP_ENDPOINT)  # before anybody can connect
            self._open_both()
            self.bound = tuple(self._bind(self._link, address) for address in addresses)
            self._streams = tuple(self._bind(self._weights, address) for address in beside)
        except UserError:
            self.close()
            raise
        self.weights = " ".join(str(replace(stream, host=stream.host and ANY_HOST)) for stream in self._streams)

    def _open_both(self) -> None:
        self._link = self._open(zmq.ROUTER, ROUTER, ipv6=self._ipv6)
        self._weights = self._open(zmq.PUB, {**PUB, zmq.SNDHWM: STREAM_DEPTH[self._quantity]}, ipv6=self._ipv6)
        for socket in (self._link, self._weights):
            if self._auth is not None:
                socket.setsockopt(zmq.CURVE_SERVER, True)
                socket.setsockopt(zmq.CURVE_SECRETKEY, self._auth.secret.reveal())
                socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
                socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, True)  # while nobody answers, nobody comes in

    def set_limits(self, limits: Limits) -> None:
        """Says what messages may have, now that the layout is known: no connection can make us hold a longer frame.

        libzmq gives a connection the bound that its listener was bound with, so addresses of TCP are bound anew, and
        who dialled them before has to dial again. Blocks for REBIND_S at most; raises BindError as ``cut_off`` does.
        """
        self._peer_limits = limits
        self._unbound = [(False, address) for address in self._endpoints]
        for _, address in self._unbound:
            self._link.unbind(self._endpoints.pop(address))
        self.listen(REBIND_S)

    def disconnect_all(self) -> None:
        """Ends every connection and listens again at the same addresses: who may still come in comes back by itself.

        libzmq cannot close one peer's connection. Blocks for REBIND_S at most. Raises BindError where an address is
        taken meanwhile: nobody comes in there until ``listen`` succeeds.
        """
        for socket in (self._link, self._weights):
            self._hang_up(socket)
        self._files.clear()
        self._endpoints.clear()
        self._unbound = [(False, address) for address in self.bound] + [(True, address) for address in self._streams]
        self.listen(REBIND_S)

    def listen(self, patience_s: float = 0.0) -> None:
        """Listens at what ``cut_off`` left; raises the last BindError where that is not all of it."""
        if self._link.closed:
            try:
                self._open_both()
            except zmq.ZMQError as error:  # no descriptors left
                raise BindError(self.bound[0], error.strerror, error.errno) from None
            if self._over is not None:
                self._watch_both()
        until, failed = time.monotonic() + patience_s, None
        for stream, address in list(self._unbound):
            failed = self._rebind(stream, address, until) or failed
        if failed is not None:
            raise failed

    def _rebind(self, stream: bool, address: Address, until: float) -> BindError | None:
        while True:
            try:
                self._bind(self._weights if stream else self._link, address)
            except BindError as error:
                if time.monotonic() >= until:
                    return error
                time.sleep(REBIND_STEP_S)
            else:
                self._unbound.remove((stream, address))
                self._poke(self._link)
                return None

    def _answer_zap(self, frames: Frames) -> None:
        """Answers libzmq's ZAP request: whether a connection may come in."""
        assert self._auth is not None
        assert self._zap is not None
        answer, admitted = zap_answer([bytes(frame) for frame in frames], self._auth.authenticate)
        if not admitted:
            self.unauthenticated += 1
            self.last_unauthenticated = public_key_of(frames)
        self._send(self._zap, answer)

    def send(self, route: bytes, frames: Sequence[Buffer]) -> bool:
        """Whether the message is on its way to the peer that ``route`` came from. Never blocks, never raises for it."""
        problem = self._send(self._link, [route, *frames])
        self.unreachable += problem == errno.EHOSTUNREACH
        self.full += problem == errno.EAGAIN
        return problem == 0

    def publish(self, frames: Sequence[Buffer]) -> None:
        """To every subscriber that keeps up; one that does not misses this message and will see a gap.

        A thick message is led by padding, so that what waits for one that never reads has the bytes of
        STREAM_KEY_FRAMES key frames at most: padding takes the place of messages that would have fitted too.
        """
        if self._peer_limits is not None:
            depth = STREAM_DEPTH[self._quantity]
            shares = sum(map(size_of, frames)) * depth // (STREAM_KEY_FRAMES * self._peer_limits.frame_bytes)
            for _ in range(min(shares, depth // STREAM_KEY_FRAMES - 1)):
                self._send(self._weights, PADDING)
        self._send(self._weights, frames)

    async def receive(self, handler: Callable[[bytes, str, Frames], None]) -> None:
        """Calls ``handler(route, public_key, frames)`` for each message until ``close``; raises what it raises.

        public_key: that the connection proved to have; empty without ``auth``.
        """
        self._begin()
        self._handler = handler
        if self._zap is not None:
            self._watch(self._zap, self._answer_zap, nothing)
        self._watch_both()
        await self._until_over()

    def _watch_both(self) -> None:
        handler, known = self._handler, self._auth is not None

        def take(frames: Frames) -> None:
            first: Any = frames[0]
            self._from = first
            handler(bytes(first), str(first.get("User-Id")) if known else "", frames[1:])

        self._watch(self._link, take, nothing, routed=True)
        self._watch(self._weights, None, nothing)

    def local(self) -> bool:
        """Whether the message that is being handled came over ipc."""
        return not _is_ip(_peer_address(self._from))

    def close(self, linger_ms: int = GOODBYE_MS) -> None:
        """Blocks for ``linger_ms`` at most. ``receive`` returns."""
        while self._files:  # before the sockets close, lest it be the next learner's file that goes
            self._files.pop().unlink(missing_ok=True)
        self._hang_up(self._link, linger_ms)
        self._hang_up(self._weights)
        self._hang_up(self._zap)
        self._finish()

    def _bind(self, socket: zmq.Socket[bytes], address: Address) -> Address:
        if socket is self._link:
            socket.setsockopt(zmq.MAXMSGSIZE, self._frame_bytes(address) + CURVE_BYTES)
        bound = bind_socket(socket, address)
        if socket is self._link and address.scheme == "tcp":
            self._endpoints[bound] = _endpoint(socket)
        if address.scheme == "ipc":
            self._files.append(Path(address.path))
        return bound

    def _frame_bytes(self, address: Address) -> int:
        if self._peer_limits is not None:
            return max(self._peer_limits.header_bytes, self._peer_limits.frame_bytes)
        return EARLY_FRAME_BYTES if address.scheme == "tcp" else MAX_FRAME_BYTES


def zap_answer(request: list[bytes], authenticate: Authenticate) -> tuple[list[bytes], bool]:
    """What to say to a request of libzmq (ZAP, ZeroMQ RFC 27), and whether it lets in. Whatever is odd may not."""
    version, number, domain, _, _, mechanism, *credentials = request
    name = None
    if (version, domain, mechanism) == (b"1.0", ZAP_DOMAIN, b"CURVE") and [len(c) for c in credentials] == [32]:
        public = z85.encode(credentials[0]).decode()
        name = authenticate(public)
    # 300 and not 400, after which libzmq's client never tries again: who is let in later comes in once its refused
    # handshake has run out
    status = (b"200", b"OK", public.encode()) if name is not None else (b"300", b"this key may not come in", b"")
    return [b"1.0", number, *status, b""], name is not None


def public_key_of(request: Sequence[Buffer]) -> str:
    """The public key that a request of libzmq asks for; empty where it names none."""
    return z85.encode(bytes(request[6])).decode() if len(request) == 7 and len(request[6]) == 32 else ""


def bind_socket(socket: zmq.Socket[bytes], address: Address) -> Address:
    """Binds and returns the address with its real port; raises BindError."""
    if address.scheme == "ipc":
        _require_free(address)
    try:
        socket.bind(str(address))
    except zmq.ZMQError as error:
        raise BindError(address, _PROBLEMS.get(error.errno or 0, error.strerror), error.errno) from None
    if address.scheme == "ipc":
        return address
    return replace(address, port=int(_endpoint(socket).rpartition(":")[2]))


def _peer_address(frame: Any) -> str:
    """Whom libzmq says that a frame came from: over TCP an IP address, over ipc a process or nothing."""
    try:
        return str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        return ""


def _is_ip(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()


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
    raise BindError(address, _PROBLEMS[errno.EADDRINUSE], errno.EADDRINUSE)


def new_pair(name: str, learner: str | None = None) -> KeyPair:
    """A fresh pair. learner: the public key of the learner that it is for."""
    public, secret = zmq.curve_keypair()
    return KeyPair(name, public.decode(), Secret(secret.decode()), learner)
