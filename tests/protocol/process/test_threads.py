"""One thread for each numeric library, unless a person said otherwise."""

from __future__ import annotations

import subprocess
import sys

from protocol.process.threads import ONE_THREAD, limit_threads


def test_what_a_person_said_stays() -> None:
    environ = {"OMP_NUM_THREADS": "3", "HOME": "/"}
    limit_threads(environ)
    assert environ == {**ONE_THREAD, "OMP_NUM_THREADS": "3", "HOME": "/"}


def test_it_comes_before_numpy() -> None:
    script = "import sys, protocol.process.threads; assert 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
