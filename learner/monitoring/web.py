"""The learner's pages: metrics, liveness, readiness, status, and one for people. Knows aiohttp; changes nothing.

The page for people is ``learner/monitoring/page``, whose script asks ``/status`` and ``/history``. Nothing else can be
loaded by it, and no script but its own runs in it: names in it come from peers.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import ipaddress
import math
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from learner.monitoring.metrics import CONTENT_TYPE
from learner.monitoring.status import ACTORS_LISTED, FIELDS, FleetQuery, Sampler, history, status
from learner.state import LearnerState
from protocol.errors import UserError
from protocol.process.descriptors import Reserve

SHUTDOWN_S = 0.5  # a page takes milliseconds; nobody waits longer for one at the end

PAGE = Path(__file__).with_name("page")
PARTS = {  # of the page: path, file, type
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/drawing.js": ("drawing.js", "text/javascript"),
    "/numbers.js": ("numbers.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
GUARDED = {  # with every answer
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

MOST = 64  # connections: a browser has six, a scraper one; others would take descriptors from actors
RESERVED = 8  # descriptors for visitors when unauthenticated peers of the links hold all others
LONGEST_S, SWEEP_S = 10.0, 1.0  # from one whole request to the next, or to the first; how often that is looked at
ANY_NAME = ("/metrics", "/livez", "/readyz")  # for machines, which use whatever name they know; numbers alone are there
# Trees of names in which nobody can have one for the public: RFC 6761, 6762, 8375, ICANN's .internal, and Kubernetes'.
INNER = (".localhost", ".local", ".internal", ".home.arpa", ".test", ".svc")

Handler = Callable[[web.Request], Awaitable[web.Response]]
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages ask, each answered at once. alive, ready: None, or in words why not."""

    metrics: Callable[[], bytes]
    alive: Callable[[], str | None]
    ready: Callable[[], str | None]
    status: Callable[[FleetQuery], dict[str, Any]]
    history: Callable[[float], dict[str, Any]]  # its argument: later than that many seconds of training


class PortUnusable(UserError):
    """The pages cannot be served there. host, port: where. cause: why. code: its errno, where it has one."""

    def __init__(self, host: str, port: int, cause: str, code: int | None = None) -> None:
        super().__init__(host, port, cause, code=code)
        self.host, self.port, self.cause = host, port, cause

    def __str__(self) -> str:
        return f"--http {self.host}:{self.port}: {self.cause}"


