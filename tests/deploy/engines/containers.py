"""The images and deploy/compose.yaml with a real engine: ``make test-deploy``; plain ``pytest`` does not collect it.

A learner and two actors train over CURVE, the learner is killed and goes on; and whatever a person can get wrong is one
line and a documented exit code, which a restart does not make worse.
"""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.transport.keys import write_pair
from protocol.transport.learner_sockets import new_pair
from tests.deploy.engines.engine import ROOT, Container, Project, engine, eventually, run, started

SHIPPED = (ROOT / "deploy" / "experiments" / "cartpole.toml").read_text()
pytestmark = pytest.mark.timeout(300)  # one test brings the whole project up

LEARNER, ACTOR = "farflung-learner:latest", "farflung-actor:latest"
HOST = "127.0.0.56"  # loopback too, and nobody else's
THETA = "/var/lib/farflung/initial/initial.safetensors"
PLACE = "/var/lib/farflung/run"
ROOM = ("-v", PLACE)  # a volume without a name
RUN = ("run", "cartpole", "--http", "off", "--run-dir", PLACE)
REMOTE = (*RUN, "--actors", 0)
GIVEN = (*REMOTE, "--initial", THETA)
KEYED = (*GIVEN, "--keys", "/etc/farflung/keys")


def experiment(target: float) -> str:
    """CartPole until this return, with checkpoints every half second."""
    frequent = SHIPPED.replace("[learner]\n", "[learner]\ncheckpoint_interval_s = 0.5\n")
    return frequent.replace("until_return = 475", f"until_return = {target}").replace("1_000_000", "1_000_000_000")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mounted into containers, whose user has to reach it."""
    made = tmp_path_factory.mktemp("deploy")
    for path in (made, *made.parents[:2]):
        path.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def pages() -> str:
    """An address for the learner's pages that is free."""
    with socket.create_server((HOST, 0)) as free:
        return f"{HOST}:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def project(folder: Path, pages: str) -> Iterator[Project]:
    """Up, on a target that nobody reaches; gone afterwards with its volumes."""
    file = folder / "experiment.toml"
    file.write_text(experiment(501))
    file.chmod(0o644)
    made = Project({"FARFLUNG_EXPERIMENT": str(file), "FARFLUNG_PAGES": pages, "FARFLUNG_LISTEN": HOST})
    try:
        made.up()
        yield made
    finally:
        made.compose("down", "--volumes")


@pytest.fixture(scope="module")
def learner(project: Project) -> Container:
    (found,) = project.containers("learner")
    return found


def test_two_actors_train_over_curve(project: Project, learner: Container) -> None:
    assert learner.event("started")["version"] == 0
    assert len(project.containers("actor")) == 2
    for actor in project.containers("actor"):
        actor.event("welcomed")
    learner.event("actor_joined", lambda said: said["actors"] == 2)


def test_a_learner_that_is_killed_is_started_again_and_goes_on(project: Project, learner: Container) -> None:
    kept = learner.event("checkpoint_written", lambda said: said["version"] > 0)
    learner.kill_the_daemon()
    again = learner.event("started", lambda said: said["epoch"] == 2)
    assert again["version"] >= kept["version"]
    for actor in project.containers("actor"):
        actor.event("welcomed", lambda said: said["epoch"] == 2)
    learner.event("progress", lambda said: said["version"] > again["version"] + 10)


def test_one_that_is_stopped_drains_and_the_next_solves_the_task(
    project: Project, learner: Container, folder: Path
) -> None:
    engine("stop", learner.name)
    assert learner.exit_code() == 0, learner.story()
    learner.event("finished", lambda said: not said["solved"])
    (folder / "experiment.toml").write_text(experiment(475))  # in place: what is mounted is the file
    engine("start", learner.name)
    assert learner.event("started", lambda said: said["epoch"] == 3)["version"] > 0
    assert learner.event("finished", lambda said: said["solved"])["return_mean_100"] >= 475
    assert learner.exit_code() == 0
    for actor in project.containers("actor"):
        assert actor.exit_code() == 0, actor.story()


