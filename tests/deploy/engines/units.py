"""The units as they ship, started by a real systemd: ``.ci/systemd`` runs this, where UNITS_ROOT names a Debian.

The tree is what debootstrap makes (CONTRIBUTING.md says how). A copy of it is booted, and one story is told in it, test
after test: install, train, hang, stop, reboot, upgrade, remove. The commands are those of deploy/README.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engines.machine import Machine, boot
from tests.documents.markdown import commands, fences
from tests.loopback.system import ROOT

TREE = os.environ.get("UNITS_ROOT", "")
SOURCE = "/root/farflung"  # where a person would have it: the units do not see it
(STEPS,) = [text for fence in fences((ROOT / "deploy/README.md").read_text()) if "systemd" in (text := fence.text)]
INSTALL, START, INSTALL_ACTORS, START_ACTORS, REMOVE = (words for _, words in commands(f"```bash\n{STEPS}```\n"))
LEARNER, ACTOR = "farflung-learner", "farflung-actor@1"
BOTH = (LEARNER, ACTOR)
WATCHDOG_S = 60.0
INSTALL_S = 400.0

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-nspawn") is None, reason="needs systemd-nspawn, root"
    ),
    pytest.mark.skipif(not TREE, reason="UNITS_ROOT names no Debian tree"),
    pytest.mark.timeout(600),
]

# A run that lasts, on a machine that others use too: its simulator sleeps.
SLOW = """
import time

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv


class Slow(CartPoleEnv):
    def step(self, action):
        time.sleep(0.01)
        return super().step(action)


gymnasium.register("Slow-v0", entry_point=Slow, max_episode_steps=500)
"""
LASTING = """
[run]
until_steps = 1_000_000_000

[learner]
durability = "journal"

[actor]
env = "slow:Slow-v0"
envs = 2
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with boot(Path(TREE), tmp_path_factory.mktemp("x")) as machine:
        copied = Path(f"/proc/{machine.leader}/root{SOURCE}")
        copied.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "farflung.py"):
            shutil.copy(ROOT / name, copied)
        for name in ("learner", "actor", "protocol", "deploy"):
            shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
        yield machine


def follow(machine: Machine, step: str) -> str:
    """What a step of the document says, in the checkout and with an administrator's umask."""
    return machine.does(f"umask 077; cd {SOURCE}; {step}", fetches="make" in step, within_s=INSTALL_S)


def run_version(machine: Machine) -> int:
    """How far the run is, as its newest line of progress says."""
    return int(machine.said(LEARNER, "progress")[-1]["version"])


def test_make_installs_program_user_folders_and_keys(machine: Machine) -> None:
    said = follow(machine, INSTALL)
    assert said.endswith("is installed. Begin: systemctl enable --now farflung-learner farflung-actor@1"), said
    modes = machine.does("cd /etc/farflung; stat --format '%A %U %G %n' . modules keys keys/* *.*")
    assert modes.splitlines() == [
        "drwxr-xr-x root root .",
        "drwxr-xr-x root root modules",
        "drwxr-x--- root farflung keys",
        "-rw-r----- root farflung keys/authorized",
        "-rw-r----- root farflung keys/learner.key",
        "-rw-r--r-- root root actor.env",
        "-rw------- root root actor.key",
        "-rw-r--r-- root root experiment.toml",
        "-rw-r--r-- root root learner.env",
    ]


def test_the_units_start_train_and_end_as_they_ship(machine: Machine) -> None:
    follow(machine, START)
    assert machine.until_said(LEARNER, "finished")["solved"]
    for unit in BOTH:
        machine.until_shown(unit, ActiveState="inactive")
        assert machine.shown(unit, "Result", "NRestarts", "ExecMainStatus") == ["success", "0", "0"]


def test_a_run_that_is_over_is_not_begun_again(machine: Machine) -> None:
    machine.does(f"systemctl start {LEARNER}")
    machine.until_said(LEARNER, "over")
    machine.until_shown(LEARNER, ActiveState="inactive")
    assert machine.shown(LEARNER, "Result", "NRestarts") == ["success", "0"]


