"""The batch scripts in an environment that stands for Slurm: real bash, and commands that say what they heard."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "deploy/slurm"
DEADLINE_S = 60.0

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

# A daemon that says with what it was started, drains on SIGTERM and is ended at once by a second one. It ends with the
# code in the file `end`, as soon as there is one.
DAEMON = """
trap 'trap "exit 9" TERM; echo drained > "$FAKE/said"; sleep 0.2; exit "${DRAINS_WITH:-0}"' TERM
echo "${0##*/} $*" > "$FAKE/said"
until [ -e "$FAKE/end" ]; do sleep 0.02; done
exit "$(cat "$FAKE/end")"
"""


class Cluster:
    """A folder for a run, and commands in front of the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        self.run.mkdir()
        commands = folder / "bin"
        commands.mkdir()
        once = 'echo "scontrol $*" > "$FAKE/said"\n'
        squeue = 'cat "$FAKE/queued" && if [ -e "$FAKE/next" ]; then mv "$FAKE/next" "$FAKE/queued"; fi\n'
        others = {"scontrol": once, "hostname": "echo node7\n", "squeue": squeue}
        for name, text in {"learner": DAEMON, "actor": DAEMON, **others}.items():
            (commands / name).write_text(f"#!/bin/bash\n{text}")
            (commands / name).chmod(0o755)
        self.environment = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "FAKE": str(folder),
            "FARFLUNG_RUN": str(self.run),
            "FARFLUNG_LOOK_S": "0.05",
            "FARFLUNG_ASK_S": "0.05",
            "SLURM_JOB_ID": "34567",
            "SLURM_ARRAY_JOB_ID": "99",
            "SLURM_ARRAY_TASK_ID": "3",
        }
        self._started: list[subprocess.Popen[bytes]] = []
        os.mkfifo(folder / "said")
        self._said = os.open(folder / "said", os.O_RDWR | os.O_NONBLOCK)  # both ends, so that it never ends

    def submit(self, script: str) -> subprocess.Popen[bytes]:
        """As slurmd does: a group of its own."""
        with (self.folder / "output").open("ab") as output:
            command = ["bash", str(SCRIPTS / script)]
            job = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output, start_new_session=True)
        self._started.append(job)
        return job

    def hear(self, count: int) -> list[str]:
        """The next lines that commands say."""
        heard = b""
        while heard.count(b"\n") < count:
            ready, _, _ = select.select([self._said], [], [], DEADLINE_S)
            assert ready, [heard, (self.folder / "output").read_text()]
            heard += os.read(self._said, 65_536)
        return heard.decode().splitlines()

    def silent(self) -> bool:
        """Whether nothing more was said."""
        return not select.select([self._said], [], [], 0.0)[0]

    def end(self, code: int) -> None:
        """What daemons do next."""
        (self.folder / "end.new").write_text(str(code))
        (self.folder / "end.new").rename(self.folder / "end")

    def close(self) -> None:
        self.end(0)
        for job in self._started:
            if job.poll() is None:
                job.kill()
            job.wait()
        os.close(self._said)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def began(cluster: Cluster, script: str = "learner.sbatch") -> subprocess.Popen[bytes]:
    """A job whose daemon runs."""
    if script == "actors.sbatch":
        (cluster.run / "address").write_text("tcp://node7:29134\n")
    job = cluster.submit(script)
    cluster.hear(1)
    return job


def test_the_learner_is_started_as_it_should_be_and_can_be_found(cluster: Cluster) -> None:
    job, run = cluster.submit("learner.sbatch"), cluster.run
    flags = f"--bind tcp://0.0.0.0:27701 --keys {run}/keys --json --run-dir {run}/run --continue"
    page = "--http 0.0.0.0:27703 --http-name node7"
    assert cluster.hear(1) == [f"learner run {run}/experiment.toml --actors 0 {flags} {page}"]
    cluster.end(0)
    assert job.wait(DEADLINE_S) == 0
    assert (run / "address").read_text() == "tcp://node7:27701\n"
    assert (run / "page").read_text() == "http://node7:27703\n"
    assert (run / "job").read_text() == "34567\n"


