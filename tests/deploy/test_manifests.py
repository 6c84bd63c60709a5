"""Every overlay of deploy/kubernetes, rendered by kubectl: valid, confined, and referring to what is there.

Needs kubectl (its kustomize; no cluster) and, for schemas, the extra ``deploy``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes import generate
from learner.launch.experiment_file import load
from protocol.shipped import named

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
VERSION = "1.32"  # of the schemas
UID = 10001
SECRETS = {  # what keys.sh makes
    "farflung-learner-keys": {"learner.key", "authorized"},
    "farflung-actor-key": {"actor.key"},
}
PORTS = {"link": 5555, "weights": 5556}

Document = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def rendered(overlay: str) -> tuple[Document, ...]:
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stderr == "", "a warning of kustomize"
    return tuple(document for document in yaml.safe_load_all(told.stdout) if document)


def of_kind(overlay: str, kind: str) -> dict[str, Document]:
    return {found["metadata"]["name"]: found for found in rendered(overlay) if found["kind"] == kind}


def workloads(overlay: str) -> list[Document]:
    found = [document for document in rendered(overlay) if document["kind"] in ("StatefulSet", "Deployment")]
    assert sorted(document["metadata"]["name"] for document in found) == ["farflung-actor", "farflung-learner"]
    return found


def pods(overlay: str) -> list[Document]:
    return [document["spec"]["template"] for document in workloads(overlay)]


def containers(pod: Document) -> list[Document]:
    spec = pod["spec"]
    return [*spec["containers"], *spec.get("initContainers", []), *spec.get("ephemeralContainers", [])]


def carries(labels: dict[str, str], selector: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def test_there_are_the_overlays_that_the_documentation_names() -> None:
    assert {"local", "spot", "monitoring", "keda", "hpa"} <= set(OVERLAYS)


@overlays
def test_every_document_fits_its_schema(overlay: str) -> None:
    """Strictly: an unknown field is a mistake."""
    kv = pytest.importorskip("kubernetes_validate", reason="the extra `deploy` is not installed")
    for document in rendered(overlay):
        if document["apiVersion"].split("/")[0] not in CUSTOM:
            kv.validate(document, VERSION, strict=True)


@overlays
def test_everything_is_in_the_namespace_and_of_the_run(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace")
    for document in rendered(overlay):
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == namespace, document["metadata"]["name"]
    for pod in pods(overlay):
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "farflung"


@overlays
def test_pods_are_restricted(overlay: str) -> None:
    """The Pod Security Standard of that name, field by field, and what it does not ask for."""
    (namespace,) = of_kind(overlay, "Namespace").values()
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
    for pod in pods(overlay):
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (UID, UID, UID)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()
        kinds = {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            assert not any("hostPort" in port for port in container.get("ports", []))


@overlays
def test_every_container_says_what_it_needs_and_what_it_may_take(overlay: str) -> None:
    for pod in pods(overlay):
        for container in containers(pod):
            resources = container["resources"]
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, container["name"]


@overlays
def test_every_daemon_is_probed_for_progress(overlay: str) -> None:
    """By pages that know of it: no probe asks whether a process or a port is there."""
    for pod in pods(overlay):
        for container in pod["spec"]["containers"]:
            pages = {port["name"] for port in container["ports"]}
            probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
            for probe in probes.values():
                assert probe["httpGet"]["port"] == "pages"
                assert "pages" in pages
            assert probes["liveness"]["httpGet"]["path"] == "/livez"
            assert probes["readiness"]["httpGet"]["path"] == "/readyz"


@overlays
def test_a_pod_has_longer_to_drain_than_it_takes(overlay: str) -> None:
    for workload, least_s in zip(sorted(workloads(overlay), key=lambda w: str(w["kind"])), (13, 20), strict=True):
        assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= least_s


# What refers to what


@overlays
def test_volumes_lead_to_what_is_there(overlay: str) -> None:
    maps = of_kind(overlay, "ConfigMap")
    for workload in workloads(overlay):
        spec = workload["spec"]["template"]["spec"]
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            if "secret" in volume:
                assert volume["secret"]["secretName"] in SECRETS
                assert volume["secret"]["defaultMode"] & 0o337 == 0, "more than its owner and its group may read it"
        used = set()
        for container in containers(workload["spec"]["template"]):
            for mount in container["volumeMounts"]:
                used.add(mount["name"])
                assert mount["name"] in volumes.keys() | claims
        assert used == volumes.keys() | claims, "a volume that nobody mounts"


@overlays
def test_selectors_find_pods_and_ports_have_names(overlay: str) -> None:
    for workload in workloads(overlay):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert carries(labels, workload["spec"]["selector"]["matchLabels"])
    for service in of_kind(overlay, "Service").values():
        (pod,) = [p for p in pods(overlay) if carries(p["metadata"]["labels"], service["spec"]["selector"])]
        known = {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c["ports"]}
        for port in service["spec"]["ports"]:
            assert known[port["targetPort"]] == port["port"]
    for budget in of_kind(overlay, "PodDisruptionBudget").values():
        selector = budget["spec"]["selector"]["matchLabels"]
        assert any(carries(pod["metadata"]["labels"], selector) for pod in pods(overlay))
    (learner,) = of_kind(overlay, "StatefulSet").values()
    assert of_kind(overlay, "Service")[learner["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    assert learner["spec"]["replicas"] == 1


@overlays
def test_nobody_talks_to_anybody_who_has_no_reason(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies.values():
        selector = policy["spec"]["podSelector"].get("matchLabels", {})
        chosen = [pod for pod in pods(overlay) if carries(pod["metadata"]["labels"], selector)]
        assert chosen or policy is policies["nothing"]
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], "an empty list is everybody"
            for pod in chosen:
                names = {port["name"] for c in pod["spec"]["containers"] for port in c["ports"]}
                assert {port["port"] for port in rule["ports"]} <= names
        for rule in policy["spec"].get("egress", []):
            assert rule["to"]
    (dialled,) = [rule for rule in policies["actors-dial-the-learner"]["spec"]["egress"] if len(rule["to"][0]) == 1]
    assert {port["port"] for port in dialled["ports"]} == set(PORTS.values())
    egress = [name for name, policy in policies.items() if "egress" in policy["spec"]]
    assert egress == ["actors-dial-the-learner"], "the learner dials nobody"


# What the daemons are told


def flags(command: str, verb: str) -> set[str]:
    """The long flags that this version of a command has."""
    import typer

    from actor import cli as of_actor
    from learner import cli as of_learner

    group: Any = typer.main.get_command({"learner": of_learner, "actor": of_actor}[command].app)
    return {name for parameter in group.commands[verb].params for name in parameter.opts if name.startswith("--")}


def told(overlay: str) -> Iterator[tuple[str, list[str]]]:
    """The image and the arguments of every container."""
    for pod in pods(overlay):
        for container in containers(pod):
            image = re.fullmatch(r"farflung-(learner|actor):\d+\.\d+\.\d+", container["image"])
            assert image is not None, container["image"]
            yield image[1], container["args"]


@overlays
def test_every_flag_is_one_that_the_daemon_has(overlay: str) -> None:
    for command, arguments in told(overlay):
        verb, *rest = arguments
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= flags(command, verb), f"{command} {verb}"


def value(arguments: list[str], flag: str) -> str:
    (found,) = [word.partition("=")[2] for word in arguments if word.startswith(f"{flag}=")]
    return found


@overlays
def test_addresses_and_paths_in_arguments_lead_somewhere(overlay: str) -> None:
    (learner,), (actor,) = of_kind(overlay, "StatefulSet").values(), of_kind(overlay, "Deployment").values()
    (serving,) = learner["spec"]["template"]["spec"]["containers"]
    (playing,) = actor["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in serving["ports"]}
    assert value(serving["args"], "--bind") == f"tcp://0.0.0.0:{ports['link']}"
    assert ports["weights"] == ports["link"] + 1
    assert value(serving["args"], "--http") == f"0.0.0.0:{ports['pages']}"
    assert value(playing["args"], "--metrics") == f"0.0.0.0:{playing['ports'][0]['containerPort']}"
    host, _, port = value(playing["args"], "--learner").removeprefix("tcp://").partition(":")
    service = of_kind(overlay, "Service")[host]
    assert {p["name"]: p["port"] for p in service["spec"]["ports"]} == PORTS
    assert int(port) == PORTS["link"]
    for template in (learner["spec"]["template"], actor["spec"]["template"]):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for container in containers(template):
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            for path in re.findall(r"/(?:etc|var)/[\w./-]+", " ".join(container["args"])):
                inside = [mounts[place] for place in mounts if f"{path}/".startswith(f"{place}/")]
                assert inside, f"{container['name']} reads {path}, and nothing is mounted there"
                volume, name = volumes.get(inside[0]["name"], {}), Path(path).name
                if "secret" in volume and path != inside[0]["mountPath"]:
                    assert name in SECRETS[volume["secret"]["secretName"]]
                if "configMap" in volume:
                    assert name in of_kind(overlay, "ConfigMap")[volume["configMap"]["name"]]["data"]


@overlays
def test_the_learner_is_given_what_the_init_container_made(overlay: str) -> None:
    (learner,) = of_kind(overlay, "StatefulSet").values()
    spec = learner["spec"]["template"]["spec"]
    (first,), (serving,) = spec["initContainers"], spec["containers"]
    assert first["args"][:2] == ["init", serving["args"][1]]
    assert first["args"][first["args"].index("--out") + 1] == value(serving["args"], "--initial")


def test_the_experiment_is_a_shipped_one_that_nothing_ends() -> None:
    theirs, shipped = load(KUBERNETES / "base/experiment.toml", [], {}), load(named("lunarlander"), [], {})
    assert theirs.actor == shipped.actor
    assert theirs.learner.learning_rate == shipped.learner.learning_rate
    assert theirs.learner.annealing == shipped.learner.annealing
    assert theirs.learner.journal is not None
    assert (theirs.run.actors, theirs.run.until_return, theirs.run.until_steps) == (0, None, None)


def test_the_script_for_keys_makes_the_secrets_that_pods_mount(tmp_path: Path) -> None:
    """With the real learner and the real kubectl, which sends what it would send a cluster to a file instead."""
    commands = tmp_path / "bin"
    commands.mkdir()
    kubectl = shutil.which("kubectl")
    sent = tmp_path / "sent.yaml"
    scripts = {
        "kubectl": f'if [ "$1" = apply ]; then cat >> {sent}; else {kubectl} "$@"; echo ---; fi\n',
        "learner": f'cd {ROOT} && exec {sys.executable} -m learner "$@"\n',
    }
    for name, text in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}")
        (commands / name).chmod(0o755)
    script = [str(KUBERNETES / "keys.sh"), str(tmp_path / "keys"), "elsewhere"]
    environment = {"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(tmp_path)}
    for _ in range(2):  # the second time for keys that are there
        sent.unlink(missing_ok=True)
        run = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        made = [document for document in yaml.safe_load_all(sent.read_text()) if document]
        assert {secret["metadata"]["name"]: set(secret["data"]) for secret in made} == SECRETS
        assert {secret["metadata"]["namespace"] for secret in made} == {"elsewhere"}


# Custom resources, whose schemas live elsewhere

CUSTOM = {"monitoring.coreos.com", "keda.sh"}


def test_monitors_find_what_they_scrape_under_the_names_that_rules_use() -> None:
    for overlay in ("monitoring", "keda", "hpa"):
        (service_monitor,) = of_kind(overlay, "ServiceMonitor").values()
        (pod_monitor,) = of_kind(overlay, "PodMonitor").values()
        chosen = service_monitor["spec"]["selector"]["matchLabels"]
        (service,) = [s for s in of_kind(overlay, "Service").values() if carries(s["metadata"]["labels"], chosen)]
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in service_monitor["spec"]["endpoints"]} <= ports
        assert service["metadata"]["labels"][service_monitor["spec"]["jobLabel"]] == "farflung-learner"
        chosen = pod_monitor["spec"]["selector"]["matchLabels"]
        (pod,) = [pod for pod in pods(overlay) if carries(pod["metadata"]["labels"], chosen)]
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {endpoint["port"] for endpoint in pod_monitor["spec"]["podMetricsEndpoints"]} <= ports
        assert pod["metadata"]["labels"][pod_monitor["spec"]["jobLabel"]] == "farflung-actor"


@pytest.mark.parametrize("overlay", ["monitoring", "keda", "hpa"])
def test_the_operator_is_given_all_shipped_rules(overlay: str) -> None:
    shipped = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "deploy/prometheus").glob("*.rules.yml"))]
    given = {found["spec"]["groups"][0]["name"]: found["spec"] for found in of_kind(overlay, "PrometheusRule").values()}
    assert len(shipped) == 3
    assert given == {spec["groups"][0]["name"]: spec for spec in shipped}, "python -m deploy.kubernetes.generate"
    assert generate.TARGET.read_text(encoding="utf-8") == generate.made()


def test_the_operator_s_prometheus_may_choose_by_a_label() -> None:
    """Its chart's selectors want ``release``, of monitors and rules; nothing else has it."""
    labelled = [found for found in rendered("monitoring") if "release" in found["metadata"].get("labels", {})]
    of_the_operator = [found for found in rendered("monitoring") if found["apiVersion"].startswith("monitoring.")]
    assert labelled == of_the_operator
    assert {found["kind"] for found in labelled} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