def test_a_run_that_is_over_is_left_alone(project: Project, learner: Container) -> None:
    mounted = ("--entrypoint", "sha256sum", "-v", f"{project.volume('run')}:/data:ro")
    files = [f"/data/{name}" for name in ("result.json", "epoch", "experiment.toml", "progress.jsonl")]
    before = run(LEARNER, *files, options=mounted).lines
    engine("start", learner.name)
    learner.event("over")
    assert learner.exit_code() == 0
    assert run(LEARNER, *files, options=mounted).lines == before


def test_the_run_directory_is_of_one_experiment(project: Project, folder: Path) -> None:
    file, made = folder / "other.toml", folder / "initial"
    file.write_text(experiment(475).replace("[64, 64]", "[8]"))
    file.chmod(0o644)
    made.mkdir()
    shutil.chown(made, 10001, 10001)
    other = ("-v", f"{file}:/etc/farflung/experiment.toml:ro")
    its_own = ("-v", f"{made}:/var/lib/farflung/initial")
    assert run(ACTOR, "init", "/etc/farflung/experiment.toml", "--out", THETA, options=(*other, *its_own)).code == 0
    keys = ("-v", f"{project.volume('keys')}:/etc/farflung/keys:ro")
    place = ("-v", f"{project.volume('run')}:{PLACE}")
    refused = run(LEARNER, options=(*keys, *other, *its_own, *place))
    assert "it holds another experiment. The network has" in refused.line()
    old = ("-v", f"{project.volume('initial')}:/var/lib/farflung/initial:ro")
    refused = run(LEARNER, options=(*keys, *other, *old, *ROOM))
    assert "they were made of another [actor] table" in refused.line()


@pytest.fixture(scope="module")
def endless(project: Project, learner: Container, folder: Path) -> Project:
    """The same up again, with a target that is not reached yet."""
    (folder / "experiment.toml").write_text(experiment(501))
    project.up()
    learner.event("started", lambda said: said["epoch"] == 4)
    for actor in project.containers("actor"):
        actor.event("welcomed", lambda said: said["epoch"] == 4)
    return project


def test_who_has_another_key_stays_outside(endless: Project, learner: Container, folder: Path) -> None:
    key, pair = folder / "thief.key", new_pair("thief", new_pair("learner").public)
    write_pair(key, pair)
    shutil.chown(key, 10001, 10001)
    options = ("--network", f"{endless.name}_default", "-v", f"{key}:/thief.key:ro")
    words = ("run", "--learner", "tcp://learner:5555", "--name", "thief", "--key", "/thief.key")
    with started(ACTOR, *words, options=options) as thief:
        assert pair.public in thief.event("waiting_for_learner")["why"]
        assert not any(said["event"] == "welcomed" for said in thief.events())
    assert not any(said.get("actor") == "thief" for said in learner.events())


