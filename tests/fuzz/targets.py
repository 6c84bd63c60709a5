"""What is fuzzed: each target takes any bytes and returns, or raises where a decoder did what none may.

A decoder may refuse with the error that it documents, and nothing else may come out. What it takes has to be in bounds.
``seeds`` are sound inputs, from the golden vectors; beside them lie the kept ones, in ``corpus``.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy

from learner.durability import checkpoint
from learner.durability.checkpoint import Checkpoint, CheckpointFault
from learner.security import keyring
from learner.security.keyring import ListError
from protocol import frames as framing
from protocol import manifest, messages
from protocol.buffers import PREAMBLE, Buffer
from protocol.codecs.registry import CODECS, Sparse
from protocol.errors import PeerFault
from protocol.manifest import Manifest, ManifestError, digest_of
from protocol.messages import ROLES, Message, Snapshot, Updates
from protocol.moments import Moments
from protocol.snapshot import Reconstruction
from protocol.transport import keys
from protocol.transport.keys import KeyFileError, KeyPair, Secret
from protocol.transport.learner_sockets import ZAP_DOMAIN, zap_answer
from tests.golden import make

Target = Callable[[bytes], None]
CORPUS = Path(__file__).parent / "corpus"
SOMEWHERE = Path("somewhere")
NAMES = sorted(CODECS)
PUBLIC = "a" * 40


def split(data: bytes) -> list[bytes]:
    """Pieces, each behind two bytes that say how long it is; the last may be cut short."""
    pieces = []
    while len(data) >= 2:
        end = 2 + int.from_bytes(data[:2], "little")
        pieces.append(data[2:end])
        data = data[end:]
    return pieces


def joined(pieces: Iterable[Buffer]) -> bytes:
    """What ``split`` makes these of."""
    return b"".join(len(piece).to_bytes(2, "little") + piece for piece in pieces)


def message(data: bytes) -> None:
    """Frames, checked and decoded; what is decoded is written and read again as the same."""
    with contextlib.suppress(PeerFault):
        frames: list[Buffer] = list(split(data))
        framing.check(frames)
        decoded, buffers = messages.decode(frames)
        again, _ = messages.decode(messages.encode(decoded, buffers))
        assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(decoded)


def payload(data: bytes) -> None:
    """A codec by its number, length and count in two bytes each, and what it is to decode."""
    if len(data) < 5:
        return
    codec = CODECS[NAMES[data[0] % len(NAMES)]]
    length, count = int.from_bytes(data[1:3], "little"), int.from_bytes(data[3:5], "little")
    with contextlib.suppress(PeerFault):
        value = codec.decode(data[5:], length, count)
        if not isinstance(value, Sparse):
            assert value.shape == (length,)
            return
        assert len(value.indices) == len(value.values) == count
        assert np.isfinite(value.values).all()
        assert (np.diff(value.indices) > 0).all()
        assert not count or 0 <= value.indices[0] <= value.indices[-1] < length


def records(data: bytes) -> None:
    """Messages of the weight stream, three pieces each: θ stays finite, and what is refused changes nothing."""
    layout, length = make.LAYOUT.digest, make.LAYOUT.length
    held = Reconstruction(layout, length)
    held.apply(Snapshot(3, 10, "key", 0, layout, "f32", length, length), [bytes(4 * length)])
    pieces = split(data)
    for start in range(0, len(pieces), 3):
        frames: list[Buffer] = [PREAMBLE + pieces[start], *pieces[start + 1 : start + 3]]
        before = held.theta.tobytes()
        try:
            record, buffers = messages.decode(frames)
            if isinstance(record, Snapshot | Updates):
                record = msgspec.structs.replace(record, layout=layout, length=length)
                held.apply(record, buffers)
        except PeerFault:
            assert held.theta.tobytes() == before
        assert np.isfinite(held.theta).all()


def moments(data: bytes) -> None:
    """A count in eight bytes, then the buffer; what is taken can be merged and used."""
    with contextlib.suppress(PeerFault):
        taken = Moments.from_buffer(data[8:], int.from_bytes(data[:8], "little"))
        merged = Moments(5, np.ones(taken.size), np.ones(taken.size)).merge(taken)
        assert np.isfinite(merged.mean).all()
        assert np.isfinite(merged.m2).all()
        assert np.isfinite(merged.scale()).all()


def manifests(data: bytes) -> None:
    """A manifest's file, as it is and with the digest that its table has."""
    for text in (data, _with_digest(data)):
        with contextlib.suppress(ManifestError):
            read = manifest.decode(text)
            assert manifest.decode(manifest.encode(read)) == read


def _with_digest(text: bytes) -> bytes:
    try:
        loose = msgspec.json.decode(text)
        return msgspec.json.encode({**loose, "actor_digest": digest_of(msgspec.convert(loose["actor_table"], bytes))})
    except (KeyError, TypeError, ValueError, RecursionError):
        return text


def key_files(data: bytes) -> None:
    """A key file, and the list of who is let in."""
    with contextlib.suppress(KeyFileError):
        pair = keys.parse_pair(SOMEWHERE, data)
        assert keys.is_name(pair.name)
        assert keys.is_public_key(pair.public)
        assert pair.secret.reveal().decode() not in repr(pair) + str(pair)
    with contextlib.suppress(ListError):
        listed = keyring.parse_list(SOMEWHERE, data.decode("utf-8", "replace"))
        assert all(
            keys.is_public_key(key) and keys.is_name(actor.name) and actor.roles <= ROLES
            for key, actor in listed.items()
        )


