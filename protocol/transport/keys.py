"""CURVE keys in files: a pair for each actor and one for the learner. Knows files; no sockets.

A key is 40 printable characters (Z85 of 32 bytes, ZeroMQ RFC 32). A key file is TOML that holds a pair and, for an
actor, the learner's public key; it is its owner's alone (but see ``handed_out`` and ``lent``), or it is refused.
Secrets never show: not in ``repr``, not in an error.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import UserError

KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}", re.ASCII)
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
MAX_FILE_BYTES = 4096
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyFileError(UserError):
    """A key file that cannot be used. path: of it. problem: why not; never its content."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"key file {self.path}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret key that does not show itself. ``reveal`` is for the socket that needs it."""

    _text: str

    def reveal(self) -> bytes:
        """The 40 characters."""
        return self._text.encode()

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """name: for people. public: 40 characters. learner: the learner's public key, in an actor's file."""

    name: str
    public: str
    secret: Secret
    learner: str | None = None


def is_public_key(text: object) -> bool:
    """Whether it could be a public key: each five characters say a number below 2^32."""
    if not isinstance(text, str) or KEY.fullmatch(text) is None:
        return False
    groups = [text[start : start + 5] for start in range(0, len(text), 5)]
    return all(sum(Z85.index(c) * 85 ** (4 - n) for n, c in enumerate(group)) < 1 << 32 for group in groups)


def is_name(text: object) -> bool:
    """Whether it may name a key: letters, digits, dots, dashes and underscores, at most 64, and no key itself."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None and not is_public_key(text)


def read_pair(path: Path) -> KeyPair:
    """The pair in a key file. Raises KeyFileError, also where others than its owner may read or write it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(path, error.strerror or str(error)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(path, "it is no file")
        if status.st_uid not in (0, os.geteuid()):
            raise KeyFileError(path, "it is another user's")
        if status.st_mode & OTHERS and not handed_out(status) and not lent(path, status):
            mode = stat.S_IMODE(status.st_mode)
            raise KeyFileError(path, f"others than its owner may use it (mode {mode:04o}); say chmod 600")
        data = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    return parse_pair(path, data)


def handed_out(status: os.stat_result) -> bool:
    """Whether it is root's and its group, which is ours, may read it: how Kubernetes gives a container its secrets.

    Root itself reads what it has handed to a group that is not its own: `learner keys` beside a service.
    """
    handed = status.st_uid == 0 and stat.S_IMODE(status.st_mode) in (0o440, 0o640)
    if os.geteuid() == 0:
        return handed and status.st_gid != 0
    return handed and status.st_gid in {os.getegid(), *os.getgroups()}


def lent(path: Path, status: os.stat_result) -> bool:
    """Whether it is a credential of systemd: root's, in the folder that CREDENTIALS_DIRECTORY names, and 0440 in looks.

    What seems to be the group's there is an ACL's mask: the service's user is who may read, and the group may not.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder or status.st_uid != 0 or stat.S_IMODE(status.st_mode) != 0o440:
        return False
    return path.resolve().parent == Path(folder).resolve()


def actor_pair(path: Path) -> KeyPair:
    """The same of an actor, which must know its learner's key."""
    pair = read_pair(path)
    if pair.learner is None:
        raise KeyFileError(path, "it names no learner; an actor's is made by `learner keys new NAME` or `actor key`")
    return pair


def parse_pair(path: Path, data: bytes) -> KeyPair:
    """The pair that a key file holds. Raises KeyFileError, which names ``path``."""
    if len(data) > MAX_FILE_BYTES:
        raise KeyFileError(path, f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise KeyFileError(path, "it is no TOML, as `learner keys new` writes it") from None
    name, public, secret, learner = (table.get(field) for field in ("name", "public", "secret", "learner"))
    if not is_name(name):
        raise KeyFileError(path, "it names nobody: name = letters, digits, dots, dashes, underscores, at most 64")
    for field, value in (("public", public), ("secret", secret), ("learner", learner)):
        if not is_public_key(value) and not (field == "learner" and value is None):
            raise KeyFileError(path, f"{field} is no key of 40 characters, as `learner keys new` writes it")
    return KeyPair(name, public, Secret(secret), learner)  # type: ignore[arg-type]


def write_pair(path: Path, pair: KeyPair) -> None:
    """Writes a new file that only its owner may use. Raises KeyFileError, also where one is there already."""
    lines = [f'name = "{pair.name}"', f'public = "{pair.public}"', f'secret = "{pair.secret.reveal().decode()}"']
    lines += [] if pair.learner is None else [f'learner = "{pair.learner}"']
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink()  # half a key would be in the way of a whole one
            raise
    except FileExistsError:
        raise KeyFileError(path, "it is there already; a key is never written over") from None
    except OSError as error:
        raise KeyFileError(path, error.strerror or str(error)) from None