def test_autoscalers_scale_the_actors_by_the_rule_s_name() -> None:
    recorded = yaml.safe_load((ROOT / "deploy/prometheus/autoscaling.rules.yml").read_text())
    names = {rule["record"] for group in recorded["groups"] for rule in group["rules"]}
    (scaled,) = of_kind("keda", "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"] == {"name": "farflung-actor"}
    (trigger,) = scaled["spec"]["triggers"]
    (namespace,) = of_kind("keda", "Namespace")
    assert trigger["metadata"]["query"] == f'max(farflung:actors_wanted{{namespace="{namespace}"}})'
    assert "farflung:actors_wanted" in names
    (hpa,) = of_kind("hpa", "HorizontalPodAutoscaler").values()
    assert hpa["spec"]["scaleTargetRef"]["name"] == "farflung-actor"
    adapter = yaml.safe_load((KUBERNETES / "components/hpa/adapter-values.yaml").read_text())
    (rule,) = adapter["rules"]["external"]
    assert rule["name"]["as"] == hpa["spec"]["metrics"][0]["external"]["metric"]["name"]
    assert '__name__="farflung:actors_wanted"' in rule["seriesQuery"]


@overlays
def test_an_apply_leaves_the_number_of_actors_as_it_was_scaled(overlay: str) -> None:
    (actor,) = of_kind(overlay, "Deployment").values()
    assert actor["spec"].get("replicas") == (2 if overlay == "local" else None)


@overlays
def test_only_the_overlay_of_that_name_asks_for_spot_nodes(overlay: str) -> None:
    asks = any("affinity" in pod["spec"] or "tolerations" in pod["spec"] for pod in pods(overlay))
    assert asks == (overlay == "spot")


def test_actors_go_where_machines_may_be_taken_away_and_the_learner_does_not() -> None:
    def terms(workload: Document) -> list[Document]:
        affinity = workload["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        return list(affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"])

    (learner,), (actor,) = of_kind("spot", "StatefulSet").values(), of_kind("spot", "Deployment").values()
    on_spot = {e["key"] for term in terms(actor) for e in term["matchExpressions"]}
    (never,) = terms(learner)
    assert {e["key"] for e in never["matchExpressions"]} == on_spot
    assert all(e["operator"] in ("NotIn", "DoesNotExist") for e in never["matchExpressions"])
    assert all(len(term["matchExpressions"]) == 1 for term in terms(actor)), "any of them, not all"
    assert actor["spec"]["template"]["spec"]["tolerations"]
    assert "tolerations" not in learner["spec"]["template"]["spec"]
