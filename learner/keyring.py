"""Who may take part: the learner's own pair and the public keys that it lets in. Knows files; no sockets, no clock.

A directory holds ``learner.key`` and ``authorized``, one line for each actor: its public key and its name. The list is
looked at again and again while the learner runs: who is added may come, who is taken off must go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from protocol.errors import UserError
from protocol.keys import KeyPair, is_key, is_name, read_pair

OWN, LIST, LOCK = "learner.key", "authorized", ".lock"
MAX_LIST_BYTES = 1 << 20


class ListError(UserError):
    """A list of keys that cannot be read. path: of it. problem: what is wrong, with its line."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_list(path: Path) -> dict[str, str]:
    """Names by public key; empty where there is no such file. Raises ListError, also where others may write it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_LIST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ListError(path, error.strerror or str(error)) from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
        raise ListError(path, "others may write it: it must be this user's own or root's, and chmod go-w")
    if len(data) > MAX_LIST_BYTES:
        raise ListError(path, f"more than {MAX_LIST_BYTES} bytes")
    return _parsed(path, data.decode("utf-8", "replace"))


def _parsed(path: Path, text: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or (words[0].startswith("#") and not (len(words) == 2 and is_key(words[0]))):
            continue
        if len(words) != 2 or not is_key(words[0]) or not is_name(words[1]):
            raise ListError(path, f"line {number} is not PUBLIC_KEY NAME")
        if words[0] in names or words[1] in names.values():
            raise ListError(path, f"line {number} has a key or a name a second time")
        names[words[0]] = words[1]
    return names


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[Path]:
    """The list, while no other command changes it. Raises ListError."""
    path = directory / LIST
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ListError(path, error.strerror or str(error)) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)


def write_list(path: Path, names: Mapping[str, str]) -> None:
    """Replaces the list whole: a reader sees the old one or the new one, with the same owner. Raises ListError."""
    text = "".join(f"{key} {name}\n" for key, name in names.items())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{LIST}-")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                _like(path, descriptor)  # or a learner of another user could not read what was revoked
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


def _like(path: Path, descriptor: int) -> None:
    """Gives a new file the mode and the owner of the one that it replaces, or of the directory."""
    try:
        status = path.stat()
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        status = path.parent.stat()
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, status.st_uid, status.st_gid)


def authorize(directory: Path, public: str, name: str) -> None:
    """Lets a key in. Raises ListError where the key or the name is there already."""
    with _alone(directory) as path:
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
    with _alone(directory) as path:
        names = read_list(path)
        found = [key for key, name in names.items() if who in (key, name)]
        if not found:
            raise ListError(
                path, f"{who[:64]!r} is not there; {len(names)} are: {', '.join(list(names.values())[:10])}"
            )
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
        self._stamp = self._seen = self._stamp_now()  # of the list that is in force; of the one that was seen last
        self._told = ""
        self._names = read_list(self._path)

    def name(self, public: str) -> str | None:
        """Of the actor whose key this is; None where it may not take part."""
        return self._names.get(public) or self.extra.get(public)

    def refresh(self) -> frozenset[str]:
        """Looks at the list again; the keys that were taken off. Raises ListError, keeping what it held and trying
        again at the next call; the same error is told once.

        A list counts when it was seen twice: an editor that empties it before it writes shuts nobody out.
        """
        stamp, seen = self._stamp_now(), self._seen
        self._seen = stamp
        if stamp == self._stamp or stamp != seen:
            return frozenset()
        try:
            names = read_list(self._path)
        except ListError as error:
            if str(error) == self._told:
                return frozenset()
            self._told = str(error)
            raise
        self._stamp, self._told = stamp, ""
        before, self._names = self._names, names
        return frozenset(before) - frozenset(names)

    def _stamp_now(self) -> tuple[int, int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
