"""What a run directory says that a run has learnt. Reads what the learner wrote, by its format and without its code.

Knows files. ``manifest.json`` names the experiment and ``experiment.toml`` has it as it is now. ``checkpoints/`` holds
the newest θ and, where anybody evaluated the run, the best one.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
from numpy.typing import NDArray

from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Manifest
from protocol.moments import Moments

BEST = "best.safetensors"


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """One θ of a run. version: gradients applied. theta: float32 [P]. moments: None where nothing is normalised."""

    version: int
    theta: NDArray[np.float32]
    moments: Moments | None


class Unreadable(UserError):
    """Nothing can be read there. path: where it was looked for. cause: why."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


def read_manifest(run_dir: Path) -> Manifest:
    """``manifest.json`` of a run directory, with the actor table of the run's last life. Raises UserError."""
    try:
        manifest = manifests.decode((run_dir / "manifest.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        why = (
            "it is a file"
            if run_dir.is_file()
            else "it has no manifest.json"
            if run_dir.exists()
            else "it is not there"
        )
        raise Unreadable(run_dir, f"this is no run's directory: {why}; learner run prints its own as run_dir") from None
    except OSError as error:
        raise Unreadable(run_dir / "manifest.json", error.strerror or str(error)) from None
    table = _present_table(run_dir / "experiment.toml") or manifest.actor_table
    return msgspec.structs.replace(manifest, actor_table=table, actor_digest=manifests.digest_of(table))


def _present_table(path: Path) -> bytes | None:
    """``[actor]`` of the experiment that a run goes by, which a life that was resumed may have changed; None where it
    cannot be read.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return msgspec.msgpack.encode(tables.get("actor", {}), order="deterministic")


def newest(folder: Path) -> SavedWeights:
    """The newest checkpoint that is whole. Raises Unreadable where there is none."""
    causes = []
    for path in sorted(folder.glob("checkpoint-*.safetensors"), reverse=True):
        try:
            return read_checkpoint(path)
        except Unreadable as error:
            causes.append(str(error))
    raise Unreadable(folder, "; ".join(causes) or "there is no checkpoint yet")


def best(folder: Path) -> SavedWeights:
    """The θ that scored highest. Raises Unreadable, also where nobody evaluated the run."""
    path = folder / BEST
    if not path.exists():
        cause = "there is none: nobody has evaluated the run; `actor evaluate --learner` does while it trains"
        raise Unreadable(path, cause)
    return read_checkpoint(path)


def read_checkpoint(path: Path) -> SavedWeights:
    """One checkpoint file, its digest verified. Raises Unreadable."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        header: dict[str, Any] = msgspec.json.decode(metadata["farflung"])
        if metadata["digest"] != _digest(metadata["farflung"], arrays):
            raise Unreadable(path, "its digest does not match its contents")
        return SavedWeights(int(header["version"]), arrays["theta"], _moments(arrays))
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None
    except (safetensors.SafetensorError, msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
        raise Unreadable(path, f"not a checkpoint: {error!r}") from None


def _digest(header: str, arrays: dict[str, NDArray[Any]]) -> str:
    """As the learner computes it: BLAKE2b-256 over the header and every array's name, type, shape and bytes."""
    digest = hashlib.blake2b(header.encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _moments(arrays: dict[str, NDArray[Any]]) -> Moments | None:
    if "observations.count" not in arrays:
        return None
    return Moments(int(arrays["observations.count"]), arrays["observations.mean"], arrays["observations.m2"])
