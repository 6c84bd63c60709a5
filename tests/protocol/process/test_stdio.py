"""Standard streams of processes that were started without some of them, and lines of names that are no text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from protocol.process.stdio import json_line, version_of

SCRIPT = """
import os, subprocess, sys
from protocol.process.stdio import prepare
prepare()
told = [os.fstat(n).st_rdev == os.stat(os.devnull).st_rdev for n in (0, 1, 2)]
inherited = subprocess.run([sys.executable, "-c", "import os; [os.fstat(n) for n in (0, 1, 2)]"]).returncode
print("x\\udcff", file=sys.stdout, flush=True)
print("x\\udcff", file=sys.stderr, flush=True)
os.write(int(sys.argv[1]), bytes([*told, inherited]))
"""


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_what_is_closed_is_dev_null_for_children_too(closed: tuple[int, ...]) -> None:
    import os

    reader, writer = os.pipe()
    shut = " ".join(f"{n}>&-" for n in closed)
    command = ["sh", "-c", f'exec "$@" {shut}', "sh", sys.executable, "-c", SCRIPT, str(writer)]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, pass_fds=[writer], check=False)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert list(told.read()) == [*(n in closed for n in (0, 1, 2)), 0], done.stderr
    assert (done.stdout, done.stderr) == tuple(b"" if n in closed else b"x\\udcff\n" for n in (1, 2))


def test_a_path_that_is_no_text_is_escaped_and_the_rest_is_as_ever() -> None:
    plain = {"event": "e", "inner": [1.5, None, {"x": float("nan")}]}
    assert json_line(plain) == b'{"event":"e","inner":[1.5,null,{"x":null}]}\n'
    line = json_line({**plain, "path": "bad\udcff", "inner": ["\udcfe", {"\udcfd": float("nan")}]})
    assert json.loads(line) == {"event": "e", "path": "bad\\udcff", "inner": ["\\udcfe", {"\\udcfd": None}]}


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert (version_of("farflung").count("."), version_of("no-such-package")) == (2, "unknown")
