"""Many connections in a closed loop: ``python -m tests.bench.rates.crowd ADDRESS CONNECTIONS SECONDS DENSITY PID``.

Each has one gradient under way and sends the next when the verdict comes. One process and one thread: each wake-up
costs what it reads, however many connections are idle. Prints one JSON object with the verdicts of SECONDS, and what
processor time they took here and in the learner, the process PID: a busy machine changes that least.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import sys
import time
from collections import Counter

import zmq

from protocol import messages
from protocol.buffers import Buffer
from protocol.codecs.registry import CODECS, Encoded
from protocol.messages import Gradient, Hello, Refusal, Report, Verdict, Welcome
from protocol.process.descriptors import raise_limit
from tests.bench.rates.payloads import make_payloads

CODEC = "topk_i8"
ROLLOUT_STEPS = 32  # that each gradient reports, as those of actors do
WELCOME_S = 60.0  # for all of them
WARM_S = 1.0  # after the first gradients; what comes before is not counted


class Crowd:
    """A DEALER for each connection. length: P, once one is welcome. outcomes: of what was judged since ``reset``."""

    def __init__(self, address: str, connections: int, density: float) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, connections + 1)
        self._poll = select.epoll()
        self._links: dict[int, zmq.Socket[bytes]] = {}  # by descriptor
        self._sessions: dict[int, int] = {}
        self._sequences: Counter[int] = Counter()
        self._sent_at: dict[int, float] = {}
        self._density, self.length, self._version = density, 0, 0
        self._payloads: list[Encoded] = []
        self.reset()
        for number in range(connections):
            self._dial(address, number)

    def reset(self) -> None:
        """Forgets what was counted."""
        self.answers: Counter[int] = Counter(dict.fromkeys(self._links, 0))
        self.outcomes: Counter[str] = Counter()
        self.waits_s: list[float] = []

    def _dial(self, address: str, number: int) -> None:
        link = self._context.socket(zmq.DEALER)
        link.setsockopt(zmq.LINGER, 0)
        link.connect(address)
        descriptor = link.fileno()
        self._links[descriptor] = link
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLET)
        link.send_multipart(messages.encode(Hello(f"crowd-{number}", number + 1, tuple(CODECS))))
        self._read(descriptor)

    def greet(self) -> None:
        """Until every connection is welcome; raises SystemExit where one is not."""
        until = time.monotonic() + WELCOME_S
        while len(self._sessions) < len(self._links):
            if time.monotonic() > until:
                raise SystemExit(f"{len(self._sessions)} of {len(self._links)} are welcome")
            self._turn()

    def feed(self, seconds: float) -> None:
        """As many gradients as come back, from each that has none under way."""
        for link in self._links:
            if link not in self._sent_at:
                self._send(link)
                self._read(link)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._turn()

    def _turn(self) -> None:
        for descriptor, _ in self._poll.poll(0.1):
            self._read(descriptor)

    def _read(self, descriptor: int) -> None:
        """All that there is. A descriptor tells of a change, which any call may use up: so also after each send."""
        link = self._links[descriptor]
        with contextlib.suppress(zmq.Again):
            while True:
                frames: list[Buffer] = [*link.recv_multipart(zmq.NOBLOCK)]
                self._heard(descriptor, messages.decode(frames)[0])

    def _heard(self, link: int, message: messages.Message) -> None:
        if isinstance(message, Verdict):
            self._judged(link, message)
        elif isinstance(message, Welcome):
            self._sessions[link] = message.session
            if not self._payloads:
                self.length = message.layout.length
                self._payloads = make_payloads(CODEC, self.length, self._density)
        elif isinstance(message, Refusal):
            raise SystemExit(f"refused: {message.reason}, {message.detail}")

    def _judged(self, link: int, verdict: Verdict) -> None:
        self.waits_s.append(time.perf_counter() - self._sent_at[link])
        for ruling in verdict.rulings:
            self.answers[link] += 1
            self.outcomes[ruling.outcome] += 1
            self._version = max(self._version, ruling.version)
        self._send(link)

    def _send(self, link: int) -> None:
        self._sequences[link] += 1
        payload = self._payloads[self._sequences[link] % len(self._payloads)]
        gradient = Gradient(
            session=self._sessions[link],
            sequence=self._sequences[link],
            base_version=self._version,
            codec=CODEC,
            length=self.length,
            count=payload.count,
            report=Report(ROLLOUT_STEPS),
        )
        self._sent_at[link] = time.perf_counter()
        self._links[link].send_multipart(messages.encode(gradient, [payload.buffer]))

    def close(self) -> None:
        """Without a goodbye."""
        self._poll.close()
        for link in self._links.values():
            link.close(0)
        self._context.term()


def processor_s(pid: int) -> float:
    """Seconds that a process has computed, all its threads together; Linux."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)


def run(address: str, connections: int, seconds: float, density: float, learner: int) -> dict[str, object]:
    """What came back in so many seconds. Latencies in milliseconds, of answers: the least, the median and the most."""
    raise_limit(64 + 3 * connections, "a crowd")
    crowd = Crowd(address, connections, density)
    crowd.greet()
    crowd.feed(WARM_S)
    crowd.reset()
    began, worked = time.perf_counter(), (processor_s(os.getpid()), processor_s(learner))
    crowd.feed(seconds)
    spent_s = time.perf_counter() - began
    ours_s, theirs_s = processor_s(os.getpid()) - worked[0], processor_s(learner) - worked[1]
    crowd.close()
    count, waits, answers = crowd.outcomes.total(), sorted(crowd.waits_s), sorted(crowd.answers.values())
    return {
        "connections": connections,
        "gradients_per_s": round(count / spent_s),
        "per_learner_cpu_s": round(count / theirs_s),
        "learner_cpu": round(theirs_s / spent_s, 2),
        "crowd_cpu": round(ours_s / spent_s, 2),
        "p50_ms": round(1e3 * statistics.median(waits), 1),
        "p99_ms": round(1e3 * waits[int(0.99 * len(waits))], 1),
        "answers": [answers[0], answers[len(answers) // 2], answers[-1]],
        "outcomes": dict(crowd.outcomes),
    }


if __name__ == "__main__":
    _, where, number, duration_s, share, process = sys.argv
    print(json.dumps(run(where, int(number), float(duration_s), float(share), int(process))))
