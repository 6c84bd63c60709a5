"""Where a host's name leads: its addresses of both families, and which of them answers. Knows the resolver; no ZeroMQ.

A name is looked up whenever it is dialled, because where it leads may have changed, and never on the loop's thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace

from protocol.transport.address import Address

LOOK_UP_S = 5.0  # a resolver that does not answer tries its servers for up to half a minute
ANSWER_S = 3.0  # for a connection to one of several addresses; a round trip around the earth is a tenth of it
HEAD_START_S = 0.25  # of each address before the next (RFC 8305, section 8)
MOST_ADDRESSES = 8  # tried of one name


class NoSuchName(Exception):
    """A host's name that leads nowhere. Its text says how the resolver put it."""


class Resolver:
    """Looks up one name, again and again. A question that was given up on is waited for instead of asked twice."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._question: asyncio.Task[Sequence[tuple[object, ...]]] | None = None

    async def look_up(self) -> list[Address]:
        """Its addresses, as numbers, in the resolver's order. Raises NoSuchName, also for want of an answer."""
        if self._question is None:
            self._question = asyncio.create_task(self._ask())
        question = self._question
        done, _ = await asyncio.wait([question], timeout=LOOK_UP_S)
        if not done:
            raise NoSuchName(f"nobody has told within {LOOK_UP_S:g} s where {self._address.host} is")
        self._question = None
        try:
            found = question.result()
        except OSError as error:
            raise NoSuchName(f"no such name: {self._address.host} ({error.strerror or error})") from None
        hosts = dict.fromkeys(str(place[4][0]) for place in found)  # type: ignore[index]
        numbers = [f"[{host}]" if ":" in host else host for host in hosts]
        return [replace(self._address, host=number) for number in numbers[:MOST_ADDRESSES]]

    async def _ask(self) -> Sequence[tuple[object, ...]]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)

    def close(self) -> None:
        """Waits for no answer any more."""
        if self._question is not None:
            self._question.cancel()


async def first_answering(addresses: Sequence[Address]) -> Address | None:
    """The first of several addresses where somebody listens; None where nobody does at any."""
    trying = [asyncio.create_task(_try(address, HEAD_START_S * n)) for n, address in enumerate(addresses)]
    try:
        for done in asyncio.as_completed(trying):
            if (answering := await done) is not None:
                return answering
        return None
    finally:
        for attempt in trying:
            attempt.cancel()


async def _try(address: Address, delay_s: float) -> Address | None:
    await asyncio.sleep(delay_s)
    try:
        async with asyncio.timeout(ANSWER_S):
            _, connection = await asyncio.open_connection(address.host.strip("[]"), address.port)
    except (OSError, TimeoutError):
        return None
    connection.close()
    return address
