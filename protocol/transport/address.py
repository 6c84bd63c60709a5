"""Addresses, and which of them may be opened to whom. Pure. Knows texts, not sockets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Literal

from protocol.errors import MessageFault, Reason, UserError

MAX_IPC_PATH_BYTES = 107  # sun_path holds 108 with its closing zero; a longer path would be cut short in silence
MAX_PORT = 65_535
WEIGHTS_SUFFIX = ".weights"
ANY_HOST = "*"

ACCEPTED = "tcp://HOST:PORT (an IPv6 address in brackets; to listen, also * as HOST or PORT) or ipc://PATH"

_IPV4 = re.compile(r"[0-9.]+", re.ASCII)
_TCP = re.compile(r"(?P<host>\*|\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|[\w.-]+):(?P<port>\*|\d{1,5})", re.ASCII)


class AddressError(UserError):
    """An address that cannot be used. value: as it was typed. problem: why not."""

    def __init__(self, value: str, problem: str) -> None:
        super().__init__(value, problem)
        self.value, self.problem = value, problem

    def __str__(self) -> str:
        return f"address {self.value!r}: {self.problem}; accepted: {ACCEPTED}"


class ExposedAddressError(UserError):
    """An address that other machines can reach, asked for without saying that this is meant."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.address = address

    def __str__(self) -> str:
        return (
            f"address {str(self.address)!r} can be reached from other machines, and whoever reaches it can take part "
            "without a key; say --keys DIR (learner keys new NAME makes them), listen on tcp://127.0.0.1:PORT or "
            "ipc://PATH, or say --insecure on a network you trust"
        )


@dataclass(frozen=True)
class Address:
    """One end of a link.

    host: a name, an IPv4 address, a bracketed IPv6 address or ``*`` for every interface (tcp only, else "").
    port: 0 <= port <= 65535; 0 lets the system choose (tcp only). path: of the socket's file (ipc only).
    """

    scheme: Literal["tcp", "ipc"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "ipc":
            return f"ipc://{self.path}"
        return f"tcp://{self.host}:{self.port or '*'}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return self.host.startswith("[")

    @property
    def is_name(self) -> bool:
        """Whether the host has to be looked up: it is neither an address in numbers nor ``*``."""
        return self.scheme == "tcp" and not (self.is_ipv6 or self.host == ANY_HOST or _IPV4.fullmatch(self.host))

    def weights(self) -> Address:
        """Where the weight stream of a learner bound here is bound."""
        if self.scheme == "ipc":
            path = self.path + WEIGHTS_SUFFIX
            if len(path.encode()) > MAX_IPC_PATH_BYTES:
                raise AddressError(str(self), f"its path with {WEIGHTS_SUFFIX} passes {MAX_IPC_PATH_BYTES} bytes")
            return replace(self, path=path)
        if self.port == MAX_PORT:
            raise AddressError(str(self), "the weight stream takes the next port, and there is none")
        return replace(self, port=self.port + 1 if self.port else 0)


def parse_address(text: str) -> Address:
    """The address that ``text`` names; raises AddressError."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "ipc":
        return _ipc(text, rest)
    if separator and scheme == "tcp":
        return _tcp(text, rest)
    raise AddressError(text, "it begins with neither tcp:// nor ipc://")


def parse_learner_address(text: str) -> Address:
    """An address that an actor can dial: a whole one, without ``*``; raises AddressError."""
    address = parse_address(text)
    if address.scheme == "tcp" and (address.host == ANY_HOST or address.port == 0):
        raise AddressError(text, "an actor needs the learner's host and port, not *")
    return address


def weights_address(learner: Address, advertised: str) -> Address:
    """Which of the ``advertised`` addresses to subscribe to after dialling ``learner``; raises MessageFault."""
    try:
        streams = [parse_address(text) for text in advertised.split()]
    except AddressError as error:
        raise MessageFault(Reason.MALFORMED_MESSAGE, f"the welcome names a weight stream badly: {error}") from None
    fitting = [stream for stream in streams if stream.scheme == learner.scheme]
    if not fitting:
        raise MessageFault(Reason.MALFORMED_MESSAGE, f"no {learner.scheme} weight stream in {advertised!r}")
    beside = [s for s in fitting if s.port == learner.port + 1 or s.path == learner.path + WEIGHTS_SUFFIX]
    chosen = (beside or fitting)[0]
    return replace(chosen, host=learner.host) if chosen.host == ANY_HOST else chosen


def is_local(address: Address) -> bool:
    """Whether only processes of this machine can reach it."""
    if address.scheme == "ipc" or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host.strip("[]")).is_loopback
    except ValueError:  # a name or *: whatever it means today, another machine may be able to reach it
        return False


def require_private(address: Address, insecure: bool) -> None:
    """Raises ExposedAddressError where other machines can reach it, unless ``insecure`` says that this is meant."""
    if not insecure and not is_local(address):
        raise ExposedAddressError(address)


def _ipc(text: str, path: str) -> Address:
    if not path or path[0] in "*@" or "\0" in path:
        raise AddressError(text, "an ipc address needs the path of a file")
    length_bytes = len(path.encode(errors="surrogatepass"))
    if length_bytes > MAX_IPC_PATH_BYTES:
        raise AddressError(text, f"its path has {length_bytes} bytes and may have {MAX_IPC_PATH_BYTES}")
    return Address("ipc", path=path)


def _tcp(text: str, rest: str) -> Address:
    match = _TCP.fullmatch(rest)
    if match is None:
        raise AddressError(text, "this is not HOST:PORT")
    host, port = match["host"], 0 if match["port"] == "*" else int(match["port"])
    if port > MAX_PORT:
        raise AddressError(text, f"a port is at most {MAX_PORT}")
    if host.startswith("[") and not _is_ipv6(host):
        raise AddressError(text, f"{host} is not an IPv6 address")
    return Address("tcp", host=host, port=port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host.strip("[]"))
    except ValueError:
        return False
    return True
