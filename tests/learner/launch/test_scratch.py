"""The folder of this machine's sockets, in a temporary folder that may be odd."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from learner.launch import scratch
from learner.launch.scratch import scratch_folder
from protocol.errors import UserError


@pytest.mark.parametrize("name", ["x", "x" * 150, os.fsdecode(b"bad\xff")])
def test_a_socket_fits_whatever_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with scratch_folder() as folder:
        assert Path(folder).parent == (odd if name == "x" and scratch.holds_sockets(str(odd)) else Path("/tmp"))
        assert len(f"{folder}/learner.weights".encode()) <= 107
        assert Path(folder).stat().st_mode & 0o77 == 0
    assert not Path(folder).exists()


def test_where_none_fits_the_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 150)
    monkeypatch.setattr(scratch, "holds_sockets", lambda _: False)
    with pytest.raises(UserError, match=r"/xxx.* cannot hold sockets: .*; set TMPDIR to another"):
        scratch_folder()
