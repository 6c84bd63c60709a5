"""A Debian that systemd has booted as process 1, in systemd-nspawn. Knows nspawn, nsenter, pip's settings and /proc.

Its network is its own: a loopback and nothing else. Only what must fetch packages borrows this machine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WITHIN_S = 120.0  # for anything that must happen in it; a hundred times what it takes on an idle machine
BOOTED = ("running", "degraded")
REBOOTED = 133  # nspawn's exit code with --keep-unit
PACKAGES = "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf"  # what fetches them needs of this machine


class Machine:
    """A tree that is booted. leader: its process 1, as this machine numbers it."""

    def __init__(self, command: list[str], console: Path) -> None:
        self.leader = 0
        self._command, self._console = command, console
        self._nspawn = self._boot()

    def _boot(self) -> subprocess.Popen[bytes]:
        """Returns once systemd says that it has booted. Raises AssertionError."""
        unified = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"}
        with self._console.open("ab") as log:
            nspawn = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=unified)
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until and nspawn.poll() is None:
            for pid in map(int, children.read_text().split()):
                self.leader = pid
                if self.run("systemctl", "is-system-running").stdout.strip() in BOOTED:
                    return nspawn
            time.sleep(0.3)  # nobody can be asked to tell before there is somebody
        nspawn.kill()
        raise AssertionError(self._console.read_text(errors="replace"))

    def reboot(self) -> None:
        """In order, as a person would; nspawn leaves the second half to whoever started it."""
        self.run("systemctl", "reboot")
        assert self._nspawn.wait(WITHIN_S) == REBOOTED
        self._nspawn = self._boot()

    def off(self) -> None:
        """For good."""
        try:
            self._nspawn.terminate()  # which nspawn makes a power-off of
            self._nspawn.wait(WITHIN_S)
        finally:
            self._nspawn.kill()
            self._nspawn.wait()

    def run(self, *command: str, fetches: bool = False, within_s: float = WITHIN_S) -> subprocess.CompletedProcess[str]:
        """In it, to its end. fetches: in this machine's network."""
        spaces = ["-m", "-u", "-i", "-p", *([] if fetches else ["-n"])]
        path = {**(os.environ if fetches else {}), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        enter = ["nsenter", "-t", str(self.leader), *spaces, "--", *command]
        return subprocess.run(enter, capture_output=True, text=True, timeout=within_s, env=path, check=False)

    def does(self, script: str, **how: Any) -> str:
        """What a script of bash prints; it must succeed."""
        done = self.run("bash", "-euc", script, **how)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def shown(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit, in this order."""
        told = self.run("systemctl", "show", *(f"--property={name}" for name in names), unit).stdout
        values = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        return [values.get(name, "") for name in names]

    def story(self, unit: str) -> str:
        """Its journal, of all boots."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    def last_words(self) -> str:
        """Of all units of ours, without progress."""
        lines = self.run("journalctl", "--no-pager", "--boot", "--unit", "farflung-*").stdout.splitlines()
        return "\n".join([line[:300] for line in lines if '"event":"progress"' not in line][-60:])

    def said(self, unit: str, event: str) -> list[dict[str, Any]]:
        """Events of a daemon, as its journal has them."""
        lines = self.story(unit).splitlines()
        return [said for line in lines if line.startswith("{") and (said := json.loads(line))["event"] == event]

    def until_said(self, unit: str, event: str, times: int = 1) -> dict[str, Any]:
        """The newest, once there are so many."""
        self.until(lambda: len(self.said(unit, event)) >= times, unit)
        return self.said(unit, event)[-1]

    def until_shown(self, unit: str, within_s: float = WITHIN_S, **properties: str) -> None:
        """Until they have these values."""
        self.until(lambda: self.shown(unit, *properties) == list(properties.values()), unit, within_s)

    def until(self, holds: Callable[[], bool], unit: str, within_s: float = WITHIN_S) -> None:
        """Raises AssertionError with what all units of ours said last."""
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, f"{unit}: {self.last_words()}"
            time.sleep(0.5)  # another machine's journal tells nobody here


@contextlib.contextmanager
def boot(tree: Path, scratch: Path) -> Iterator[Machine]:
    """A copy of a Debian tree, booted. scratch: a folder for it; 2 GB come and go there faster in memory."""
    copy, console = scratch / "memory/tree", scratch / "console"
    copy.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "farflung", str(copy.parent)], check=True)
    command = ["systemd-nspawn", "--directory", str(copy), "--boot", "--register=no", "--keep-unit"]
    command += ["--private-network", "--console=pipe", "--resolv-conf=off", "--machine=farflung"]
    try:
        subprocess.run(["cp", "-a", str(tree), str(copy)], check=True)
        command += [f"--bind-ro={folder}" for folder in _package_sources(copy)]
        machine = Machine(command, console)
        try:
            yield machine
        finally:
            machine.off()
    finally:
        subprocess.run(["umount", "--lazy", str(copy.parent)], check=True)


def _package_sources(tree: Path) -> list[Path]:
    """What pip needs of this machine to reach packages as it does; its settings are written into the tree."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = re.findall(r"^global\.([a-z-]+)='(.*)'$", listed.stdout, re.MULTILINE)
    kept = [(name, value) for name, value in settings if name != "constraint"]  # constraints.txt is what is tested
    (tree / "etc/pip.conf").write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept))
    folders = {
        Path(*Path(found).parts[:3])
        for _, value in [*kept, *((name, value) for name, value in os.environ.items() if name.startswith("PIP_"))]
        for found in re.findall(r"(?:(?<=file://)|(?<![^\s]))/[^\s/][^\s]*", value)
    }
    return [path for path in map(Path, PACKAGES) if path.exists()] + [path for path in folders if path.is_dir()]