def test_a_learner_whose_time_is_up_drains_and_is_requeued(cluster: Cluster) -> None:
    job = began(cluster)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(DEADLINE_S) == 0
    assert cluster.hear(2) == ["drained", "scontrol requeue 34567"]
    assert not (cluster.run / "over").exists()


def test_a_learner_that_is_preempted_drains_once_and_leaves_the_rest_to_slurm(cluster: Cluster) -> None:
    """Its whole group is signalled, so a child in it would hear of it twice."""
    job = began(cluster)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(DEADLINE_S) == 0
    assert cluster.hear(1) == ["drained"]
    assert cluster.silent()
    assert not (cluster.run / "over").exists()


@pytest.mark.parametrize(("code", "over"), [(0, True), (3, True), (1, False), (2, False)])
def test_a_learner_that_ends_by_itself_says_whether_the_run_is_over(code: int, over: bool, cluster: Cluster) -> None:
    (cluster.run / "over").touch()
    job = began(cluster)
    assert not (cluster.run / "over").exists(), "it begins again"
    cluster.end(code)
    assert job.wait(DEADLINE_S) == code
    assert cluster.silent()
    assert (cluster.run / "over").exists() == over


@pytest.mark.parametrize("code", [0, 1, 75])
def test_a_learner_whose_time_is_up_is_requeued_whatever_became_of_its_last_checkpoint(
    code: int, cluster: Cluster
) -> None:
    cluster.environment["DRAINS_WITH"] = str(code)
    job = began(cluster)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(DEADLINE_S) == 0
    assert cluster.hear(2) == ["drained", "scontrol requeue 34567"]


def test_what_may_pass_is_tried_again(cluster: Cluster) -> None:
    cluster.environment["FARFLUNG_RETRY_S"] = "0.02"
    job = began(cluster)
    cluster.end(75)
    assert cluster.hear(1)[0].startswith(f"learner run {cluster.run}/experiment.toml")
    cluster.end(0)
    assert job.wait(DEADLINE_S) == 0
    assert (cluster.run / "over").exists()


def test_what_does_not_pass_ends_the_job(cluster: Cluster) -> None:
    cluster.environment["FARFLUNG_PATIENCE_S"] = "0"
    job = began(cluster)
    cluster.end(75)
    assert job.wait(DEADLINE_S) == 75
    assert cluster.silent()
    assert not (cluster.run / "over").exists()


def test_an_actor_waits_for_the_learner_and_follows_it(cluster: Cluster) -> None:
    job = cluster.submit("actors.sbatch")
    (cluster.run / "address").write_text("tcp://node7:29134\n")
    key = f"--key {cluster.run}/keys/fleet.key --name 99_3 --give-up-after 120"
    assert cluster.hear(1) == [f"actor run --learner tcp://node7:29134 {key}"]
    (cluster.run / "address").write_text("tcp://node8:29134\n")
    heard = cluster.hear(2)
    assert heard == ["drained", f"actor run --learner tcp://node8:29134 {key}"]
    cluster.end(0)
    assert job.wait(DEADLINE_S) == 0


def test_an_actor_works_on_while_the_address_cannot_be_read(cluster: Cluster) -> None:
    """As where a file system of the network is away for a moment."""
    job = began(cluster, "actors.sbatch")
    tells = '[ -e "$1" ] || echo unread > "$FAKE/said"\n'
    (cluster.folder / "bin/cat").write_text(f'#!/bin/bash\n{tells}exec {shutil.which("cat")} "$@"\n')
    (cluster.folder / "bin/cat").chmod(0o755)
    address = cluster.run / "address"
    address.rename(cluster.run / "away")
    assert set(cluster.hear(3)) == {"unread"}
    (cluster.run / "away").rename(address)
    cluster.end(0)
    assert job.wait(DEADLINE_S) == 0
    assert cluster.silent() or set(cluster.hear(1)) == {"unread"}


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_task_ends_as_its_actor_does(code: int, cluster: Cluster) -> None:
    job = began(cluster, "actors.sbatch")
    cluster.end(code)
    assert job.wait(DEADLINE_S) == code
    assert cluster.silent()


def test_an_actor_whose_time_is_up_drains_and_is_requeued(cluster: Cluster) -> None:
    job = began(cluster, "actors.sbatch")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(DEADLINE_S) == 0
    assert cluster.hear(2) == ["drained", "scontrol requeue 99_3"]


