"""Whether the server that a sink is to tell answers at all: their own clients try for minutes first. Knows sockets."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

CONNECT_S = 5.0  # a connection over a slow link takes one
PORTS = {"http": 80, "https": 443}


class Unreachable(Exception):
    """A server that does not answer. where: its address. cause: why not."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(where, cause)
        self.where, self.cause = where, cause

    def __str__(self) -> str:
        return f"{self.where} cannot be reached: {self.cause}"


def shown(url: str) -> str:
    """A URL without the password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def require_reachable(url: str) -> None:
    """Raises Unreachable. What is no http or https, or goes by a proxy, is not tried."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        return
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        return
    try:
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), CONNECT_S).close()
    except (OSError, ValueError) as error:  # or the port is none
        raise Unreachable(shown(url), str(getattr(error, "strerror", None) or error)) from None