class WebServer:
    """An HTTP server in the running loop, on a socket that ``bind`` made. names: of hosts under which it may be asked,
    beside those that ``known_host`` knows. It has MOST connections, and none that asks for nothing in LONGEST_S.
    """

    def __init__(self, bound: socket.socket, pages: Pages, names: Collection[str] = ()) -> None:
        self._bound, self._names = bound, {socket.gethostname().lower(), *map(str.lower, names)}
        app = web.Application(middlewares=[self._admit])
        app.add_routes([web.get(path, handler) for path, handler in _handlers(pages).items()])
        app.on_response_prepare.append(_guard)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        self._active: dict[web.RequestHandler, float] = {}  # when each connection came, or last asked for something
        self._ends: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[Any]] = set()
        self._reserve = Reserve(0.0)

    async def start(self) -> int:
        """Listens; returns the port, chosen by the system where it was 0."""
        await self._runner.setup()
        self._bound.setblocking(False)
        self._sweep()
        return int(self._bound.getsockname()[1])

    async def stop(self) -> None:
        """Stops listening and ends open connections."""
        if self._ends is not None:
            self._ends.cancel()
            asyncio.get_running_loop().remove_reader(self._bound)
        self._bound.close()
        await self._runner.cleanup()

    def _accept(self) -> None:
        """Accepts a connection, with a descriptor from the reserve where unauthenticated peers hold all others. Where
        that is empty too, the next sweep of the connections tries again.
        """
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._reserve.lend(self._bound.accept)
        except BlockingIOError:
            return
        except OSError:
            loop.remove_reader(self._bound)
            return
        opening = loop.create_task(loop.connect_accepted_socket(self._make_handler, connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    def _make_handler(self) -> web.RequestHandler:
        """A new connection has room always: where there are MOST, what has said nothing for longest ends."""
        server = self._runner.server
        assert server is not None
        self._forget_closed()
        if len(self._active) >= MOST:
            self._end(min(self._active, key=self._active.__getitem__))
        connection = server()
        self._active[connection] = asyncio.get_running_loop().time()
        return connection

    def _forget_closed(self) -> None:
        """Connections that are over."""
        alive = set(self._runner.server.connections) if self._runner.server else set()
        now = asyncio.get_running_loop().time()
        self._active = {one: at for one, at in self._active.items() if one in alive or now - at < SWEEP_S}

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._reserve.fill(RESERVED)
        loop.add_reader(self._bound, self._accept)
        self._forget_closed()
        for connection in [one for one, since in self._active.items() if loop.time() - since > LONGEST_S]:
            self._end(connection)
        self._ends = loop.call_later(SWEEP_S, self._sweep)

    def _end(self, connection: web.RequestHandler) -> None:
        del self._active[connection]
        connection.force_close()

    @web.middleware
    async def _admit(self, request: web.Request, handler: Next) -> web.StreamResponse:
        """Notes a whole request, and answers a page only under a name that is ours."""
        self._active[request.protocol] = asyncio.get_running_loop().time()
        if request.path not in ANY_NAME and not known_host(request.headers.get("Host", ""), self._names):
            raise web.HTTPMisdirectedRequest(text="not a name of this learner; --http-name NAME lets it be one\n")
        return await handler(request)


def known_host(header: str, names: Collection[str]) -> bool:
    """Whether a browser that sends this Host header was meant to ask us.

    A page of somebody else's may have its own name point to this machine, and then read what is served here. For that
    it needs a name in the public tree: so addresses, names without a dot and those under INNER are ours, and ``names``.
    """
    host = re.sub(r":\d*$", "", header.strip().lower()).strip("[]").removesuffix(".")
    if "." not in host or host in names or host.endswith(INNER):
        return True
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Takes the port before anything expensive is started. Raises PortUnusable."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortUnusable(host, port, _cause(error), error.errno) from None


def _handlers(pages: Pages) -> dict[str, Handler]:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=pages.metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def livez(_: web.Request) -> web.Response:
        return _probe(pages.alive())

    async def readyz(_: web.Request) -> web.Response:
        return _probe(pages.ready())

    async def run_status(request: web.Request) -> web.Response:
        return _json(pages.status(_fleet_query(request.query.get("actors", ""), request.query.get("by", ""))))

    async def run_history(request: web.Request) -> web.Response:
        return _json(pages.history(_seconds(request.query.get("after", "-1"))))

    parts = {path: _part((PAGE / name).read_bytes(), kind) for path, (name, kind) in PARTS.items()}
    return {
        **parts,
        "/metrics": metrics,
        "/livez": livez,
        "/readyz": readyz,
        "/status": run_status,
        "/history": run_history,
    }


def _part(body: bytes, kind: str) -> Handler:
    """A part of the page, which a browser keeps and asks for again: another learner may serve another one there."""
    tag = hashlib.sha256(body).hexdigest()[:16]

    async def part(request: web.Request) -> web.Response:
        known = any(etag.value == tag for etag in request.if_none_match or ())
        answer = web.Response(status=304) if known else web.Response(body=body, content_type=kind, charset="utf-8")
        answer.etag = tag
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    return part


def _json(told: dict[str, Any]) -> web.Response:
    body = msgspec.json.encode(told)
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _fleet_query(actors: str, by: str) -> FleetQuery:
    """What ?actors=50&by=-lag_updates means: the largest 50. Raises HTTPBadRequest."""
    name = by.removeprefix("-") or "ordinal"
    if name not in FIELDS:
        raise web.HTTPBadRequest(text=f"by: one of {', '.join(sorted(FIELDS))}, with - the largest first\n")
    if not re.fullmatch(r"[0-9]{0,4}", actors):
        raise web.HTTPBadRequest(text=f"actors: how many are listed, up to {ACTORS_LISTED}\n")
    return FleetQuery(int(actors) if actors else ACTORS_LISTED, name, by.startswith("-"))


def _seconds(text: str) -> float:
    """Raises HTTPBadRequest."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise web.HTTPBadRequest(text="after: seconds of training, after which points are wanted\n")
    return seconds


async def _guard(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(GUARDED)


def _probe(trouble: str | None) -> web.Response:
    return web.Response(text=f"{trouble or 'ok'}\n", status=503 if trouble else 200)


def _cause(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    return error.strerror or str(error)


def pages_of(
    state: LearnerState,
    metrics: Callable[[], bytes],
    clock: Callable[[], float],
    stuck: Callable[[], str | None],
    sampler: Sampler | None = None,
) -> Pages:
    """The pages of a running learner. stuck: why the math thread is not alive, or None. sampler: of its history."""
    kept = sampler or Sampler()
    return Pages(
        metrics=metrics,
        alive=stuck,
        ready=lambda: None if state.shutdown.running else f"the run is {state.shutdown.stage.value}",
        status=lambda asked: status(state, clock(), kept, asked),
        history=lambda after_s: history(state, kept, after_s),
    )