def checkpoints(data: bytes) -> None:
    """A checkpoint's file; with a first byte of 0 the rest is its header, under a digest that is right."""
    with contextlib.suppress(CheckpointFault):
        if data[:1] == b"\0":
            text, arrays = data[1:].decode("utf-8", "replace"), {"theta": np.zeros(2, np.float32)}
            metadata = {"farflung": text, "digest": checkpoint.content_digest(text, arrays)}
            data = safetensors.numpy.save(arrays, metadata)
        with tempfile.NamedTemporaryFile(prefix="farflung-fuzz-") as file:
            file.write(data)
            file.flush()
            checkpoint.load(Path(file.name))


def zap(data: bytes) -> None:
    """A request of libzmq. Only whose key is known comes in."""
    request = split(data)
    request += [b""] * (6 - len(request))
    answer, admitted = zap_answer(request, {PUBLIC: "rack"}.get)
    assert len(answer) == 6
    assert answer[:2] == [b"1.0", request[1]]
    assert admitted == (answer[2] == b"200") == (answer[4] == PUBLIC.encode())


TARGETS: dict[str, Target] = {
    "message": message,
    "payload": payload,
    "records": records,
    "moments": moments,
    "manifests": manifests,
    "key_files": key_files,
    "checkpoints": checkpoints,
    "zap": zap,
}


def seeds(target: str) -> list[bytes]:
    """Sound inputs."""
    return _SEEDS[target]()


def _messages() -> list[bytes]:
    return [joined(make.frames_of(name)) for name in make.MESSAGES]


def _payloads() -> list[bytes]:
    made = []
    for vector in make.payloads().values():
        length, count = vector["length"], vector["count"]
        assert isinstance(length, int)
        assert isinstance(count, int)
        lead = bytes((NAMES.index(str(vector["codec"])),))
        if length < 1 << 16:
            sizes = length.to_bytes(2, "little") + count.to_bytes(2, "little")
            made.append(lead + sizes + bytes.fromhex(str(vector["payload"])))
    return made


def _records() -> list[bytes]:
    length, digest = make.LAYOUT.length, make.LAYOUT.digest
    theta = np.array(make.ramp(length), np.float32)
    sparse = CODECS["topk_i8"].encode(make.value([0, 5, 16], make.ramp(3), length))
    dense = CODECS["i8+zstd"].encode(theta)
    applied = (
        messages.Applied("topk_i8", 3, len(sparse.buffer), 0.5),
        messages.Applied("i8+zstd", length, len(dense.buffer), 0.25),
    )
    stream: list[tuple[Message, list[bytes]]] = [
        (Updates(3, 12, 10, digest, length, applied, 5), [sparse.buffer + dense.buffer, make.MOMENTS.to_buffer()]),
        (Snapshot(3, 13, "delta", 12, digest, "topk_i8", length, 3), [sparse.buffer]),
        (Snapshot(3, 20, "key", 0, digest, "f32", length, length), [theta.tobytes()]),
        (Snapshot(3, 22, "delta", 21, digest, "i8+zstd", length, length), [dense.buffer]),
    ]
    whole = [_pieces(*record) for record in stream]
    return [b"".join(whole), *whole]


def _pieces(record: Message, buffers: Sequence[bytes]) -> bytes:
    header = bytes(messages.encode(record)[0])[len(PREAMBLE) :]
    return joined([header, *buffers][:3]) + joined([b""] * (2 - len(buffers)))


def _manifests() -> list[bytes]:
    table = b"\x81\xa3env\xabCartPole-v1"
    whole = Manifest(
        run="cartpole-0",
        env="CartPole-v1",
        seed=0,
        layout=make.LAYOUT,
        actor_table=table,
        actor_digest=digest_of(table),
        created="2025-01-01",
    )
    return [manifest.encode(whole)]


def _key_files() -> list[bytes]:
    pair = KeyPair("rack", PUBLIC, Secret("b" * 40), "c" * 40)
    secret = pair.secret.reveal().decode()
    text = f'name = "{pair.name}"\npublic = "{pair.public}"\nsecret = "{secret}"\nlearner = "{pair.learner}"\n'
    return [text.encode(), f"# who may come\n{PUBLIC} rack\n\n{'b' * 40} rack.8\n".encode()]


def _checkpoints() -> list[bytes]:
    arrays = {"theta": np.array(make.ramp(3), np.float32), "steps": np.array(7)}
    kept = Checkpoint("ab" * 8, 7, 1, {"env_steps": 100}, arrays)
    best = Checkpoint("ab" * 8, 7, 1, {}, arrays, {"mean": 1.5, "episodes": 3})
    header = checkpoint.Header(checkpoint.FORMAT, "ab" * 8, 7, 1, {"env_steps": 100}, {"mean": 1.5})
    return [checkpoint.pack(kept), checkpoint.pack(best), b"\0" + msgspec.json.encode(header)]


def _zap() -> list[bytes]:
    from zmq.utils import z85

    known = [b"1.0", b"1", ZAP_DOMAIN, b"10.0.0.1", b"", b"CURVE", z85.decode(PUBLIC)]
    return [joined(known), joined([*known[:6], bytes(32)]), joined([*known[:5], b"PLAIN", b"user", b"password"])]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "message": _messages,
    "payload": _payloads,
    "records": _records,
    "moments": lambda: [(5).to_bytes(8, "little") + make.MOMENTS.to_buffer()],
    "manifests": _manifests,
    "key_files": _key_files,
    "checkpoints": _checkpoints,
    "zap": _zap,
}
