"""The batch scripts in a real Slurm: ``.ci/slurm`` runs this. Knows slurmctld, slurmd, munged and their commands.

A controller and two nodes on this machine, on ports that were free, with a key of munge of their own. One story is told
in it, test after test. Slurm begins a requeued job after two minutes, so what must be requeued is requeued together.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.engines.units import SLOW
from tests.loopback.system import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd")
WITHIN_S = 120.0
REQUEUED_S = 420.0  # two minutes in Slurm, and up to one until a time limit's signal
SCRIPTS = ROOT / "deploy/slurm"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(any(shutil.which(name) is None for name in PROGRAMS), reason="Slurm is not installed"),
    pytest.mark.timeout(600),
]

CONFIGURATION = """
ClusterName=farflung
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=5,sched_min_interval=0,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=16000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=spare Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
# A run of its own: an end, and a learner that takes its time.
SHORT = '[run]\nuntil_steps = 2000\n[actor]\nenv = "slow:Slow-v0"\nenvs = 4\n'
LASTING = (
    '[run]\nuntil_steps = 1_000_000_000\n[learner]\ndurability = "journal"\n[actor]\nenv = "slow:Slow-v0"\nenvs = 2\n'
)


class Cluster:
    """A controller and two nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._started = folder, list[subprocess.Popen[bytes]]()
        with contextlib.ExitStack() as stack:
            taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
            ports = [each.getsockname()[1] for each in taken]
        (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=socket.gethostname(), ports=ports))
        (folder / "modules").mkdir()
        (folder / "modules/slow.py").write_text(SLOW)
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "PYTHONPATH": str(folder / "modules"),
            "FARFLUNG_OPTIONS": "--allow-module slow",
            "FARFLUNG_LOOK_S": "1",
            "FARFLUNG_ASK_S": "3",
            "FARFLUNG_PATIENCE_S": "10",
        }

    def open(self) -> None:
        """Starts all of it, and returns once both nodes have come."""
        folder = self.folder
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        munge = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "seed"}
        files = [f"--{flag}={folder / name}" for flag, name in munge.items()]
        self._start("munged", "--foreground", "--force", *files)
        self.until((folder / "munge.socket").exists)
        self._start("slurmctld", "-D")
        for node in ("n1", "n2"):
            self._start("slurmd", "-D", "-N", node)
        self.until(lambda: self.asked("sinfo", "--noheader", "--format=%D %t", "--partition=high") == "2 idle")

    def close(self) -> None:
        """Ends all that was started, jobs first."""
        subprocess.run(["scancel", "--user=root", "--full"], env=self.environment, check=False, timeout=WITHIN_S)
        with contextlib.suppress(AssertionError):
            self.until(lambda: not self.asked("squeue", "--noheader", "--states=running,completing"))
        for each in reversed(self._started):
            each.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(10)
            each.kill()
            each.wait()

    def asked(self, *command: str) -> str:
        """What a command of Slurm says; nothing where the controller cannot be asked yet."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
        return done.stdout.strip()

    def do(self, *command: str) -> None:
        """A command of Slurm that must succeed."""
        subprocess.run(command, env=self.environment, check=True, timeout=WITHIN_S)

    def until(self, holds: Callable[[], Any], within_s: float = WITHIN_S) -> None:
        """Raises AssertionError with what all jobs and daemons said last."""
        until = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > until:
                said = [path.read_text(errors="replace") for path in self.folder.glob("**/*.out")]
                raise AssertionError("\n---\n".join([self.asked("squeue"), *(_end(text) for text in said)]))
            time.sleep(0.5)  # Slurm tells nobody

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{len(self._started)}.out").open("wb") as log:
            self._started.append(subprocess.Popen(command, stdout=log, stderr=log, env=self.environment))


def _end(text: str) -> str:
    lines = [line[:300] for line in text.splitlines() if '"event":"progress"' not in line]
    return "\n".join(lines[-25:])


