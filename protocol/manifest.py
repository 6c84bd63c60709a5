"""What a run is, so that a directory of another experiment is told apart. Pure. Knows data, not files."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocol.errors import UserError
from protocol.layout import Layout
from protocol.messages import Counter, Digest, Name
from protocol.setting_names import KEPT, OF_SIMULATORS
from protocol.settings import toml

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


Changes = dict[str, tuple[object, object]]  # by setting, what it was and what it is; None where a table names none


def changes(before: bytes, after: bytes) -> Changes:
    """In which settings two actor tables differ, under their names in an experiment; options of an environment each by
    itself. Raises ManifestError for bytes that are no table.
    """
    one, other = _flat(before), _flat(after)
    names = [name for name in (one | other) if one.get(name) != other.get(name)]
    return {f"actor.{name}": (one.get(name), other.get(name)) for name in names}


def in_words(changed: Changes, first: str = "in one", second: str = "in the other") -> str:
    """Each setting with both of its values. first, second: where they are."""
    each = ((name, *map(_value, values)) for name, values in changed.items())
    return "; ".join(f"{name} is {one} {first} and {other} {second}" for name, one, other in each)


def makes_simulators(changed: Changes) -> bool:
    """Whether there are other environments with it, whose spaces may be others."""
    return any(name.split(".")[1] in (*OF_SIMULATORS, "curriculum") for name in changed)


def difference(a: Manifest, b: Manifest) -> str | None:
    """Sentences that name what the experiments differ in; None where one can go on as the other.

    Run name, seed and creation do not make another experiment, nor does a setting of actors that the network, its
    statistics and the family of its algorithm do not follow from.
    """
    changed = changes(a.actor_table, b.actor_table)
    kept = {name: values for name, values in changed.items() if name.split(".")[1] in KEPT}
    others = f" The settings that differ: {in_words(changed)}." if changed else ""
    if a.env != b.env:
        return f"The environment is {a.env} in one and {b.env} in the other."
    if kept:
        return f"A run keeps what makes its network, its statistics and its method: {in_words(kept)}."
    if a.layout.digest != b.layout.digest:
        return _layout_difference(a.layout, b.layout) + others
    if a.observation_size != b.observation_size:
        sizes = f"{a.observation_size} numbers in one, {b.observation_size} in the other"
        return f"Actors normalise {sizes}.{others}"
    return None


def _flat(table: bytes) -> dict[str, object]:
    """Settings by name, an environment's options each by itself."""
    try:
        given: dict[str, Any] = msgspec.msgpack.decode(table, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ManifestError(f"its actor table is none: {error}") from None
    options = given.pop("env_options", {})
    each = {f"env_options.{name}": value for name, value in options.items()} if isinstance(options, dict) else {}
    return given | (each if isinstance(options, dict) else {"env_options": options})


def _value(value: object) -> str:
    return "not set" if value is None else toml(value)


def _layout_difference(a: Layout, b: Layout) -> str:
    if a.length != b.length:
        return f"The network has {a.length} parameters in one and {b.length} in the other."
    return f"The network's arrays differ in name, shape or order: layout {a.digest.hex()} and layout {b.digest.hex()}."
