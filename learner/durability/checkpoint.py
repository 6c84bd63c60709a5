"""Checkpoints on disk: safetensors with a digest, written so that a crash leaves the old one or the new one whole.

The only file of the learner that reads and writes checkpoints. Knows files, arrays and counters, not what they mean.
No threads, no pickle. One process writes a folder at a time.

A file is ``checkpoint-<version>.safetensors``: named arrays, and in its metadata a JSON header and a BLAKE2b digest
over header and arrays. It is written to one temporary name, synced, renamed, and the folder synced; what a crash leaves
under the temporary name is overwritten by the next writing and never read. ``best.safetensors`` is a file of the same
format, written in the same way: the θ that scored highest, with its score, without optimizer state. Where keys are
asked for ``best-<digest of the key>.safetensors`` is the best by what one key said, the empty one for what was said
without any. A run is never resumed from these, and retention never removes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from learner.durability.disk import DISK, Disk
from protocol.errors import UserError

FORMAT = 1
TEMPORARY = "checkpoint.tmp"
BEST = "best.safetensors"
_BEST_OF = re.compile(r"best-[0-9a-f]{12}\.safetensors")
_NAME = re.compile(r"checkpoint-(\d{12,})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run.

    manifest: digest of the run's manifest, in hexadecimal; a run resumes only its own. version: of θ. epoch: life of
    the learner that wrote it. counters: the run's, by name. arrays: θ, optimizer state, observation moments, by name.
    score: of the best alone: mean, std, ci95, episodes, seed; else None. evaluator: public key whose score it is, where
    keys are asked for.
    """

    manifest: str
    version: int
    epoch: int
    counters: dict[str, int | float]
    arrays: dict[str, np.ndarray]
    score: dict[str, int | float] | None = None
    evaluator: str = ""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of a checkpoint but its arrays, as JSON in the file's metadata."""

    format: int
    manifest: str
    version: int
    epoch: int
    counters: dict[str, int | float]
    score: dict[str, int | float] | None = None
    evaluator: str = ""


class CheckpointFault(UserError):
    """A checkpoint that cannot be used. path: which. cause: why. code: its errno, where it has one."""

    def __init__(self, path: Path, cause: str, code: int | None = None) -> None:
        super().__init__(path, cause, code=code)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"checkpoint {self.path}: {self.cause}"


@dataclass(frozen=True)
class Found:
    """What a folder holds. checkpoint: the newest good one, or None. bad: newer ones that were passed over, and why.

    path: of the good one's file.
    """

    checkpoint: Checkpoint | None
    bad: tuple[CheckpointFault, ...]
    path: Path | None = None


def save(folder: Path, checkpoint: Checkpoint, keep: int, disk: Disk = DISK) -> Path:
    """Write durably, then delete all but the newest ``keep`` >= 1. Raises OSError; older ones are then untouched."""
    path = folder / f"checkpoint-{checkpoint.version:012d}.safetensors"
    write(path, folder / TEMPORARY, checkpoint, disk)
    _retain(folder, checkpoint.version, keep, disk)
    return path


def best_of(key: str) -> str:
    """The name of the file of a key's best. Where no key is asked for that is ``best.safetensors`` while it leads."""
    return f"best-{hashlib.blake2b(key.encode(), digest_size=6).hexdigest()}.safetensors"


def save_best(folder: Path, checkpoint: Checkpoint, disk: Disk = DISK, *, leads: bool = True) -> Path:
    """Write durably in place of its key's best before and, where it leads, of the best of all; the path of the last.

    Raises OSError; what was not reached is then untouched.
    """
    own = [] if leads and not checkpoint.evaluator else [best_of(checkpoint.evaluator)]
    names = [*own, *([BEST] if leads else [])]
    if leads and checkpoint.evaluator:
        _set_aside(folder, disk)
    for name in names:
        write(folder / name, folder / TEMPORARY, checkpoint, disk)
    return folder / names[-1]


def _set_aside(folder: Path, disk: Disk) -> None:
    """Gives a best that has no key a file of its own, before a key's takes its place. Raises OSError."""
    if folder / BEST not in disk.list(folder):
        return
    data = disk.read(folder / BEST)
    with contextlib.suppress(ValueError, KeyError):  # one that is damaged is nobody's best
        if not msgspec.json.decode(_metadata(data)["farflung"], type=Header).evaluator:
            disk.write_whole(folder / best_of(""), folder / TEMPORARY, data, "checkpoint")


def promote_best(folder: Path, key: str | None, disk: Disk = DISK) -> Path:
    """Make a key's best the best of all, or with None there is none. Raises OSError."""
    if key is None:
        disk.remove(folder / BEST)
    else:
        disk.write_whole(folder / BEST, folder / TEMPORARY, disk.read(folder / best_of(key)), "checkpoint")
    return folder / BEST


