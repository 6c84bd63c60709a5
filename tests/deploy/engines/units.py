"""The units as they ship, started by a real systemd: ``make test-deploy`` runs this where UNITS_ROOT names a Debian.

A Debian tree with systemd, dbus and Python of this interpreter's minor version, as debootstrap makes it (see
CONTRIBUTING.md). It is booted in systemd-nspawn with a network of its own, and keeps what it writes into /var.
Knows nspawn, nsenter and /proc.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.system import ROOT

TREE = os.environ.get("UNITS_ROOT", "")
PYTHON = f"python3.{sys.version_info.minor}"
BOOT_S = 60.0
UNITS = ROOT / "deploy/systemd"
COMMANDS = {"learner": "from learner.cli import main\nmain()\n", "actor": "from actor.cli import process\nprocess()\n"}

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-nspawn") is None, reason="needs systemd-nspawn, root"
    ),
    pytest.mark.skipif(not TREE, reason="UNITS_ROOT names no Debian tree"),
    pytest.mark.skipif(not Path(TREE, "usr/bin", PYTHON).exists(), reason=f"UNITS_ROOT has no {PYTHON}"),
    pytest.mark.timeout(300),
]


class Machine:
    """A booted tree. leader: its process 1, as this machine numbers it."""

    def __init__(self, leader: int) -> None:
        self.leader = leader

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """In it, to its end."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--", *command]
        path = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(enter, capture_output=True, text=True, timeout=BOOT_S, env=path, check=False)

    def shown(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit."""
        told = self.run("systemctl", "show", "--value", *(f"--property={name}" for name in names), unit).stdout
        return [line for line in told.splitlines() if line]

    def said(self, unit: str, event: str) -> list[dict[str, Any]]:
        """Events of a daemon, as its journal has them."""
        lines = self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout.splitlines()
        return [said for line in lines if line.startswith("{") and (said := json.loads(line))["event"] == event]

    def until_said(self, unit: str, event: str) -> dict[str, Any]:
        """The first of them, once it is there."""
        until = time.monotonic() + BOOT_S
        while time.monotonic() < until:
            if found := self.said(unit, event):
                return found[0]
            time.sleep(0.5)  # another machine's journal tells nobody here
        raise AssertionError(self.run("journalctl", "--no-pager", "--lines=40", "--unit", unit).stdout)


def install(tree: Path) -> None:
    """As deploy/README.md says, but that the packages are those of this interpreter."""
    for folder in ("opt/site", "opt/src", "etc/farflung", "usr/lib/sysusers.d"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    subprocess.run(["chroot", tree, "python3", "-m", "venv", "--without-pip", "/opt/farflung"], check=True)
    site = tree / "opt/farflung/lib" / PYTHON / "site-packages/farflung.pth"
    site.write_text("/opt/src\n/opt/site\n")
    for name, text in COMMANDS.items():
        command = tree / "opt/farflung/bin" / name
        command.write_text(f"#!/opt/farflung/bin/python3\n{text}")
        command.chmod(0o755)
    for unit in UNITS.glob("*.service"):
        shutil.copy(unit, tree / "etc/systemd/system")
    shutil.copy(UNITS / "farflung.sysusers.conf", tree / "usr/lib/sysusers.d/farflung.conf")
    shutil.copy(ROOT / "deploy/experiments/cartpole.toml", tree / "etc/farflung/experiment.toml")
    (tree / "etc/farflung/actor.env").write_text("LEARNER=tcp://localhost:5555\nOPTIONS=\n")


KEYS = """
set -e
ip link set lo up
systemd-sysusers
rm -rf /etc/farflung/keys /etc/farflung/actor.key /var/lib/farflung /etc/systemd/system/*.d
/opt/farflung/bin/learner keys new rack --keys /etc/farflung/keys
mv /etc/farflung/keys/rack.key /etc/farflung/actor.key
chown -R root:farflung /etc/farflung/keys
chmod 0750 /etc/farflung/keys; chmod 0640 /etc/farflung/keys/learner.key /etc/farflung/keys/authorized
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    tree = Path(TREE)
    install(tree)
    site = sysconfig.get_path("purelib")
    command = ["systemd-nspawn", "--directory", TREE, "--boot", "--register=no", "--keep-unit", "--private-network"]
    command += ["--console=pipe", f"--bind-ro={site}:/opt/site", f"--bind-ro={ROOT}:/opt/src"]
    unified = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"}
    log = tmp_path_factory.mktemp("x") / "console"
    with log.open("wb") as console:
        nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=unified)
    try:
        booted = Machine(_leader(nspawn, log))
        done = booted.run("bash", "-c", KEYS)
        assert done.returncode == 0, done.stderr
        yield booted
        booted.run("systemctl", "poweroff", "--force")
        with contextlib.suppress(subprocess.TimeoutExpired):
            nspawn.wait(BOOT_S)
    finally:
        nspawn.kill()
        nspawn.wait()


def _leader(nspawn: subprocess.Popen[bytes], log: Path) -> int:
    """Process 1 of the tree, once systemd says that it has booted."""
    until = time.monotonic() + BOOT_S
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    while time.monotonic() < until and nspawn.poll() is None:
        for pid in map(int, children.read_text().split()):
            if Machine(pid).run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return pid
        time.sleep(0.5)  # nobody can be asked to tell before there is somebody
    raise AssertionError(log.read_text(errors="replace"))


def test_the_units_start_train_and_stop(machine: Machine) -> None:
    started = machine.run("systemctl", "start", "farflung-learner")
    assert started.returncode == 0, machine.run("journalctl", "--no-pager", "--unit", "farflung-learner").stdout
    assert machine.run("systemctl", "start", "farflung-actor@1").returncode == 0
    machine.until_said("farflung-actor@1", "welcomed")
    ended = machine.until_said("farflung-learner", "finished")
    assert ended["solved"]
    for unit in ("farflung-learner", "farflung-actor@1"):
        machine.run("systemctl", "stop", unit)
        assert machine.shown(unit, "Result", "NRestarts", "ExecMainStatus") == ["success", "0", "0"]


def test_a_unit_without_what_libzmq_needs_fails(machine: Machine) -> None:
    """The check can fail: the same unit with the families that it once had."""
    folder = "/etc/systemd/system/farflung-learner.service.d"
    text = "[Service]\\nRestart=no\\nRestrictAddressFamilies=\\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\\n"
    write = f"rm -rf /var/lib/farflung; mkdir -p {folder}; printf '{text}' > {folder}/old.conf"
    script = f"{write}; systemctl daemon-reload"
    assert machine.run("bash", "-c", script).returncode == 0
    assert machine.run("systemctl", "start", "farflung-learner").returncode == 1
    assert machine.shown("farflung-learner", "Result") == ["signal"]
    told = machine.run("journalctl", "--no-pager", "--unit", "farflung-learner").stdout
    assert "Address family not supported" in told
