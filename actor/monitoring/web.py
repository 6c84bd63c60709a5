"""An actor's pages: /metrics for Prometheus, /livez and /readyz for whoever watches. Knows HTTP and one thread.

They are answered by threads of their own, so that an actor whose link is stuck can say so. Threads are few, and a
connection is short, whatever clients do.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from protocol.errors import UserError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"
MOST = 16  # connections at a time, each with a thread: Prometheus and the probes take one for some milliseconds
LONGEST_S = 10.0  # of a connection: a client that says nothing, or little by little, gives its thread back


@dataclass(frozen=True, slots=True)
class Pages:
    """What is served. alive, ready: what is wrong, or None."""

    metrics: Callable[[], bytes]
    alive: Callable[[], str | None]
    ready: Callable[[], str | None]

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if path == "/metrics":
            return 200, METRICS_TYPE, self.metrics()
        if path in ("/livez", "/readyz"):
            trouble = self.alive() if path == "/livez" else self.ready()
            return (503 if trouble else 200), TEXT_TYPE, f"{trouble or 'ok'}\n".encode()
        return 404, TEXT_TYPE, b"there are /metrics, /livez and /readyz\n"


class _Server(ThreadingHTTPServer):
    """With bounds: MOST connections, each for LONGEST_S. clock: monotonic seconds."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler], clock: Callable[[], float]) -> None:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self._clock = clock
        self._since: dict[socket.socket, float] = {}  # when each open connection came
        super().__init__((str(place[0]), port), handler)

    def process_request(self, request: Any, client_address: object) -> None:
        if len(self._since) >= MOST:
            self.shutdown_request(request)
            return
        self._since[request] = self._clock()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: ends what is too long, which its thread sees as the client's end."""
        for request, since in self._since.copy().items():
            if self._clock() - since > LONGEST_S:
                with contextlib.suppress(OSError):  # it ended by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Nothing: a client that broke off is no news, and stderr holds JSON events alone."""


def serve(pages: Pages, host: str, port: int, clock: Callable[[], float] = time.monotonic) -> int:
    """Serves them for the rest of the process; returns the port, which the system chooses for 0. Raises UserError."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = pages.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: a scrape is no news."""

    try:
        server = _Server(host, port, Handler, clock)
    except OSError as error:
        raise UserError(f"--metrics {host}:{port}: {error.strerror or error}", code=error.errno) from None
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return int(server.server_address[1])
