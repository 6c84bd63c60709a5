"""Who may take part: the learner's own pair and the public keys that it lets in. Knows files; no sockets, no clock.

A directory holds ``learner.key`` and ``authorized``, one line for each actor: its public key, its name and, by commas,
its roles; without any it has all. The list is looked at again and again while the learner runs: who is added may come,
who is taken off, or loses a role, must go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from protocol.errors import UserError
from protocol.messages import ROLES
from protocol.transport.keys import KeyPair, is_name, is_public_key, read_pair

OWN, LIST, LOCK = "learner.key", "authorized", ".lock"
MAX_LIST_BYTES = 1 << 20


class Authorized(NamedTuple):
    """name: of an actor, for people. roles: what it may do: train, evaluate."""

    name: str
    roles: frozenset[str] = ROLES


class ListError(UserError):
    """A list of keys that cannot be read. path: of it. problem: what is wrong, with its line."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_list(path: Path) -> dict[str, Authorized]:
    """Who may take part, by public key; nobody where there is no such file. Raises ListError, also where others may
    write it.
    """
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
    return parse_list(path, data.decode("utf-8", "replace"))


def parse_list(path: Path, text: str) -> dict[str, Authorized]:
    """Who is on a list, by public key. path: of its file, for errors. Raises UserError."""
    listed: dict[str, Authorized] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or (words[0].startswith("#") and not (2 <= len(words) <= 3 and is_public_key(words[0]))):
            continue
        if not 2 <= len(words) <= 3 or not is_public_key(words[0]) or not is_name(words[1]):
            raise ListError(path, f"line {number} is not PUBLIC_KEY NAME or PUBLIC_KEY NAME ROLE,ROLE")
        if words[0] in listed or words[1] in names_of(listed):
            raise ListError(path, f"line {number} has a key or a name a second time")
        listed[words[0]] = Authorized(words[1], _roles(path, f"line {number} has", words[2:]))
    return listed


def names_of(listed: Mapping[str, Authorized]) -> set[str]:
    """All names of a list."""
    return {actor.name for actor in listed.values()}


def _roles(path: Path, where: str, given: Sequence[str]) -> frozenset[str]:
    """All where none is given. Raises ListError for one that there is not. given: each one or more, by commas."""
    roles = frozenset(role for text in given for role in text.split(","))
    if roles - ROLES:
        unknown = ", ".join(sorted(map(repr, roles - ROLES)))[:80]
        raise ListError(path, f"{where} the role {unknown}; there are {' and '.join(sorted(ROLES))}")
    return roles or ROLES


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


def write_list(path: Path, listed: Mapping[str, Authorized]) -> None:
    """Replaces the list whole: a reader sees the old one or the new one, with the same owner. Raises ListError."""
    text = "".join(f"{key} {described(actor)}\n" for key, actor in listed.items())
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


def described(actor: Authorized) -> str:
    """Its name and, where it has not all of them, its roles, as on the list."""
    return actor.name if actor.roles == ROLES else f"{actor.name} {','.join(sorted(actor.roles))}"


def _like(path: Path, descriptor: int) -> None:
    """Gives a new file the mode and the owner of the one that it replaces, or of the directory."""
    try:
        status = path.stat()
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        status = path.parent.stat()
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, status.st_uid, status.st_gid)


def authorize(directory: Path, public: str, name: str, roles: Sequence[str] = ()) -> None:
    """Lets a key in, for these roles or all. Raises ListError where the key or the name is there already."""
    with _alone(directory) as path:
        listed, allowed = read_list(path), _roles(path, f"{name[:80]!r} was given", roles)
        if not is_public_key(public):
            raise ListError(path, f"{public[:64]!r} is no public key of 40 characters")
        if not is_name(name):
            raise ListError(path, f"{name[:80]!r} is no name: letters, digits, dots, dashes, underscores, at most 64")
        if public in listed:
            raise ListError(path, f"this key is there already, as {listed[public].name}")
        if name in names_of(listed):
            raise ListError(path, f"{name} is there already, with another key; revoke it first")
        write_list(path, listed | {public: Authorized(name, allowed)})


def revoke(directory: Path, who: str) -> str:
    """Takes a key off, by its name or itself; returns its name. Raises ListError where it is not there."""
    with _alone(directory) as path:
        listed = read_list(path)
        found = [key for key, actor in listed.items() if who in (key, actor.name)]
        if not found:
            some = ", ".join([actor.name for actor in listed.values()][:10])
            raise ListError(path, f"{who[:64]!r} is not there; {len(listed)} are: {some}")
        (public,) = found
        name = listed.pop(public).name
        write_list(path, listed)
    return name


class Keyring:
    """What the learner holds while it runs. pair: its own. Raises UserError where a file is missing or wrong.

    extra: keys that are let in besides those of the list, as of this life's own local actors.
    """

    def __init__(self, directory: Path) -> None:
        self.pair: KeyPair = read_pair(directory / OWN)
        self.extra: dict[str, Authorized] = {}
        self._path = directory / LIST
        self._stamp = self._seen = self._stamp_now()  # of the list that is in force; of the one that was seen last
        self._told = ""
        self._listed = read_list(self._path)

    def name(self, public: str) -> str | None:
        """Of the actor whose key this is; None where it may not take part."""
        found = self._listed.get(public) or self.extra.get(public)
        return None if found is None else found.name

    def roles(self, public: str) -> frozenset[str]:
        """What this key may do: nothing where it may not take part."""
        found = self._listed.get(public) or self.extra.get(public)
        return frozenset() if found is None else found.roles

    def refresh(self) -> dict[str, frozenset[str]]:
        """Looks at the list again; the roles that keys have lost, all where they were taken off. Raises ListError,
        keeping what it held and trying again at the next call; the same error is told once.

        A list counts when it was seen twice: an editor that empties it before it writes shuts nobody out.
        """
        stamp, seen = self._stamp_now(), self._seen
        self._seen = stamp
        if stamp == self._stamp or stamp != seen:
            return {}
        try:
            listed = read_list(self._path)
        except ListError as error:
            if str(error) == self._told:
                return {}
            self._told = str(error)
            raise
        self._stamp, self._told = stamp, ""
        before, self._listed = self._listed, listed
        lost = {key: actor.roles - self.roles(key) for key, actor in before.items()}
        return {key: roles if self.roles(key) else ROLES for key, roles in lost.items() if roles}

    def _stamp_now(self) -> tuple[int, int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