def test_an_actor_that_is_preempted_drains_once(cluster: Cluster) -> None:
    job = began(cluster, "actors.sbatch")
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(DEADLINE_S) == 0
    assert cluster.hear(1) == ["drained"]
    assert cluster.silent()


def test_a_task_that_waits_for_a_learner_hears_that_the_run_is_over(cluster: Cluster) -> None:
    job = cluster.submit("actors.sbatch")
    (cluster.run / "over").touch()
    assert job.wait(DEADLINE_S) == 0
    assert cluster.silent()


def in_queue(cluster: Cluster, *lines: str, name: str = "queued") -> None:
    """What squeue says; next: what it says from the second time on. Without either it cannot say."""
    (cluster.folder / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("queued", "waits"),
    [
        (("34567 /elsewhere",), True),
        (("7 {run}",), True),  # another learner of this folder
        (("345 /elsewhere", "8 {run}/more"), False),
        ((), False),
        (None, True),  # nobody can say
    ],
)
def test_an_actor_waits_as_long_as_a_learner_may_come(
    queued: tuple[str, ...] | None, waits: bool, cluster: Cluster
) -> None:
    (cluster.run / "job").write_text("34567\n")
    if queued is not None:
        in_queue(cluster, *(line.format(run=cluster.run) for line in queued))
    job = began(cluster, "actors.sbatch")
    cluster.end(75)  # it has given up
    if waits:
        assert cluster.hear(1)[0].startswith("actor run --learner tcp://node7:29134")
    else:
        assert job.wait(DEADLINE_S) == 0
        assert "the learner's job 34567 has left the queue" in (cluster.folder / "output").read_text()


def test_a_task_without_an_address_hears_that_the_learner_is_gone(cluster: Cluster) -> None:
    cluster.environment["FARFLUNG_PATIENCE_S"] = "0"
    (cluster.run / "job").write_text("34567\n")
    in_queue(cluster)
    assert cluster.submit("actors.sbatch").wait(DEADLINE_S) == 0
    assert cluster.silent()


@pytest.fixture
def page() -> Iterator[socket.socket]:
    """Where the learner's would be, of some job."""
    for job in range(4000):
        with contextlib.suppress(OSError):
            yield (found := socket.create_server(("127.0.0.1", 20002 + 3 * job)))
            found.close()
            return


def test_a_learner_ends_once_all_its_actors_have_left_the_queue(cluster: Cluster, page: socket.socket) -> None:
    cluster.environment["SLURM_JOB_ID"] = str((page.getsockname()[1] - 20002) // 3)
    in_queue(cluster, "/elsewhere", str(cluster.run))
    in_queue(cluster, "/elsewhere", name="next")
    job = began(cluster)
    for actors in (1, 1, 0, 0):  # two from elsewhere train for a while
        answer_once(page, f"farflung_learner_actors {actors}.0\n")
    assert job.wait(DEADLINE_S) == 0
    assert cluster.hear(1) == ["drained"]
    assert cluster.silent()
    assert not (cluster.run / "over").exists()
    assert "all jobs of actors have left the queue" in (cluster.folder / "output").read_text()


def answer_once(page: socket.socket, text: str) -> None:
    """To whoever asks next."""
    page.settimeout(DEADLINE_S)
    asks, _ = page.accept()
    with asks, asks.makefile("rb") as words:
        assert words.readline() == b"GET /metrics HTTP/1.0\r\n"
        words.readline()
        asks.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text.encode())


def test_without_a_folder_there_is_one_line(cluster: Cluster) -> None:
    del cluster.environment["FARFLUNG_RUN"]
    for script in ("learner.sbatch", "actors.sbatch"):
        assert cluster.submit(script).wait(DEADLINE_S) != 0
    assert "FARFLUNG_RUN: the folder of the run" in (cluster.folder / "output").read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    root = SCRIPTS.parents[1]
    more = (
        root / "deploy/kubernetes/keys.sh",
        *(root / "deploy/systemd").glob("*.sh"),
        *(root / ".ci" / name for name in ("run", "tools", "containers", "systemd", "slurm")),
    )
    scripts = [*SCRIPTS.iterdir(), *more]
    told = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
