"""Others' code in the process, in processes of its own: where it prints, and that it cannot stay."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from learner.launch.guests import own_stdout

QUICK = "from learner.launch import guests\nguests.LEAST_S = 0.01\n"
DEADLINE_S = 60.0


def child(text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", QUICK + text]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize(
    "stays",
    [
        "import atexit, threading; atexit.register(threading.Event().wait)",
        "import threading; threading.Thread(target=threading.Event().wait).start()",
        "from concurrent.futures import ThreadPoolExecutor as P; import threading; P(1).submit(threading.Event().wait)",
    ],
)
def test_what_does_not_end_is_left_and_the_exit_code_stays(stays: str) -> None:
    ended = child(f"{stays}\nprint('last')\nguests.leave_within(0.05, 3, 'learner.on_event mine:hook')")
    assert (ended.returncode, ended.stdout) == (3, "last\n"), ended.stderr
    said = "note: learner.on_event mine:hook left something running that does not end: the process ends without it\n"
    assert ended.stderr == said


def test_what_is_slow_when_modules_are_taken_apart_is_left_too() -> None:
    slow = "class Slow:\n    def __del__(self, sleep=__import__('time').sleep): sleep(1e6)\nslow = Slow()"
    assert child(f"{slow}\nguests.leave_within(0.5, 3, 'mine')").returncode == 1


def test_who_ends_in_time_ends_as_always() -> None:
    """What it has registered is waited for, and what a file holds back is written."""
    work = (
        "import atexit, sys; atexit.register(print, 'saved'); file = open(1, 'w', closefd=False); file.write('held ')"
    )
    ended = child(f"{work}\nguests.leave_within(60.0, 3, 'mine')\nsys.exit(7)")
    assert (ended.returncode, ended.stderr) == (7, "")
    assert sorted(ended.stdout.split()) == ["held", "saved"]


def test_what_others_print_goes_beside_our_lines() -> None:
    ended = child(
        "import os, subprocess\nours = guests.own_stdout()\nprint('theirs')\n"
        "subprocess.run(['echo', 'their child'])\nos.write(1, b'raw\\n')\nprint('ours', file=ours, flush=True)"
    )
    assert (ended.stdout, ended.stderr) == ("ours\n", "theirs\ntheir child\nraw\n")


def test_a_stream_without_a_descriptor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert own_stdout() is sys.stdout