def test_another_experiment_is_refused_and_not_tried_again(machine: Machine) -> None:
    etc = Path(f"/proc/{machine.leader}/root/etc/farflung")
    (etc / "modules/slow.py").write_text(SLOW)
    (etc / "experiment.toml").write_text(LASTING)
    for name in ("learner.env", "actor.env"):
        text = (etc / name).read_text()
        (etc / name).write_text(text.replace("OPTIONS=\n", "OPTIONS=--allow-module slow\n"))
    assert machine.run("systemctl", "start", LEARNER).returncode == 1
    assert machine.shown(LEARNER, "Result", "NRestarts", "ExecMainStatus") == ["exit-code", "0", "2"]
    assert "it holds another experiment" in machine.story(LEARNER)


def test_a_unit_without_what_libzmq_needs_fails(machine: Machine) -> None:
    """The story can fail: the same unit with the families that it once had."""
    folder = f"/etc/systemd/system/{LEARNER}.service.d"
    text = "[Service]\\nRestart=no\\nRestrictAddressFamilies=\\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\\n"
    machine.does("mv /var/lib/farflung/run /var/lib/farflung/cartpole")
    machine.does(f"mkdir -p {folder}; printf '{text}' > {folder}/old.conf; systemctl daemon-reload")
    assert machine.run("systemctl", "start", LEARNER).returncode == 1
    assert machine.shown(LEARNER, "Result") == ["signal"]
    assert "Address family not supported" in machine.story(LEARNER)
    machine.does(f"rm -r {folder} /var/lib/farflung/run; systemctl daemon-reload")


def test_options_reach_both_daemons(machine: Machine) -> None:
    """Modules of one's own, and the later of two flags of a kind."""
    flags = "--allow-module slow --http 127.0.0.1:9500"
    machine.does(f"sed -i 's/^OPTIONS=.*/OPTIONS={flags}/' "
                 f"/etc/farflung/learner.env; systemctl start {LEARNER} {ACTOR}")  # fmt: skip
    machine.until(lambda: bool(machine.said(LEARNER, "progress")) and run_version(machine) > 0, LEARNER)
    page = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9500/livez').status)"
    assert machine.does(f'python3 -c "{page}"') == "200"
    assert [machine.shown(unit, "ActiveState", "NRestarts") for unit in BOTH] == [["active", "0"]] * 2


def test_a_daemon_that_hangs_is_killed_and_begun_again(machine: Machine) -> None:
    machine.until(lambda: run_version(machine) > 20, LEARNER)
    before, version = [machine.shown(unit, "MainPID") for unit in BOTH], run_version(machine)
    welcomed, began = len(machine.said(ACTOR, "welcomed")), len(machine.said(LEARNER, "started"))
    for unit in BOTH:
        machine.does(f"kill -STOP $(systemctl show --value --property=MainPID {unit})")
    for unit in BOTH:
        machine.until_shown(unit, 3 * WATCHDOG_S, ActiveState="active", NRestarts="1")
        assert "Failed with result 'watchdog'" in machine.story(unit)
    assert all(machine.shown(unit, "MainPID") != pid for unit, pid in zip(BOTH, before, strict=True))
    machine.until_said(ACTOR, "welcomed", welcomed + 1)
    assert machine.until_said(LEARNER, "started", began + 1)["version"] >= version
    machine.until(lambda: run_version(machine) > version, LEARNER)


def test_a_stop_drains(machine: Machine) -> None:
    ended, began = len(machine.said(LEARNER, "finished")), len(machine.said(LEARNER, "started"))
    for unit in (ACTOR, LEARNER):
        machine.does(f"systemctl stop {unit}")
        assert machine.shown(unit, "ActiveState", "Result", "ExecMainStatus") == ["inactive", "success", "0"]
    said = machine.until_said(LEARNER, "finished", ended + 1)
    assert machine.said(LEARNER, "checkpoint_written")[-1]["version"] == said["version"]
    machine.does(f"systemctl start {LEARNER} {ACTOR}")
    assert machine.until_said(LEARNER, "started", began + 1)["version"] == said["version"]


