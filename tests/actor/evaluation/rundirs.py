"""Run directories as a learner leaves them, and networks with an opinion. Knows files and formats; no learner."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy

from actor.algorithms.own import declared
from actor.config import ActorSettings, read_settings
from actor.initial import initial
from protocol import manifest as manifests
from protocol.manifest import Manifest, digest_of

TABLE: dict[str, object] = {"env": "CartPole-v1", "hidden": [8], "envs": 4}


def settings_of(**changes: object) -> ActorSettings:
    """``TABLE`` with these changes."""
    return read_settings(msgspec.msgpack.encode({**TABLE, **changes}))


def checkpoint(folder: Path, version: int, arrays: dict[str, np.ndarray], name: str = "", spoil: bool = False) -> Path:
    """A file as the learner writes it."""
    header = msgspec.json.encode({"format": 1, "manifest": "", "version": version, "epoch": 1, "counters": {}}).decode()
    digest = hashlib.blake2b(header.encode(), digest_size=32)
    for key, array in sorted(arrays.items()):
        digest.update(repr((key, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    if spoil:
        arrays = {**arrays, "theta": arrays["theta"] + 1}
    path = folder / (name or f"checkpoint-{version:012d}.safetensors")
    folder.mkdir(exist_ok=True)
    path.write_bytes(safetensors.numpy.save(arrays, {"farflung": header, "digest": digest.hexdigest()}))
    return path


def moments_of(size: int, mean: float = 0.0) -> dict[str, np.ndarray]:
    """Statistics of ten rows, as a checkpoint holds them."""
    return {
        "observations.count": np.array(10, np.int64),
        "observations.mean": np.full(size, mean),
        "observations.m2": np.full(size, 10.0),
    }


def run_directory(folder: Path, allow_modules: tuple[str, ...] = (), /, **changes: Any) -> np.ndarray:
    """A manifest for ``TABLE`` with these changes; returns θ₀."""
    table = msgspec.msgpack.encode({**TABLE, **changes})
    made = initial(read_settings(table, declared(frozenset(allow_modules))), 1, allow_modules)
    manifest = Manifest(
        run="r",
        env=made.env,
        seed=1,
        layout=made.layout,
        observation_size=made.observation_size,
        actor_table=table,
        actor_digest=digest_of(table),
        created="today",
    )
    (folder / "manifest.json").write_bytes(manifests.encode(manifest))
    return made.theta
