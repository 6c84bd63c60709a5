"""Who may take part: the learner's own pair and the public keys that it lets in. Knows files; no sockets, no clock.

A directory holds ``learner.key`` and ``authorized``, one line for each actor: its public key and its name. The list is
looked at again and again while the learner runs: who is added may come, who is taken off must go.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from protocol.errors import UserError
from protocol.keys import KeyPair, is_key, is_name, read_pair

OWN, LIST = "learner.key", "authorized"
MAX_LIST_BYTES = 1 << 20


class ListError(UserError):
    """A list of keys that cannot be read. path: of it. problem: what is wrong, with its line."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_list(path: Path) -> dict[str, str]:
    """Names by public key; empty where there is no such file. Raises ListError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ListError(path, error.strerror or str(error)) from None
    if len(data) > MAX_LIST_BYTES:
        raise ListError(path, f"more than {MAX_LIST_BYTES} bytes")
    names: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words or (words[0].startswith("#") and not is_key(words[0])):
            continue
        if len(words) != 2 or not is_key(words[0]) or not is_name(words[1]):
            raise ListError(path, f"line {number} is not PUBLIC_KEY NAME")
        if words[0] in names or words[1] in names.values():
            raise ListError(path, f"line {number} has a key or a name a second time")
        names[words[0]] = words[1]
    return names


def write_list(path: Path, names: Mapping[str, str]) -> None:
    """Replaces the list whole: a reader sees the old one or the new one. Raises ListError."""
    text = "".join(f"{key} {name}\n" for key, name in names.items())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{LIST}-")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ListError(path, error.strerror or str(error)) from None


def authorize(directory: Path, public: str, name: str) -> None:
    """Lets a key in. Raises ListError where the key or the name is there already."""
    path = directory / LIST
    names = read_list(path)
    if not is_key(public):
        raise ListError(path, f"{public[:64]!r} is no public key of 40 characters")
    if not is_name(name):
        raise ListError(path, f"{name[:80]!r} is no name: letters, digits, dots, dashes, underscores, at most 64")
    if public in names:
        raise ListError(path, f"this key is there already, as {names[public]}")
    if name in names.values():
        raise ListError(path, f"{name} is there already, with another key; revoke it first")
    write_list(path, names | {public: name})


def revoke(directory: Path, who: str) -> str:
    """Takes a key off, by its name or itself; returns its name. Raises ListError where it is not there."""
    path = directory / LIST
    names = read_list(path)
    found = [key for key, name in names.items() if who in (key, name)]
    if not found:
        raise ListError(path, f"{who[:64]!r} is not there; {len(names)} are: {', '.join(list(names.values())[:10])}")
    (public,) = found
    name = names.pop(public)
    write_list(path, names)
    return name


class Keyring:
    """What the learner holds while it runs. pair: its own. Raises UserError where a file is missing or wrong.

    extra: keys that are let in besides those of the list, as of this life's own local actors: names by public key.
    """

    def __init__(self, directory: Path) -> None:
        self.pair: KeyPair = read_pair(directory / OWN)
        self.extra: dict[str, str] = {}
        self._path = directory / LIST
        self._stamp = self._stamp_now()
        self._names = read_list(self._path)

    def name(self, public: str) -> str | None:
        """Of the actor whose key this is; None where it may not take part."""
        return self._names.get(public) or self.extra.get(public)

    def refresh(self) -> frozenset[str]:
        """Looks at the list again; the keys that were taken off. Raises ListError, keeping what it held."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return frozenset()
        self._stamp = stamp  # told once
        before, self._names = self._names, read_list(self._path)
        return frozenset(before) - frozenset(self._names)

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
