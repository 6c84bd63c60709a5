"""The rendered pods, played by Podman: ``make test-deploy``; plain ``pytest`` does not collect it. Needs the images.

``podman kube play`` knows pods and no StatefulSets, Services, fsGroup or probes by HTTP. So each template is played
a pod, the learner's under its Service's name, secrets lie in folders with the owner and the mode that a kubelet gives
them, and the test asks the probes' pages itself. Everything else is played as it is rendered: arguments, the init
container, the user, the read-only root, capabilities, volumes.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from learner.security.keyring import authorize
from protocol.transport.keys import write_pair
from protocol.transport.learner_sockets import new_pair
from tests.deploy.engines.engine import Container, engine, eventually
from tests.deploy.test_manifests import UID, Document, of_kind

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif("podman" not in os.environ.get("ENGINE", "docker"), reason="ENGINE is not podman"),
    pytest.mark.skipif(os.geteuid() != 0, reason="hands files to the pods' group"),
]

# Podman may try to remove an init container that has ended before it has heard so.
KEPT = {"io.podman.annotations.init.container.type": "always"}
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"


def secrets(folder: Path) -> dict[str, Path]:
    """What keys.sh makes, as folders that a kubelet mounted: root's, and the pod's group may read."""
    learner = new_pair("learner")
    fleet = new_pair("fleet", learner.public)
    of_learner, of_actor = folder / "farflung-learner-keys", folder / "farflung-actor-key"
    write_pair(of_learner / "learner.key", learner)
    authorize(of_learner, fleet.public, "fleet")
    write_pair(of_actor / "actor.key", fleet)
    for place in (of_learner, of_actor):
        place.chmod(0o755)
        for path in place.iterdir():
            os.chown(path, 0, UID)
            path.chmod(0o440)
    return {place.name: place for place in (of_learner, of_actor)}


def pod(template: Document, name: str, keys: dict[str, Path]) -> Document:
    """A workload's template as a pod that Podman plays."""
    spec = copy.deepcopy(template["spec"])
    del spec["securityContext"]["fsGroup"]
    for volume in spec["volumes"]:
        if "secret" in volume:
            path = str(keys[volume.pop("secret")["secretName"]])
            volume["hostPath"] = {"path": path, "type": "Directory"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        name_of_image, _, tag = container["image"].partition(":")
        container["image"] = f"localhost/{name_of_image}:{os.environ.get('FARFLUNG_TAG', tag)}"
        for field in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):  # it would publish ports on the host
            container.pop(field, None)
    metadata = {"name": name, "labels": template["metadata"]["labels"], "annotations": KEPT}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class Played:
    """What runs. learner, actors: their containers."""

    learner: Container
    actors: list[Container]

    def page(self, container: Container, path: str) -> str | None:
        """What a page says, asked from within; None while it answers anything but 200."""
        port = 9400 if container is self.learner else 9401
        command = ["podman", "exec", container.name, "python", "-c", ASK, f"http://127.0.0.1:{port}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else None


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("pods")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    (learner,), (actor,) = of_kind("local", "StatefulSet").values(), of_kind("local", "Deployment").values()
    keys, network = secrets(folder), f"farflung-test-{uuid.uuid4().hex[:8]}"
    first = pod(learner["spec"]["template"], "farflung-learner", keys)
    claim, mark = learner["spec"]["volumeClaimTemplates"][0], network[-8:]
    volume = f"farflung-run-{mark}"
    first["spec"]["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": volume}})
    claimed = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": volume}, "spec": claim["spec"]}
    claimed["metadata"]["annotations"] = {"volume.podman.io/uid": str(UID), "volume.podman.io/gid": str(UID)}
    names = [f"farflung-actor-{number}" for number in range(actor["spec"]["replicas"])]
    rest = [pod(actor["spec"]["template"], name, keys) for name in names]
    documents: list[Any] = [*of_kind("local", "ConfigMap").values(), claimed, first, *rest]
    path = folder / "pods.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    engine("network", "create", network)
    try:
        engine("kube", "play", "--network", network, path)
        yield Played(Container("farflung-learner-learner"), [Container(f"{name}-actor") for name in names])
    finally:
        subprocess.run(["podman", "kube", "down", str(path)], capture_output=True, timeout=120, check=False)
        left = [volume, *of_kind("local", "ConfigMap")]
        subprocess.run(["podman", "volume", "rm", "--force", *left], capture_output=True, timeout=60, check=False)
        engine("network", "rm", "--force", network)


def test_the_pods_train(played: Played) -> None:
    """From θ₀ of the init container, over CURVE, with the key of a secret that is root's."""
    played.learner.event("started")
    eventually(lambda: played.page(played.learner, "/readyz"), "the learner is ready", played.learner.story)
    for actor in played.actors:
        eventually(lambda actor=actor: played.page(actor, "/readyz"), "an actor is ready", actor.story)  # type: ignore[misc]
        assert played.page(actor, "/livez") == "ok\n\n"

    def trained() -> bool:
        status = json.loads(played.page(played.learner, "/status") or "{}")
        return int(status.get("version", 0)) > 100 and len(status["actor_list"]) == len(played.actors)

    eventually(trained, "a hundred updates of both actors", played.learner.story)


def test_nobody_is_root_and_nothing_can_be_written(played: Played) -> None:
    for container in (played.learner, *played.actors):
        assert engine("exec", container.name, "id", "-u") == str(UID)
        status = engine("exec", container.name, "cat", "/proc/1/status")
        held = {line.split(":")[0]: line.split(":")[1].strip() for line in status.splitlines() if ":" in line}
        assert int(held["CapEff"], 16) == int(held["CapBnd"], 16) == 0
        assert held["NoNewPrivs"] == "1"
        assert container.inspect()["HostConfig"]["ReadonlyRootfs"] is True


def test_an_actor_that_is_asked_to_stop_says_goodbye(played: Played) -> None:
    """And is started again, as Podman does here and a Deployment elsewhere."""
    leaving = played.actors[0]
    pid = leaving.inspect()["State"]["Pid"]
    os.kill(pid, signal.SIGTERM)  # by the engine it would be an order to stop
    left = played.learner.event("actor_left", lambda said: said["actor"].startswith("farflung-actor-0"))
    assert left["why"] != "silence"
    eventually(lambda: leaving.inspect()["State"]["Pid"] not in (0, pid), "it is started again", leaving.story)
    eventually(lambda: played.page(leaving, "/readyz"), "it is ready again", leaving.story)


def test_the_learner_goes_on_where_it_was(played: Played) -> None:
    """SIGTERM, as a node that is drained sends it; the container is started again, as a kubelet would."""
    version = json.loads(played.page(played.learner, "/status") or "{}")["version"]
    os.kill(played.learner.inspect()["State"]["Pid"], signal.SIGTERM)
    again = played.learner.event("started", lambda said: said["epoch"] == 2)
    assert again["version"] >= version
    remaining = played.actors[1]
    eventually(lambda: played.page(remaining, "/readyz"), "it is back", remaining.story)
