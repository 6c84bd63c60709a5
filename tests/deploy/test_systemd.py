"""The units: what they promise the daemons, and what systemd's own tools say of them."""

from __future__ import annotations

import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actor.monitoring.liveness import LINK_STUCK_S
from learner.service import STUCK_S
from tests.loopback.system import Launcher

UNITS = Path(__file__).resolve().parents[2] / "deploy/systemd"
NAMES = ("farflung-learner.service", "farflung-actor@.service")
MOST_EXPOSED = 20  # in tenths, of what `systemd-analyze security` gives from 0 (least) to 100

analyzed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def settings(name: str) -> dict[str, list[str]]:
    """All values of each key, lines that go on joined."""
    text = (UNITS / name).read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(" ".join(value.split()))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_is_begun_again_and_a_wrong_setting_is_not(name: str) -> None:
    unit = settings(name)
    assert unit["Restart"] == ["on-failure"]
    assert "2" in unit["RestartPreventExitStatus"][0].split()
    assert unit["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("name", NAMES)
def test_the_watchdog_waits_longer_than_a_daemon_may_be_busy(name: str) -> None:
    unit = settings(name)
    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) > max(STUCK_S, LINK_STUCK_S)
    assert unit["KillMode"] == ["mixed"], "or its children hear of the end before it does"


@pytest.mark.parametrize(("name", "verb"), [(NAMES[0], "learner"), (NAMES[1], "actor")])
def test_every_flag_is_one_that_the_daemon_has(name: str, verb: str) -> None:
    from tests.deploy.test_manifests import flags

    (command,) = settings(name)["ExecStart"]
    path, subcommand, *rest = command.split()
    assert (Path(path).name, subcommand) == (verb, "run")
    assert {word for word in rest if word.startswith("--")} <= flags(verb, "run")


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units as they would be installed, with commands that are there."""
    found = []
    for name in NAMES:
        path = tmp_path / name.replace("@.", "@1.")
        path.write_text(re.sub(r"/opt/farflung/bin/\w+", sys.executable, (UNITS / name).read_text()))
        found.append(str(path))
    return found


@analyzed
def test_systemd_understands_them(units: list[str]) -> None:
    told = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


@analyzed
def test_they_are_hardly_exposed(units: list[str]) -> None:
    for unit in units:
        command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", "--no-pager", unit]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr


def families(name: str) -> str:
    return ",".join(settings(name)["RestrictAddressFamilies"][0].split())


confined = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="filters of system calls are written for Linux on x86-64 and ARM",
)


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with Launcher(tmp_path_factory.mktemp("x")) as launcher:
        yield launcher


@confined
def test_both_daemons_start_and_train_with_the_sockets_that_their_units_leave_them(launch: Launcher) -> None:
    """The filter is what systemd makes of RestrictAddressFamilies=; engines/units.py starts the units whole."""
    words = ("--actors", 0, "--bind", "tcp://0.0.0.0:0", "--insecure", "--until-steps", 500, "--http", "127.0.0.1:0")
    within = "tests.deploy.engines.confined"
    learner = launch.start(within, families(NAMES[0]), "learner", "run", "--json", *words)
    port = learner.event("started")["bound"][0].rpartition(":")[2]
    address = f"tcp://localhost:{port}"  # a name, for the resolver's sockets
    actor = launch.start(within, families(NAMES[1]), "actor", "run", "--learner", address)
    assert (learner.wait(), actor.wait()) == (3, 0), learner.story() + actor.story()


@confined
def test_a_family_that_a_daemon_lacks_is_noticed(launch: Launcher) -> None:
    words = ("--actors", 0, "--bind", "tcp://127.0.0.1:0", "--http", "off")
    learner = launch.start("tests.deploy.engines.confined", "AF_INET,AF_INET6,AF_UNIX", "learner", "run", *words)
    assert learner.wait() == -signal.SIGABRT
    assert any("Address family not supported" in line for line in learner.lines), learner.story()
