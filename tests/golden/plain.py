"""A reader of payloads that shares nothing with the codecs: WIRE.md, section 4, as slowly as it can be written."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np


def read(codec: str, payload: bytes, length: int, count: int) -> list[float]:
    """The vector, dense."""
    if codec in ("f32", "f16"):
        return list(struct.unpack(f"<{length}{'f' if codec == 'f32' else 'e'}", payload))
    if codec == "i8":
        return read_levels(payload, length)
    if codec == "bf16":
        return bf16(payload)
    if codec == "i4":
        return by_scale(payload, [level - 8 for level in nibbles(payload[4 * blocks(length) :])][:length])
    if codec == "sign":
        signs = payload[4 * blocks(length) :]
        return by_scale(payload, [-1 if signs[i // 8] >> (i % 8) & 1 else 1 for i in range(length)])
    if codec == "lowrank":
        return read_runs(payload)
    if codec.endswith("+zstd"):
        assert payload[0] == 0, "what zstandard writes depends on its version"
        return read(codec.removesuffix("+zstd"), payload[1:], length, count)
    return read_sparse(codec, payload, length, count)


def read_sparse(codec: str, payload: bytes, length: int, count: int) -> list[float]:
    if codec == "randk_i8":
        values = read_levels(payload[8:], count)
        indices = draw(int.from_bytes(payload[:8], "little"), length, count)
    else:
        width, payload = payload[0], payload[1:]
        if codec == "topk_f16":
            values, units = list(struct.unpack_from(f"<{count}e", payload)), payload[2 * count :]
        else:
            values, units = read_levels(payload, count), payload[4 * blocks(count) + count :]
        whole = [int.from_bytes(units[i : i + width], "little") for i in range(0, len(units), width)]
        indices = read_gaps(whole, width)
    dense = [0.0] * length
    for index, number in zip(indices, values, strict=True):
        dense[index] = number
    return dense


def read_levels(payload: bytes, count: int) -> list[float]:
    return by_scale(payload, struct.unpack_from(f"<{count}b", payload, 4 * blocks(count)))


def by_scale(payload: bytes, levels: Sequence[int]) -> list[float]:
    scales = struct.unpack_from(f"<{blocks(len(levels))}f", payload)
    return [float(np.float32(level) * np.float32(scales[i // 256])) for i, level in enumerate(levels)]


def blocks(count: int) -> int:
    return -(-count // 256)


def nibbles(payload: bytes) -> list[int]:
    return [half for byte in payload for half in (byte & 15, byte >> 4)]


def bf16(payload: bytes) -> list[float]:
    return [struct.unpack("<f", b"\0\0" + payload[i : i + 2])[0] for i in range(0, len(payload), 2)]


def draw(seed: int, length: int, count: int) -> list[int]:
    """One of each stratum by SplitMix64."""
    indices = []
    for i in range(count):
        start, end = i * length // count, (i + 1) * length // count
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        indices.append(start + (z ^ (z >> 31)) % (end - start))
    return indices


def read_runs(payload: bytes) -> list[float]:
    rank, runs = struct.unpack_from("<BH", payload)
    numbers = iter(bf16(payload[3 + 8 * runs :]))
    dense: list[float] = []
    for i in range(runs):
        rows, columns = struct.unpack_from("<II", payload, 3 + 8 * i)
        if not columns:
            dense += [next(numbers) for _ in range(rows)]
            continue
        left, right = ([[next(numbers) for _ in range(rank)] for _ in range(side)] for side in (rows, columns))
        for a in left:
            for b in right:
                total = np.float32(a[0]) * np.float32(b[0])
                for k in range(1, rank):
                    total += np.float32(a[k]) * np.float32(b[k])
                dense.append(float(total))
    return dense


def read_gaps(units: list[int], width: int) -> list[int]:
    escape, indices, index, gap = 256**width - 1, [], -1, 0
    for unit in units:
        gap += unit
        if unit < escape:
            index += gap + 1
            indices.append(index)
            gap = 0
    return indices
