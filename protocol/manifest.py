"""What a run is, so that a directory of another experiment is told apart. Pure. Knows data, not files."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocol.errors import UserError
from protocol.layout import Layout
from protocol.messages import Counter, Digest, Name

FORMAT_VERSION = 1


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Weights of another run that a run began with.

    path: of their file; run, version: whose they were, and how old. only, leave: patterns that chose among layers.
    copied_layers, copied_parameters: how many were taken; left: names of layers that began at θ₀. statistics_rows: of
    what actors normalise, 0 where none were taken. optimizer: whether its state was taken.
    """

    path: str
    run: str
    version: Counter
    only: tuple[str, ...]
    leave: tuple[str, ...]
    copied_layers: int
    copied_parameters: int
    left: tuple[str, ...]
    statistics_rows: Counter
    optimizer: bool


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``manifest.json`` of a run directory, and what ``actor init`` prints beside θ₀."""

    format_version: int = FORMAT_VERSION
    run: Name
    env: Annotated[str, Meta(min_length=1, max_length=200)]
    seed: Counter
    layout: Layout
    observation_size: Counter = 0  # numbers that actors normalise: D of WIRE.md, section 4; 0 where they normalise none
    actor_table: bytes  # the experiment's actor table, msgpack
    actor_digest: Digest  # BLAKE2b-64 of actor_table
    created: str  # a moment in words, given by the caller; never compared
    initial: Origin | UnsetType = UNSET  # never compared; unset is left out, so that older digests stay what they were


class ManifestError(UserError):
    """A file that is not a manifest of ours. detail: what is wrong with it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"not a run's manifest: {self.detail}"


def digest_of(table: bytes) -> bytes:
    """Eight bytes that name an actor table: BLAKE2b-64."""
    return hashlib.blake2b(table, digest_size=8).digest()


def encode(manifest: Manifest) -> bytes:
    """JSON, bytes as base64, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(text: bytes) -> Manifest:
    """What ``encode`` wrote. Raises ManifestError for anything else, another format version included."""
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ManifestError(str(error)) from None
    if manifest.format_version != FORMAT_VERSION:
        raise ManifestError(f"format version {manifest.format_version}, this program reads {FORMAT_VERSION}")
    if manifest.actor_digest != digest_of(manifest.actor_table):
        raise ManifestError("its actor table does not have its digest")
    return manifest


def difference(a: Manifest, b: Manifest) -> str | None:
    """One sentence that names the first thing in which the experiments differ; None where they are the same.

    Run name, seed and creation do not make another experiment.
    """
    if a.env != b.env:
        return f"The environment is {a.env} in one and {b.env} in the other."
    if a.layout.digest != b.layout.digest:
        return _layout_difference(a.layout, b.layout)
    if a.observation_size != b.observation_size:
        return f"Actors normalise {a.observation_size} numbers in one, {b.observation_size} in the other."
    if a.actor_digest != b.actor_digest:
        return f"The actor tables differ: {a.actor_digest.hex()} in one and {b.actor_digest.hex()} in the other."
    return None


def _layout_difference(a: Layout, b: Layout) -> str:
    if a.length != b.length:
        return f"The network has {a.length} parameters in one and {b.length} in the other."
    return f"The network's arrays differ in name, shape or order: layout {a.digest.hex()} and layout {b.digest.hex()}."
