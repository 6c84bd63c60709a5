"""What a stranger may try: ``python -m tests.faults.peers.attack ADDRESS FRAMES MUTATIONS RATE MARKER``.

Knows the wire, zmq and plain sockets. Nothing here may change θ: what a decoder could take is too long to be applied.
"""

from __future__ import annotations

import os
import pickle
import random
import socket
import sys
import time
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import zmq
import zstandard

from learner.config import LearnerSettings
from protocol import messages
from protocol.buffers import PREAMBLE
from protocol.codecs.registry import CODECS, Array, Encoded, Factors, Sparse
from protocol.errors import PeerFault
from protocol.messages import Gradient, Hello, Message, Refusal, Verdict, Welcome
from protocol.transport.address import parse_address
from protocol.transport.sockets import CURVE_BYTES
from tests.golden import make

DEADLINE_S = 120.0
BATCH = 50  # messages between two looks at what came back
HUGE = 1e30  # of a coordinate: no bound on the norm lets it pass
CARRIED = 1000  # coordinates of a sparse payload
BOMB_BYTES = 64 << 20
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)  # ZMTP 3.1

Frames = list[bytes]


class Evil:
    """Runs a command when it is unpickled, if anybody does."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


class Attacker:
    """One DEALER. refused: reasons that came back, with their numbers; answered: messages of other kinds."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        for bound in (zmq.SNDHWM, zmq.RCVHWM):
            self._socket.setsockopt(bound, 0)
        self._socket.connect(address)
        self.refused: dict[str, int] = {}
        self.welcome: Welcome | None = None
        self._synced = 0
        self._sequence = self._version = 0

    def throw(self, many: Iterable[Frames], per_s: float = float("inf")) -> int:
        """Sends them all at this rate at most and waits until the learner has read them; how many there were."""
        count, began = 0, time.monotonic()
        for frames in many:
            self._socket.send_multipart(frames)
            count += 1
            if not count % BATCH:
                self._sync()
                time.sleep(max(0.0, began + count / per_s - time.monotonic()))
        self._sync()
        return count

    def greet(self) -> Welcome:
        """A session of its own."""
        self._say(Hello("attacker", random.getrandbits(62) + 1, ("f32",)))
        self._sync()
        assert self.welcome is not None
        return self.welcome

    def gradients(self, payloads: Iterable[tuple[str, int, bytes]]) -> Iterator[Frames]:
        """Gradients of a session, well numbered, with these codecs, counts and payloads."""
        welcome = self.greet()
        for codec, count, payload in payloads:
            self._sequence += 1
            length = welcome.layout.length
            gradient = Gradient(welcome.session, self._sequence, self._version, codec, length, count)
            yield [bytes(frame) for frame in messages.encode(gradient, [payload])]
            if not self._sequence % max(1, welcome.credit // 2):
                self._sync()

    def close(self) -> None:
        """Without a word."""
        self._socket.close()
        self._context.term()

    def _say(self, message: Message) -> None:
        self._socket.send_multipart([bytes(frame) for frame in messages.encode(message)])

    def _sync(self) -> None:
        """Until the learner has answered a message that names itself."""
        self._synced += 1
        mark = f"sync-{self._synced}-"
        self._socket.send_multipart([PREAMBLE + msgspec.msgpack.encode([mark])])
        while not self._hear(mark):
            pass

    def _hear(self, mark: str) -> bool:
        assert self._socket.poll(int(1000 * DEADLINE_S)), "no answer"
        message, _ = messages.decode(self._socket.recv_multipart())
        if isinstance(message, Refusal):
            if mark in message.detail:
                return True
            self.refused[message.reason] = self.refused.get(message.reason, 0) + 1
        elif isinstance(message, Welcome):
            self.welcome = message
        elif isinstance(message, Verdict):
            for ruling in message.rulings:
                self._version = max(self._version, ruling.version)
                assert ruling.outcome != "applied", "an attack was applied"
                self.refused[ruling.outcome] = self.refused.get(ruling.outcome, 0) + 1
        return False


def generated(count: int, seed: int) -> Iterator[Frames]:
    """Any frames: noise, noise behind a preamble, fields of any type behind a kind, and messages of many frames."""
    chance = random.Random(seed)
    kinds = sorted(messages.KINDS - {"hello", "refusal"})  # no sessions, and what is answered
    for _ in range(count):
        style = chance.randrange(5)
        if style == 0:
            yield [chance.randbytes(chance.randrange(200)) for _ in range(chance.randrange(1, 4))]
        elif style == 1:
            yield [PREAMBLE + chance.randbytes(chance.randrange(1, 200))]
        elif style == 2:
            yield [PREAMBLE + b"\x91" * chance.randrange(1, 2000)]
        elif style == 3:
            yield [b"x"] * chance.randrange(9, 60)
        else:
            fields = [_any(chance, 3) for _ in range(chance.randrange(12))]
            buffers = [chance.randbytes(chance.randrange(64)) for _ in range(chance.randrange(3))]
            yield [PREAMBLE + msgspec.msgpack.encode([chance.choice(kinds), *fields]), *buffers]


def _any(chance: random.Random, depth: int) -> object:
    simple = (None, True, chance.getrandbits(63), -1, float("nan"), 1e300, "f32", chance.randbytes(8), "x" * 100)
    if depth and chance.random() < 0.2:
        return [_any(chance, depth - 1) for _ in range(chance.randrange(5))]
    return chance.choice(simple)


def mutated_messages(count: int, seed: int) -> Iterator[Frames]:
    """So many mutations of each golden message. Hellos stay out: a mutation of one is a hello."""
    chance = random.Random(seed)
    for name in make.MESSAGES:
        whole = [bytes(frame) for frame in make.frames_of(name)]
        for _ in range(0 if name.startswith("hello") else count):
            hurt = list(whole)
            which = chance.randrange(len(hurt))
            hurt[which] = mutated(hurt[which], chance)
            yield hurt


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """One to four bytes replaced, cut out or put in."""
    hurt = bytearray(whole)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(hurt) + 1)
        hurt[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(hurt)


def mutated_payloads(length: int, count: int, seed: int) -> Iterator[tuple[str, int, bytes]]:
    """So many mutations of what each codec writes of numbers that are too large."""
    chance = random.Random(seed)
    for name in CODECS:
        encoded = _encoded(name, length)
        for _ in range(count):
            hurt = mutated(encoded.buffer, chance)
            if not _fit_to_apply(name, length, encoded.count, hurt):
                yield name, encoded.count, hurt


def _fit_to_apply(name: str, length: int, count: int, payload: bytes) -> bool:
    """One in many thousands shifts all bytes of a scale; that is a gradient like any other, and no hostile one."""
    try:
        value = CODECS[name].decode(payload, length, count)
    except PeerFault:
        return False
    numbers = value.values if isinstance(value, Sparse) else value
    with np.errstate(invalid="ignore"):  # NaN that signals
        return bool(np.linalg.norm(numbers.astype(np.float64)) <= LearnerSettings().norm_bound)


def _encoded(name: str, length: int) -> Encoded:
    numbers = np.full(length, HUGE, np.float32)
    carried = min(CARRIED, length)
    value: Array | Factors = numbers
    if name.startswith("lowrank"):
        value = Factors(length, (numbers,))
    elif CODECS[name].selection == "largest":
        value = Sparse(length, np.arange(carried, dtype=np.int32), numbers[:carried])
    elif CODECS[name].selection == "random":
        value = make.value(7, [HUGE] * carried, length)
    return CODECS[name].encode(value)


def bombs(length: int) -> Iterator[tuple[str, int, bytes]]:
    """Zstandard frames of 64 MiB of zeros that say so, say nothing, or say what was expected."""
    zeros = bytes(BOMB_BYTES)
    said = zstandard.ZstdCompressor(write_content_size=True).compress(zeros)
    unsaid = zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    lying = bytearray(said)
    size_at = said.index(BOMB_BYTES.to_bytes(4, "little"), 4)
    lying[size_at : size_at + 4] = (4 * length).to_bytes(4, "little")
    for frame in (said, unsaid, bytes(lying), said[:-3], said + said):
        yield "f32+zstd", length, b"\1" + frame


def odd(marker: str) -> Iterator[Frames]:
    """A pickle as a header and as a payload, and msgpack nested a million deep."""
    pickled = pickle.dumps(Evil(f"touch {marker}"))
    yield [pickled]
    yield [PREAMBLE + pickled]
    yield [bytes(make.frames_of("gradient")[0]), pickled]
    for opening in (b"\x91", b"\x81\xa1x", b"\xdd\0\0\0\1"):
        yield [PREAMBLE + opening * (1_000_000 // len(opening))]
    yield [PREAMBLE + b"\xdf\xff\xff\xff\xff"]
    yield [PREAMBLE + bytes(1 << 20)]


def oversize(address: str, frame_bytes: int) -> None:
    """A frame that ends its connection."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 1000)
        dealer.connect(address)
        dealer.send(bytes(frame_bytes + CURVE_BYTES + 1))


def half_open(address: str, count: int, sent: int = 0) -> list[socket.socket]:
    """So many connections that greet and announce a frame of a mebibyte, and send so much of it."""
    learner = parse_address(address)
    opened = [socket.create_connection((learner.host, learner.port), 10) for _ in range(count)]
    for each in opened:
        each.sendall(GREETING + b"\x02" + (1 << 20).to_bytes(8, "big") + bytes(sent))
    return opened


def raw(address: str, count: int, seed: int) -> None:
    """Noise on so many connections of TCP."""
    chance, learner = random.Random(seed), parse_address(address)
    for _ in range(count):
        with socket.create_connection((learner.host, learner.port), 10) as stranger:
            stranger.sendall(chance.choice((b"", GREETING, GREETING[:11])) + chance.randbytes(chance.randrange(2000)))


def attack(address: str, frames: int, mutations: int, per_s: float, marker: str) -> dict[str, int]:
    """All of it; the refusals by reason."""
    held = half_open(address, 500, 1 << 10)
    raw(address, 200, 1)
    noise, member = Attacker(address), Attacker(address)
    length = member.greet().layout.length
    oversize(address, 2 << 20)
    noise.throw(odd(marker), per_s)
    member.throw(member.gradients(bombs(length)), per_s)
    noise.throw(generated(frames, 2), per_s)
    noise.throw(mutated_messages(mutations, 3), per_s)
    member.throw(member.gradients(mutated_payloads(length, mutations, 4)), per_s)
    for attacker in (noise, member):
        attacker.close()
    for connection in held:
        connection.close()
    return {
        reason: noise.refused.get(reason, 0) + member.refused.get(reason, 0)
        for reason in sorted(noise.refused | member.refused)
    }


if __name__ == "__main__":
    _, link, any_frames, each_vector, rate, unpickled = sys.argv
    print(msgspec.json.encode(attack(link, int(any_frames), int(each_vector), float(rate), unpickled)).decode())