def load_best(folder: Path, disk: Disk = DISK) -> Checkpoint | None:
    """The best that was written, None where there is none. Raises CheckpointFault for one that cannot be used."""
    path = folder / BEST
    return load(path, disk) if path in disk.list(folder) else None


def best_paths(folder: Path, disk: Disk = DISK) -> list[Path]:
    """Files of the best of each key."""
    return [path for path in disk.list(folder) if _BEST_OF.fullmatch(path.name)]


def write(path: Path, temporary: Path, checkpoint: Checkpoint, disk: Disk = DISK, what: str = "checkpoint") -> None:
    """One file, durably: the old contents of ``path`` or the new ones. Raises OSError."""
    disk.write_whole(path, temporary, pack(checkpoint), what)


def newest(folder: Path, beside: Mapping[int, Path] | None = None, disk: Disk = DISK) -> Found:
    """The newest checkpoint that is whole; bad ones are left in place and reported. beside: others, by version."""
    bad: list[CheckpointFault] = []
    for _, path in sorted([*listed(folder, disk), *(beside or {}).items()], key=lambda each: each[0], reverse=True):
        try:
            return Found(load(path, disk), tuple(bad), path)
        except CheckpointFault as error:
            bad.append(error)
    return Found(None, tuple(bad))


def oldest_sound(folder: Path, disk: Disk = DISK) -> tuple[Path, int] | None:
    """The oldest checkpoint that is whole, and its version."""
    for version, path in reversed(listed(folder, disk)):
        with contextlib.suppress(CheckpointFault):
            load(path, disk)
            return path, version
    return None


def load(path: Path, disk: Disk = DISK) -> Checkpoint:
    """Read one file and verify it. Raises CheckpointFault."""
    try:
        data = disk.read(path)
        arrays = safetensors.numpy.load(data)
        metadata = _metadata(data)
    except OSError as error:
        raise CheckpointFault(path, error.strerror or str(error), error.errno) from None
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointFault(path, f"not a safetensors file of ours: {error}") from None
    header = _header(path, metadata, arrays)
    return Checkpoint(
        header.manifest, header.version, header.epoch, header.counters, arrays, header.score, header.evaluator
    )


def _metadata(data: bytes) -> dict[str, str]:
    """What safetensors keeps beside the arrays, of a file that it could read: a length and JSON."""
    end = 8 + int.from_bytes(data[:8], "little")
    return msgspec.json.decode(data[8:end], type=_Metadata).metadata


class _Metadata(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


def pack(checkpoint: Checkpoint) -> bytes:
    """A checkpoint's file."""
    header = Header(
        FORMAT,
        checkpoint.manifest,
        checkpoint.version,
        checkpoint.epoch,
        checkpoint.counters,
        checkpoint.score,
        checkpoint.evaluator,
    )
    text = msgspec.json.encode(header).decode()
    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}  # a scalar stays one
    return safetensors.numpy.save(arrays, {"farflung": text, "digest": content_digest(text, arrays)})


def _header(path: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Header:
    """The verified header. The digest comes first: an unverified header is not worth an opinion."""
    if "farflung" not in metadata:
        raise CheckpointFault(path, "not a checkpoint of ours: it has no Farflung header")
    if metadata.get("digest") != content_digest(metadata["farflung"], arrays):
        raise CheckpointFault(path, "its digest does not match its contents; the file is damaged")
    try:
        header = msgspec.json.decode(metadata["farflung"], type=Header)
    except (msgspec.DecodeError, ValueError) as error:
        raise CheckpointFault(path, f"its header cannot be read: {error}") from None
    if header.format != FORMAT:
        raise CheckpointFault(path, f"format {header.format}; this program reads format {FORMAT}")
    return header


def state_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Of what applied updates lead to: θ, the optimizer's state and the moments, in hexadecimal."""
    kept = {name: array for name, array in arrays.items() if not name.startswith("staleness.")}
    return content_digest("", kept)


def content_digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """BLAKE2b-256 over the header and every array's name, type, shape and bytes, in order of names."""
    digest = hashlib.blake2b(header.encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return digest.hexdigest()


def listed(folder: Path, disk: Disk = DISK) -> list[tuple[int, Path]]:
    """(version, path) of every checkpoint by name, newest first."""
    matched = ((_NAME.fullmatch(path.name), path) for path in disk.list(folder))
    return sorted(((int(match[1]), path) for match, path in matched if match), reverse=True)


def _retain(folder: Path, written: int, keep: int, disk: Disk) -> None:
    """Deletes old ones. Files newer than the one just written were passed over when the run resumed: they are evidence,
    and must not push good ones out.
    """
    older = [path for version, path in listed(folder, disk) if version <= written]
    for path in older[keep:]:
        disk.remove(path)
