"""A long thin link between network namespaces: ``python -m tests.bench.links.relay A B UP_KBPS DOWN_KBPS DELAY_MS``.

A TUN device in each namespace and this process between them: packets leave one behind the other at a rate and arrive a
delay later, whatever the kernel can shape. What would wait for longer than BACKLOG_S is dropped, as a router would. A
is 10.77.0.1 and B 10.77.0.2; up is from A to B. A rate of 0 is no bound. Linux and root only; ends when it is killed.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time

ADDRESSES = ("10.77.0.1", "10.77.0.2")
BACKLOG_S = 0.2
PACKET = 65_536
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def tunnel(name: str, namespace: str, address: str, peer: str) -> int:
    """A TUN device in the namespace, up; its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        f"ip link set {name} netns {namespace}",
        f"ip -n {namespace} addr add {address} peer {peer} dev {name}",
        f"ip -n {namespace} link set lo up",
        f"ip -n {namespace} link set {name} up",
    ):
        subprocess.run(command.split(), check=True)
    return descriptor


def relay(first: int, second: int, rates: tuple[float, float], delay_s: float) -> None:
    """For good. rates: bytes a second, from the first to the second and back; 0 for no bound."""
    ways = {first: (second, rates[0]), second: (first, rates[1])}
    free_at = dict.fromkeys(ways, 0.0)  # when what waits to leave has left
    under_way: list[tuple[float, int, int, bytes]] = []  # arrival, number, whereto, packet
    number = 0
    while True:
        now = time.monotonic()
        patience_s = 0.05 if not under_way else max(0.0, under_way[0][0] - now)
        for source in select.select(list(ways), [], [], patience_s)[0]:
            target, rate = ways[source]
            for packet in _read(source):
                left_at = max(time.monotonic(), free_at[source])
                if left_at - time.monotonic() > BACKLOG_S:
                    continue
                free_at[source] = left_at + (len(packet) / rate if rate else 0.0)
                number += 1
                heapq.heappush(under_way, (free_at[source] + delay_s, number, target, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(under_way)
            try:
                os.write(target, packet)
            except OSError:
                continue  # its other end is not up, or full: lost, as on any link


def _read(source: int) -> list[bytes]:
    packets: list[bytes] = []
    while len(packets) < 64:
        try:
            packets.append(os.read(source, PACKET))
        except BlockingIOError:
            break
    return packets


if __name__ == "__main__":
    _, a, b, up_kbps, down_kbps, delay_ms = sys.argv
    ends = [
        tunnel(f"ff{os.getpid()}{n}", namespace, ADDRESSES[n], ADDRESSES[1 - n]) for n, namespace in enumerate((a, b))
    ]
    print("up", flush=True)
    relay(ends[0], ends[1], (float(up_kbps) * 125.0, float(down_kbps) * 125.0), float(delay_ms) / 1e3)
