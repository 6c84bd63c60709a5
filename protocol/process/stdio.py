"""Standard input, output and error as both daemons need them, and the lines that they write. Knows descriptors."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from importlib import metadata

import msgspec


def prepare() -> None:
    """Makes the standard streams safe; to be called before anything is opened.

    A descriptor of 0 to 2 that is closed becomes /dev/null, in children too: the next file or socket would get its
    number otherwise, and be written to as standard error; libuv aborts. Text may hold what no encoding has, as the
    name of a file does that is only bytes.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, descriptor)
            os.set_inheritable(descriptor, True)  # dup2 does nothing where they are the same
            if opened != descriptor:
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def version_of(package: str) -> str:
    """Of an installed package; "unknown" where it is not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def json_line(fields: Mapping[str, object]) -> bytes:
    """One object and a line's end, as JSON. Bytes of a path that are no UTF-8 are written as ``\\udcff``."""
    try:
        return msgspec.json.encode(fields) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(msgspec.to_builtins(fields))) + b"\n"


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(inner) for name, inner in value.items()}
    return [_encodable(inner) for inner in value] if isinstance(value, list | tuple) else value