class Run:
    """A run's folder, and its jobs."""

    def __init__(self, cluster: Cluster, name: str, experiment: str) -> None:
        self.cluster, self.folder = cluster, cluster.folder / name
        self.folder.mkdir()
        (self.folder / "experiment.toml").write_text(experiment)
        self.environment = {**cluster.environment, "FARFLUNG_RUN": str(self.folder)}
        self._do("learner", "keys", "new", "fleet")

    def _do(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, script: str, *flags: str) -> str:
        """A job of ours; its number."""
        return self._do("sbatch", "--parsable", *flags, str(SCRIPTS / script)).strip()

    def said(self, event: str, job: str = "*") -> list[dict[str, Any]]:
        """By its jobs, the newest last; all lives of a job write into one file."""
        files = sorted(self.folder.glob(f"slurm-{job}.out"), key=lambda path: path.stat().st_mtime)
        lines = [line for path in files for line in path.read_text().splitlines()]
        told = [json.loads(line) for line in lines if line.startswith('{"event"') and line.endswith("}")]
        return [said for said in told if said["event"] == event]

    def version(self) -> int:
        """How far it is."""
        progress = self.said("progress")
        return int(progress[-1]["version"]) if progress else 0

    def state(self, job: str, field: str = "%T") -> list[str]:
        """Of a job in the queue, or of each task of an array: empty once it has left."""
        wanted = re.compile(rf"{job}(_\d+)? (.*)")
        lines = self.cluster.asked(
            "squeue", "--noheader", "--array", "--states=all", f"--format=%i {field}"
        ).splitlines()
        return [found[2] for line in lines if (found := wanted.fullmatch(line))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("x"))
    try:
        cluster.open()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def run(cluster: Cluster) -> Run:
    """One that lasts. Its learner is never preempted."""
    return Run(cluster, "lasting", LASTING)


def test_a_run_trains_to_its_end_and_all_jobs_end_with_it(cluster: Cluster) -> None:
    run = Run(cluster, "short", SHORT)
    actors = run.submit("actors.sbatch", "--array=0-1")  # in any order
    learner = run.submit("learner.sbatch")
    cluster.until((run.folder / "over").exists)
    cluster.until(lambda: set(run.state(actors)) == {"COMPLETED"})
    assert run.said("finished")[0]["env_steps"] >= 2000
    assert run.state(learner) == ["COMPLETED"]


def test_a_run_outlives_a_time_limit_a_preemption_and_a_drained_node(cluster: Cluster, run: Run) -> None:
    """Two minutes for the learner, whose signal comes a minute before; meanwhile somebody takes its actors' cores."""
    learner = run.submit("learner.sbatch", "--partition=high", "--time=2")
    cluster.until(lambda: run.said("started"))
    (node,) = run.state(learner, "%N")
    actors = run.submit("actors.sbatch", "--array=0-1", f"--exclude={node}")
    cluster.until(lambda: run.version() > 3)
    page = (run.folder / "page").read_text().strip()
    with urllib.request.urlopen(f"{page}/metrics", timeout=10) as answer:
        assert b"farflung_learner_version" in answer.read()
    with urllib.request.urlopen(f"{page}/status", timeout=10) as answer:
        assert json.load(answer)["run"], "under the name of the node"

    cluster.do("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    sleeps = ["--partition=high", "--ntasks=3", "--nodes=1", "--mem=100", "--wrap=sleep 20", "--job-name=urgent"]
    cluster.do("sbatch", "--exclusive", "--output=/dev/null", *sleeps)
    cluster.until(lambda: "PENDING" in run.state(actors))
    cluster.until(lambda: run.state(learner) == ["PENDING"])
    assert run.said("finished", learner), "it drained"
    version = run.said("finished", learner)[-1]["version"]

    cluster.until(lambda: run.state(learner) == ["RUNNING"], REQUEUED_S)
    cluster.until(lambda: run.state(actors) == ["RUNNING"] * 2, REQUEUED_S)
    assert run.state(learner, "%N") != [node]
    cluster.until(lambda: len(run.said("started")) == 2)
    assert run.said("started")[-1]["version"] == version
    cluster.until(lambda: run.version() > version)
    cluster.do("scontrol", "update", f"nodename={node}", "state=resume")


def test_actors_end_once_their_learner_is_cancelled(cluster: Cluster, run: Run) -> None:
    ended = len(run.said("finished"))
    cluster.do("scancel", "--name=farflung-learner")
    cluster.until(lambda: len(run.said("finished")) > ended)
    cluster.until(lambda: not cluster.asked("squeue", "--noheader", "--name=farflung-actors"))
    told = "".join(path.read_text() for path in run.folder.glob("slurm-*_*.out"))
    assert "has left the queue: nothing to wait for" in told


def test_a_learner_ends_once_its_actors_are_cancelled(cluster: Cluster, run: Run) -> None:
    version = run.said("finished")[-1]["version"]
    learner, actors = run.submit("learner.sbatch"), run.submit("actors.sbatch", "--array=0-1")
    cluster.until(lambda: run.version() > version)
    assert run.said("started", learner)[-1]["version"] == version, "it goes on"
    cluster.do("scancel", actors)
    cluster.until(lambda: run.state(learner) == ["COMPLETED"])
    assert "all jobs of actors have left the queue" in (run.folder / f"slurm-{learner}.out").read_text()