def test_both_go_on_after_a_reboot(machine: Machine) -> None:
    version, welcomed = run_version(machine), len(machine.said(ACTOR, "welcomed"))
    machine.reboot()
    machine.until_said(ACTOR, "welcomed", welcomed + 1)
    assert machine.said(LEARNER, "started")[-1]["version"] >= version
    machine.until(lambda: run_version(machine) > version, LEARNER)
    assert [machine.shown(unit, "ActiveState", "NRestarts") for unit in BOTH] == [["active", "0"]] * 2


def test_an_upgrade_keeps_what_was_there(machine: Machine) -> None:
    everything = (
        "cd /etc/farflung; find . -type f | sort | xargs sha256sum; find . | sort | xargs stat --format '%A %U %G'"
    )
    before, version, pid = machine.does(everything), run_version(machine), machine.shown(LEARNER, "MainPID")
    machine.does(f"sed -i 's/^version = .*/version = \"0.1.1\"/' {SOURCE}/pyproject.toml")
    said = follow(machine, INSTALL)
    assert said.endswith("0.1.1 is installed; what runs is the old one until: systemctl try-restart 'farflung-*'"), said
    assert machine.does(everything) == before
    assert machine.shown(LEARNER, "MainPID") == pid
    welcomed = len(machine.said(ACTOR, "welcomed"))
    machine.does("systemctl try-restart 'farflung-*'")
    machine.until_said(ACTOR, "welcomed", welcomed + 1)
    assert machine.shown(LEARNER, "MainPID") != pid
    machine.until(lambda: run_version(machine) > version, LEARNER)


def test_a_removal_keeps_the_run_unless_it_is_told_not_to(machine: Machine) -> None:
    machine.does(
        f"/opt/farflung/bin/learner keys new rack7 --keys /etc/farflung/keys; mv /etc/farflung/keys/rack7.key {SOURCE}"
    )
    ended = len(machine.said(LEARNER, "finished"))
    said = follow(machine, REMOVE)
    assert said.startswith("Farflung is removed. /etc/farflung and /var/lib/farflung stay")
    assert len(machine.said(LEARNER, "finished")) == ended + 1, "it drained"
    machine.does("test ! -e /opt/farflung -a -e /etc/farflung/actor.key -a -e /var/lib/farflung/run")
    assert machine.does("systemctl list-unit-files --no-legend 'farflung-*' || true") == ""
    assert machine.does("systemctl list-units --all --no-legend 'farflung-*'") == ""
    follow(machine, f"PURGE=1 {REMOVE}")
    machine.does("test ! -e /etc/farflung -a ! -e /var/lib/farflung; ! id farflung")


def test_a_machine_may_have_actors_alone(machine: Machine) -> None:
    """Nobody is at the address of the example, and they wait for it."""
    refused = machine.run("bash", "-c", f"cd {SOURCE}; LEARNER=tcp://learner.example:5555 make install-systemd")
    assert "install-systemd: name the key of this machine's actors: KEY=FILE" in refused.stderr
    said = follow(machine, INSTALL_ACTORS)
    assert "Begin: systemctl enable --now farflung-actor@{1.." in said
    assert machine.does("cd /etc/farflung; stat --format '%A %U %G %n' *").splitlines() == [
        "-rw-r--r-- root root actor.env",
        "-rw------- root root actor.key",
        "drwxr-xr-x root root modules",
    ]
    follow(machine, START_ACTORS)
    assert "learner.example" in str(machine.until_said("farflung-actor@4", "waiting_for_learner"))
    assert follow(machine, f"PURGE=1 {REMOVE}").endswith("its keys and its settings.")
    assert machine.does("systemctl list-units --all --no-legend 'farflung-*'") == ""
