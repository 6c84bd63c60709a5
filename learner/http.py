"""The learner's pages: metrics, liveness, readiness, status. Knows aiohttp; asks callables and changes nothing."""

from __future__ import annotations

import errno
import html
import itertools
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from learner.console import rows, view
from learner.metrics import CONTENT_TYPE
from learner.state import LearnerState, Stage
from protocol.errors import UserError
from protocol.session import Peer

ACTORS_LISTED = 1000  # in /status; a larger fleet is read from its metrics
SHUTDOWN_S = 0.5  # a page takes milliseconds; nobody waits longer for one at the end

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages ask, each answered at once. alive, ready: None, or in words why not."""

    metrics: Callable[[], bytes]
    alive: Callable[[], str | None]
    ready: Callable[[], str | None]
    status: Callable[[], dict[str, Any]]
    rows: Callable[[], list[tuple[str, str]]]  # of the front page


class PortUnusable(UserError):
    """The pages cannot be served there. host, port: where. cause: why."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(host, port, cause)
        self.host, self.port, self.cause = host, port, cause

    def __str__(self) -> str:
        return f"--http {self.host}:{self.port}: {self.cause}"


class Site:
    """An HTTP server in the running loop, on a socket that ``bind`` made."""

    def __init__(self, bound: socket.socket, pages: Pages) -> None:
        self._bound = bound
        app = web.Application()
        app.add_routes([web.get(path, handler) for path, handler in _handlers(pages).items()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> int:
        """Listens; returns the port, chosen by the system where it was 0."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._bound).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stops listening and ends open connections."""
        await self._runner.cleanup()


def bind(host: str, port: int) -> socket.socket:
    """Takes the port before anything expensive is started. Raises PortUnusable."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortUnusable(host, port, _cause(error)) from None


def _handlers(pages: Pages) -> dict[str, Handler]:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=pages.metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def livez(_: web.Request) -> web.Response:
        return _probe(pages.alive())

    async def readyz(_: web.Request) -> web.Response:
        return _probe(pages.ready())

    async def status(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(pages.status()), content_type="application/json")

    async def front(_: web.Request) -> web.Response:
        return web.Response(text=front_page(pages.rows()), content_type="text/html")

    return {"/": front, "/metrics": metrics, "/livez": livez, "/readyz": readyz, "/status": status}


def _probe(trouble: str | None) -> web.Response:
    return web.Response(text=f"{trouble or 'ok'}\n", status=503 if trouble else 200)


def _cause(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    return error.strerror or str(error)


def front_page(shown: list[tuple[str, str]]) -> str:
    """A table that renews itself every two seconds, and where the rest is."""
    cells = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in shown)
    links = " ".join(f'<a href="{path}">{path}</a>' for path in ("/status", "/metrics", "/livez", "/readyz"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        "<title>Farflung learner</title><style>body{font-family:sans-serif;margin:2em}th{text-align:left;"
        "padding-right:2em;font-weight:normal}</style><h1>Farflung learner</h1>"
        f"<table>{cells}</table><p>{links}</html>"
    )


def pages_of(
    state: LearnerState, metrics: Callable[[], bytes], clock: Callable[[], float], stuck: Callable[[], str | None]
) -> Pages:
    """The pages of a running learner. stuck: why the math thread is not alive, or None."""
    return Pages(
        metrics=metrics,
        alive=stuck,
        ready=lambda: None if state.stage is Stage.RUNNING else f"the run is {state.stage.value}",
        status=lambda: status(state, clock()),
        rows=lambda: rows(view(state, clock())),
    )


def status(state: LearnerState, now: float) -> dict[str, Any]:
    """The JSON of /status: the run, and each actor up to ACTORS_LISTED."""
    seen = view(state, now)
    return {
        "run": state.manifest.run,
        "env": state.manifest.env,
        "seed": state.manifest.seed,
        "epoch": state.address.epoch,
        "version": state.progress.updates,
        "parameters": state.manifest.layout.length,
        "solved": state.solved,
        "wall_s": round(seen.wall_s, 3),
        **{key: value for key, value in seen.fields().items() if not key.endswith("_per_s")},
        "target_version": state.publication.shelf.target_version,
        "evaluated_best_version": state.progress.evaluated_best_version,
        "staleness_rule": state.settings.staleness_rule,
        "rulings": dict(state.progress.rulings),
        "faults": dict(state.progress.faults),
        "actor_list": [_actor(p, state, now) for p in itertools.islice(state.peers.values(), ACTORS_LISTED)],
    }


def _actor(peer: Peer, state: LearnerState, now: float) -> dict[str, object]:
    return {
        "name": peer.name,
        "role": peer.role,
        "ordinal": peer.ordinal,
        "env_steps": peer.env_steps,
        "gradients": peer.gradients,
        "lag_updates": max(0, state.progress.updates - peer.version),
        "silent_s": round(now - peer.heard_at, 3),
        "no_progress_s": round(now - peer.progressed_at, 3),
        "bytes_up": peer.bytes_up,
    }
