"""Writes the byte-exact vectors of the wire: ``python -m tests.golden.make``. A change of them is a change of protocol.

The inputs are written out as plain numbers, so that an implementation in another language can be held to them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from protocol.buffers import PROTOCOL_VERSION, Buffer
from protocol.codecs.registry import CODECS, Array, Factors, Sparse
from protocol.codecs.sparse import random_indices
from protocol.layout import Entry, Layout
from protocol.messages import (
    Applied,
    Episode,
    Evaluation,
    Goodbye,
    Gradient,
    Heartbeat,
    Hello,
    Losses,
    Message,
    Metric,
    Refusal,
    Report,
    Ruling,
    Snapshot,
    SnapshotRequest,
    Updates,
    Verdict,
    Welcome,
    encode,
    expected_buffers,
)
from protocol.moments import Moments

HERE = Path(__file__).parent
LAYOUT = Layout((Entry("trunk.weight", (4, 3)), Entry("trunk.bias", (4,)), Entry("temperature", ())))
MOMENTS = Moments(5, np.array([0.5, -2.0]), np.array([1.25, 0.0]))
REPORT = Report(128, (Episode(21.0, 21), Episode(-3.5, 7)), Losses(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 5)

MESSAGES: dict[str, Message] = {
    "hello": Hello("actor-1", 81_985_529_216_486_895, ("f32", "topk_i8")),
    "hello_evaluate": Hello("judge", 81_985_529_216_486_896, ("f32",), "evaluate"),
    "welcome": Welcome(
        instance=81_985_529_216_486_895,
        run="cartpole-0",
        epoch=3,
        session=4_611_686_018_427_387_904,
        ordinal=2,
        seed=42,
        credit=4,
        heartbeat_s=2.0,
        silence_s=15.0,
        quantity="update",
        weights="tcp://*:5556",
        layout=LAYOUT,
        table=b"\x81\xa3env\xabCartPole-v1",
        table_digest=bytes.fromhex("0123456789abcdef"),
    ),
    "welcome_with_lag": Welcome(
        81_985_529_216_486_895, "r", 3, 5, 2, 42, 4, 2.0, 15.0, "update", "*", LAYOUT, b"\x80", bytes(8), 64
    ),
    "welcome_with_annealing": Welcome(
        *(81_985_529_216_486_895, "r", 3, 5, 2, 42, 4, 2.0, 15.0, "update", "*", LAYOUT, b"\x80", bytes(8), 32),
        anneal_steps=300_000,
        anneal_floor=0.0625,
    ),
    "welcome_with_rate": Welcome(
        *(81_985_529_216_486_895, "r", 3, 5, 2, 42, 4, 2.0, 15.0, "update", "*", LAYOUT, b"\x80", bytes(8), 32),
        learning_rate=0.00390625,
    ),
    "welcome_with_share": Welcome(
        *(81_985_529_216_486_895, "r", 3, 5, 2, 42, 4, 2.0, 15.0, "update", "*", LAYOUT, b"\x80", bytes(8), 32),
        learning_rate=0.00390625,
        share=0.0625,
    ),
    "refusal": Refusal("unknown_session", "session 17 was never granted"),
    "gradient": Gradient(17, 1, 9, "topk_i8", 17, 2),
    "gradient_with_report": Gradient(17, 2, 9, "f32", 17, 17, REPORT),
    "gradient_with_metrics": Gradient(
        *(17, 2, 9, "f32", 17, 17),
        Report(128, (), Losses(0.1), 0, 0.9375, (Metric("success", 0.75, 4), Metric("Abstand", -2.5))),
    ),
    "verdict": Verdict(17, 4, (Ruling(1, "applied", 10, 0.5), Ruling(2, "stale_updates", 10, 0.0))),
    "verdict_unlogged": Verdict(17, 4, (Ruling(1, "applied", 10, 0.5),), True),
    "heartbeat": Heartbeat(17, 1000, 10),
    "heartbeat_with_link": Heartbeat(17, 1000, 10, 0.25, 0.0625),
    "heartbeat_with_times": Heartbeat(17, 1000, 10, 0.25, 0.0625, 61_250, 30_500, 1_200, 70_000, 13),
    "heartbeat_with_share": Heartbeat(17, 1000, 10, share=0.375),
    "snapshot_request": SnapshotRequest(17),
    "snapshot_key": Snapshot(3, 10, "key", 0, LAYOUT.digest, "f32", 17, 17),
    "snapshot_delta": Snapshot(3, 11, "delta", 10, LAYOUT.digest, "topk_i8", 17, 2, 5),
    "snapshot_request_target": SnapshotRequest(17, True),
    "snapshot_with_target": Snapshot(3, 10, "key", 0, LAYOUT.digest, "f32", 17, 17, 0, 8, 40_000),
    "snapshot_with_env_steps": Snapshot(3, 10, "key", 0, LAYOUT.digest, "f32", 17, 17, 0, None, 1280),
    "snapshot_delta_with_digest": Snapshot(
        3, 11, "delta", 10, LAYOUT.digest, "i8", 17, 17, 0, 8, 1280, bytes.fromhex("0123456789abcdef")
    ),
    "updates": Updates(3, 12, 10, LAYOUT.digest, 17, (Applied("topk_i8", 2, 11, 0.5), Applied("f16", 17, 9, 2.0**-9))),
    "updates_with_all": Updates(
        3, 11, 10, LAYOUT.digest, 17, (Applied("topk_i8", 2, 20, 0.5),), 5, 8, 1280, bytes.fromhex("0123456789abcdef")
    ),
    "evaluation": Evaluation(17, 10, 100, 480.25, 12.5, 2.475, 7),
    "goodbye": Goodbye(17, True, "return 480.2 reached 475"),
}


def ramp(length: int) -> list[float]:
    """Numbers that float32 holds exactly, of both signs and several magnitudes."""
    return [(i % 13 - 6) * 2.0 ** (i % 5 - 2) for i in range(length)]


VECTORS: dict[str, tuple[str, list[int] | int | None, list[float], int]] = {
    # name: codec, indices (None: dense; one number: the seed they are drawn from), values, P
    "f32": ("f32", None, ramp(5), 5),
    "f16": ("f16", None, [*ramp(5), 1e6, -1e6, 1e-9], 8),
    "bf16": ("bf16", None, [*ramp(5), 1.01171875, 1.00390625, -3e38], 8),
    "i8_two_blocks": ("i8", None, ramp(260), 260),
    "i8_zeros": ("i8", None, [0.0] * 3, 3),
    "i4_two_blocks": ("i4", None, ramp(259), 259),
    "sign_two_blocks": ("sign", None, ramp(259), 259),
    "topk_i8_dense_bytes": ("topk_i8", [0, 1, 5, 16], [1.0, -0.5, 0.25, 127.0], 17),
    "topk_i8_escaped_bytes": ("topk_i8", [254, 255, 511, 767, 768], ramp(5), 1000),
    "topk_i8_words": ("topk_i8", [1000, 2000, 67_536, 133_071], ramp(4), 140_000),
    "topk_i8_nothing": ("topk_i8", [], [], 10),
    "topk_f16": ("topk_f16", [3, 259, 260], ramp(3), 300),
    "randk_i8": ("randk_i8", 81_985_529_216_486_895, ramp(5), 1000),
    "lossless_left_out": ("topk_i8+zstd", [0, 1, 5, 16], [1.0, -0.5, 0.25, 127.0], 17),
}
# Matrices as [left, right], one row a list, and runs that are none.
RUNS: list[list[float] | list[list[list[float]]]] = [
    [[[1.0, 0.5], [2.0, -0.25], [-1.5, 0.0], [0.125, 3.0]], [[2.0, 1.0], [0.0, -1.0], [1.0, 4.0], [-2.0, 0.5]]],
    [0.5, -3.0],
]


def value(indices: list[int] | int | None, values: list[float], length: int) -> Array:
    """What the codec is given."""
    floats = np.array(values, np.float32)
    if indices is None:
        return floats
    if isinstance(indices, int):
        return Sparse(length, random_indices(indices, length, len(floats)), floats, indices)
    return Sparse(length, np.array(indices, np.int32), floats)


def factors() -> Factors:
    """What RUNS say."""
    runs = [np.array(run, np.float32) for run in RUNS]
    return Factors(18, ((runs[0][0], runs[0][1]), runs[1]))


def frames_of(name: str) -> list[Buffer]:
    """The whole message: buffers are the bytes 0, 1, 2, ... and the golden moments."""
    message = MESSAGES[name]
    return encode(message, [bytes(range(20)), MOMENTS.to_buffer()][: expected_buffers(message)])


def messages() -> dict[str, list[str]]:
    """name -> frames in hexadecimal."""
    return {name: [bytes(frame).hex() for frame in frames_of(name)] for name in MESSAGES}


def payloads() -> dict[str, dict[str, object]]:
    """name -> a codec's input and its payload in hexadecimal."""
    made: dict[str, dict[str, object]] = {}
    for name, (codec, indices, values, length) in VECTORS.items():
        encoded = CODECS[codec].encode(value(indices, values, length))
        made[name] = {
            "codec": codec,
            "length": length,
            "count": encoded.count,
            "indices": indices,
            "values": values,
            "payload": encoded.buffer.hex(),
        }
    encoded = CODECS["lowrank"].encode(factors())
    made["lowrank"] = {
        "codec": "lowrank",
        "length": 18,
        "count": encoded.count,
        "runs": RUNS,
        "payload": encoded.buffer.hex(),
    }
    return made


def main() -> None:
    """Overwrites the vectors beside this file."""
    for name, content in (("messages", messages()), ("payloads", payloads())):
        text = json.dumps({"protocol_version": PROTOCOL_VERSION, name: content}, indent=1)
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
