"""Checkpoints on disk: safetensors with a digest, written so that a crash leaves the old one or the new one whole.

The only file of the learner that reads and writes checkpoints. Knows files, arrays and counters, not what they mean.
No threads, no pickle. One process writes a folder at a time.

A file is ``checkpoint-<version>.safetensors``: named arrays, and in its metadata a JSON header and a BLAKE2b digest
over header and arrays. It is written to one temporary name, synced, renamed, and the folder synced; what a crash leaves
under the temporary name is overwritten by the next writing and never read. ``best.safetensors`` is a file of the same
format, written in the same way: the θ that scored highest, with its score, without optimizer state. A run is never
resumed from it, and retention never removes it.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from protocol.errors import UserError

FORMAT = 1
TEMPORARY = "checkpoint.tmp"
BEST = "best.safetensors"
_NAME = re.compile(r"checkpoint-(\d{12,})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run.

    manifest: digest of the run's manifest, in hexadecimal; a run resumes only its own. version: of θ. epoch: life of
    the learner that wrote it. counters: the run's, by name. arrays: θ, optimizer state, observation moments, by name.
    score: of the best alone: mean, std, ci95, episodes, seed; else None.
    """

    manifest: str
    version: int
    epoch: int
    counters: dict[str, int | float]
    arrays: dict[str, np.ndarray]
    score: dict[str, int | float] | None = None


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of a checkpoint but its arrays, as JSON in the file's metadata."""

    format: int
    manifest: str
    version: int
    epoch: int
    counters: dict[str, int | float]
    score: dict[str, int | float] | None = None


class CheckpointFault(UserError):
    """A checkpoint that cannot be used. path: which. cause: why."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"checkpoint {self.path}: {self.cause}"


@dataclass(frozen=True)
class Found:
    """What a folder holds. checkpoint: the newest good one, or None. bad: newer ones that were passed over, and why."""

    checkpoint: Checkpoint | None
    bad: tuple[CheckpointFault, ...]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write durably, then delete all but the newest ``keep`` >= 1. Raises OSError; older ones are then untouched."""
    path = _write(folder, f"checkpoint-{checkpoint.version:012d}.safetensors", checkpoint)
    _retain(folder, checkpoint.version, keep)
    return path


def save_best(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write durably in place of the best before. Raises OSError; that one is then untouched."""
    return _write(folder, BEST, checkpoint)


def load_best(folder: Path) -> Checkpoint | None:
    """The best that was written, None where there is none. Raises CheckpointFault for one that cannot be used."""
    path = folder / BEST
    return load(path) if path.exists() else None


def _write(folder: Path, name: str, checkpoint: Checkpoint) -> Path:
    path, temporary = folder / name, folder / TEMPORARY
    with temporary.open("wb") as file:
        file.write(_pack(checkpoint))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(folder)
    return path


def newest(folder: Path) -> Found:
    """The newest checkpoint that is whole; bad ones are left in place and reported."""
    bad: list[CheckpointFault] = []
    for _, path in _listed(folder):
        try:
            return Found(load(path), tuple(bad))
        except CheckpointFault as error:
            bad.append(error)
    return Found(None, tuple(bad))


def load(path: Path) -> Checkpoint:
    """Read one file and verify it. Raises CheckpointFault."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except OSError as error:
        raise CheckpointFault(path, error.strerror or str(error)) from None
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointFault(path, f"not a safetensors file of ours: {error}") from None
    header = _header(path, metadata, arrays)
    return Checkpoint(header.manifest, header.version, header.epoch, header.counters, arrays, header.score)


def _pack(checkpoint: Checkpoint) -> bytes:
    header = Header(
        FORMAT, checkpoint.manifest, checkpoint.version, checkpoint.epoch, checkpoint.counters, checkpoint.score
    )
    text = msgspec.json.encode(header).decode()
    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}  # a scalar stays one
    return safetensors.numpy.save(arrays, {"farflung": text, "digest": _digest(text, arrays)})


def _header(path: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Header:
    """The verified header. The digest comes first: an unverified header is not worth an opinion."""
    if "farflung" not in metadata:
        raise CheckpointFault(path, "not a checkpoint of ours: it has no Farflung header")
    if metadata.get("digest") != _digest(metadata["farflung"], arrays):
        raise CheckpointFault(path, "its digest does not match its contents; the file is damaged")
    try:
        header = msgspec.json.decode(metadata["farflung"], type=Header)
    except (msgspec.DecodeError, ValueError) as error:
        raise CheckpointFault(path, f"its header cannot be read: {error}") from None
    if header.format != FORMAT:
        raise CheckpointFault(path, f"format {header.format}; this program reads format {FORMAT}")
    return header


def _digest(header: str, arrays: dict[str, np.ndarray]) -> str:
    """BLAKE2b-256 over the header and every array's name, type, shape and bytes, in order of names."""
    digest = hashlib.blake2b(header.encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return digest.hexdigest()


def _listed(folder: Path) -> list[tuple[int, Path]]:
    """(version, path) of every checkpoint by name, newest first."""
    if not folder.is_dir():
        return []
    matched = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in matched if match), reverse=True)


def _retain(folder: Path, written: int, keep: int) -> None:
    """Deletes old ones. Files newer than the one just written were passed over when the run resumed: they are evidence,
    and must not push good ones out.
    """
    older = [path for version, path in _listed(folder) if version <= written]
    for path in older[keep:]:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
