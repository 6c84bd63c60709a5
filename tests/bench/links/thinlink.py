"""A thin link in front of a learner: bytes leave one behind the other at a rate, and arrive later. Knows asyncio.

Listens on another loopback address under the learner's own ports, so that an actor that dials it finds the weight
stream there too (a welcome names the port and leaves the host to the actor). Each direction has one rate for all
connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

CHUNK = 2_048  # bytes that leave at a time
BACKLOG_S = 0.1  # of bytes that wait in the link, as in a home router; then TCP pushes back


class Direction:
    """One way of the link. carried: bytes so far."""

    def __init__(self, bytes_per_s: float, delay_s: float) -> None:
        self.bytes_per_s, self.delay_s = bytes_per_s, delay_s
        self.carried = 0
        self._free_at = 0.0

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Until either end closes."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(4096)
        arriving = loop.create_task(self._arrive(under_way, sink))
        try:
            while data := await source.read(CHUNK):
                self._free_at = max(loop.time(), self._free_at) + len(data) / self.bytes_per_s
                await under_way.put((self._free_at + self.delay_s, data))
                self.carried += len(data)
                await asyncio.sleep(max(0.0, self._free_at - loop.time() - BACKLOG_S))
            await under_way.put((0.0, b""))
            await arriving
        finally:
            arriving.cancel()
            sink.close()

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            when, data = await under_way.get()
            if not data:
                return
            await asyncio.sleep(max(0.0, when - loop.time()))
            sink.write(data)
            await sink.drain()


class ThinLink:
    """Both ways between ``host``, where actors dial, and a learner on 127.0.0.1. ports: of its link and its stream."""

    def __init__(self, host: str, ports: Sequence[int], up: Direction, down: Direction) -> None:
        self.up, self.down = up, down
        self._host, self._ports = host, ports
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> ThinLink:
        for port in self._ports:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
                with contextlib.suppress(OSError, asyncio.CancelledError):  # either end went, or the link is taken down
                    back, forth = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
                    await asyncio.gather(self.up.carry(reader, forth), self.down.carry(back, writer))

            self._servers.append(await asyncio.start_server(serve, self._host, port, limit=CHUNK))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
