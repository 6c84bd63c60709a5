"""Starts a module with no sockets but those of some address families, as a unit's RestrictAddressFamilies= has it.

``python -m tests.deploy.engines.confined AF_INET,AF_UNIX MODULE ARGUMENTS``. Knows Linux' filters of system
calls (seccomp(2)); what is denied fails with EAFNOSUPPORT, as systemd has it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}  # number of the system call
SET_SECCOMP, SET_NO_NEW_PRIVILEGES, FILTER = 22, 38, 2  # prctl(2)
LOAD, EQUALS, ANSWER = 0x20, 0x15, 0x06  # classic BPF
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER, FIRST_ARGUMENT = 0, 16  # of struct seccomp_data


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def program(families: list[int]) -> bytes:
    """Allows every call but socket(2) of another family."""
    lines = [
        (LOAD, 0, 0, NUMBER),
        (EQUALS, 0, len(families) + 2, SOCKET[platform.machine()]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        *((EQUALS, len(families) - n, 0, family) for n, family in enumerate(families)),
        (ANSWER, 0, 0, FAIL | errno.EAFNOSUPPORT),
        (ANSWER, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def confine(families: list[int]) -> None:
    """For this process and all that it starts. Raises OSError."""
    code = program(families)
    libc = ctypes.CDLL(None, use_errno=True)
    given = Program(len(code) // 8, code)
    for words in ((SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, ctypes.byref(given), 0, 0)):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    confine([int(getattr(socket, name)) for name in sys.argv[1].split(",")])
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
