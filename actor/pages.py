"""An actor's pages: /metrics for Prometheus, /livez and /readyz for whoever watches. Knows HTTP and one thread.

They are answered by threads of their own, so that an actor whose link is stuck can say so.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from protocol.errors import UserError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"
SILENT_S = 10.0  # a client that says nothing gives its thread back


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


def serve(pages: Pages, host: str, port: int) -> int:
    """Serves them for the rest of the process; returns the port, which the system chooses for 0. Raises UserError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = SILENT_S

        def do_GET(self) -> None:
            status, kind, body = pages.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: a scrape is no news."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise UserError(f"--metrics {host}:{port}: {error.strerror or error}", code=error.errno) from None
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return int(server.server_address[1])
