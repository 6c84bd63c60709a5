"""A folder of one life of the learner, where this machine's actors find its sockets. Knows files; opens no socket."""

from __future__ import annotations

import os
import tempfile

from protocol.errors import UserError
from protocol.transport.address import parse_address

PREFIX = "farflung-"


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """In the temporary folder, or in /tmp where the path of a socket in that one would be too long or no text.

    It is this user's alone, and goes with the context. Raises UserError where neither will do.
    """
    chosen = tempfile.gettempdir()
    for folder in (chosen, "/tmp"):  # noqa: S108 - for a folder in it
        if holds_sockets(folder):
            return tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder)
    raise UserError(
        f"the temporary folder {chosen} cannot hold sockets: its path is too long or no UTF-8; set TMPDIR to another"
    )


def holds_sockets(folder: str) -> bool:
    """Whether a scratch folder in it may hold sockets: its path is short enough and text, and it can be written."""
    try:
        folder.encode()
        parse_address(f"ipc://{folder}/{PREFIX}12345678/learner").weights()
    except (UnicodeEncodeError, UserError):
        return False
    return os.access(folder, os.W_OK | os.X_OK)