@pytest.mark.parametrize("service", ["learner", "actor"])
def test_a_daemon_has_no_rights(endless: Project, service: str) -> None:
    name = endless.containers(service)[0].name
    status = dict(line.split(":\t", 1) for line in engine("exec", name, "cat", "/proc/1/status").splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert [int(status[which], 16) for which in ("CapEff", "CapPrm", "CapBnd")] == [0, 0, 0]
    assert status["NoNewPrivs"] == "1"
    mounts = [line.split() for line in engine("exec", name, "cat", "/proc/1/mounts").splitlines()]
    assert next(options for _, point, _, options, *_ in mounts if point == "/").split(",")[0] == "ro"


@pytest.mark.parametrize("service", ["learner", "actor"])
def test_a_daemon_that_works_is_healthy(endless: Project, service: str) -> None:
    container = endless.containers(service)[0]
    probe = container.inspect()["Config"]["Healthcheck"]["Test"]
    assert probe[0] == "CMD"
    engine("exec", container.name, *probe[1:])


@pytest.mark.usefixtures("endless")
def test_the_pages_are_on_this_machine(pages: str) -> None:
    for page in ("livez", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://{pages}/{page}", timeout=10) as answer:
            assert answer.status == 200


WRONG = {
    "no experiment": (LEARNER, (), (), "/etc/farflung/experiment.toml: No such file"),
    "no keys": (LEARNER, KEYED, (), "key file /etc/farflung/keys/learner.key: No such file"),
    "no θ₀": (LEARNER, GIVEN, ROOM, "initial.safetensors: No such file"),
    "local actors": (LEARNER, RUN, ROOM, "gymnasium; say --actors 0"),
    "θ₀ of its own": (LEARNER, REMOTE, ROOM, "gymnasium; say --initial FILE"),
    "torch's optimizer": (LEARNER, (*GIVEN, "--set", "learner.optimizer=adam"), ROOM, "optimizer = adam needs it"),
    "nowhere to write": (LEARNER, GIVEN, (), f"run directory {PLACE}: Read-only file system"),
    "exposed": (LEARNER, (*GIVEN, "--bind", "tcp://0.0.0.0:5555"), ROOM, "--keys DIR"),
    "no file": (LEARNER, ("run", "/etc/farflung/absent.toml"), (), "absent.toml: No such file"),
    "no actor's key": (ACTOR, (), (), "key file /etc/farflung/keys/actor.key: No such file"),
    "no address": (ACTOR, ("run", "--learner", "learner:5555"), (), "tcp://HOST:PORT"),
}


@pytest.mark.parametrize(("image", "command", "options", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line(
    image: str, command: tuple[object, ...], options: tuple[object, ...], words: str
) -> None:
    assert words in run(image, *command, options=options).line()


def test_a_volume_that_is_another_user_s(folder: Path) -> None:
    (folder / "root").mkdir(mode=0o755)
    ended = run(LEARNER, *GIVEN, options=("-v", f"{folder / 'root'}:{PLACE}"))
    assert f"run directory {PLACE}: Permission denied" in ended.line()


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_key_that_others_can_read_or_that_is_none(folder: Path, mode: int) -> None:
    key = folder / f"{mode:o}.key"
    key.write_text("nonsense")
    key.chmod(mode)
    shutil.chown(key, 10001, 10001)
    said = run(ACTOR, options=("-v", f"{key}:/etc/farflung/keys/actor.key:ro")).line()
    assert ("say chmod 600" if mode == 0o644 else "it is no TOML") in said


def test_a_key_as_kubernetes_hands_it_out(folder: Path) -> None:
    """Root's, and readable by the group of the container."""
    key = folder / "secret.key"
    write_pair(key, new_pair("actor", new_pair("learner").public))
    key.chmod(0o440)
    shutil.chown(key, 0, 10001)
    words = ("run", "--learner", "tcp://127.0.0.1:5555", "--key", "/secret.key")
    with started(ACTOR, *words, options=("-v", f"{key}:/secret.key:ro")) as actor:
        actor.event("waiting_for_learner")


@pytest.mark.parametrize("flag", ["--http", "--bind"])
def test_a_port_that_is_taken(flag: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        place = f"{HOST}:{taken.getsockname()[1]}"
        address = f"tcp://{place}" if flag == "--bind" else place
        said = run(LEARNER, *GIVEN, flag, address, options=("--network", "host", *ROOM)).line(75)
    assert place in said
    assert "in use" in said


def test_restarts_end() -> None:
    """What is wrong for good is told a few times."""
    with started(LEARNER, *KEYED, options=("--restart", "on-failure:2")) as container:
        eventually(lambda: container.inspect()["RestartCount"] == 2, "two restarts", container.story)
        assert container.exit_code() == 2
        assert container.logs().count("error: key file") == 3


def test_an_actor_leaves_when_it_is_asked_to() -> None:
    with started(ACTOR, "run", "--learner", "tcp://127.0.0.1:5555") as actor:
        actor.event("waiting_for_learner")
        engine("stop", actor.name)
        assert actor.exit_code() == 0, actor.story()


@pytest.mark.parametrize(("image", "least", "most"), [(LEARNER, 0, 400e6), (ACTOR, 400e6, 1.5e9)])
def test_an_image_says_what_it_is_and_is_small(image: str, least: float, most: float) -> None:
    told = json.loads(engine("image", "inspect", image))[0]
    assert told["Config"]["Labels"]["org.opencontainers.image.title"] == image.partition(":")[0]
    assert least < told["Size"] < most
