"""What the container files say, held against the project; engines/containers.py runs them (make test-deploy)."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
import yaml
from typer.main import get_command

from actor.cli import app as actor
from learner.cli import app as learner
from protocol.transport.address import parse_address
from tests.deploy.engines.engine import ROOT

ACTORS_NEED = ("torch", "gymnasium")  # and a learner does not, unless torch has its optimizer
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STAGES = {stage.split(maxsplit=1)[0]: stage for stage in DOCKERFILE.split(" AS ")[1:]}
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()


def services(**environment: str) -> dict[str, Any]:
    """Those of the compose file, where these variables are set."""
    text = re.sub(r"\$\{(\w+):-(.*?)\}", lambda found: environment.get(found[1]) or found[2], COMPOSE)
    told: dict[str, Any] = yaml.safe_load(text)["services"]
    return told


def words(stage: str, instruction: str) -> list[str]:
    """What stands in the brackets of an instruction."""
    found = re.search(rf"^ *{instruction} (\[.*?\])$", stage.replace("\\\n", ""), re.MULTILINE)
    assert found is not None
    told: list[str] = json.loads(found[1])
    return told


def test_the_images_have_the_project_s_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in STAGES["runtime"]


@pytest.mark.parametrize(("name", "app"), [("learner", learner), ("actor", actor)])
def test_an_image_s_words_are_the_command_s(name: str, app: object) -> None:
    verb, *flags = words(STAGES[name], "CMD")
    command = get_command(app).commands[verb]  # type: ignore[arg-type, attr-defined]
    given = command.make_context(verb, flags).params  # an unknown flag raises
    for address in [*(given.get("bind") or ()), *filter(None, [given.get("learner")])]:
        parse_address(address)
    assert STAGES[name].count("USER 10001:10001") == 1


def test_the_learner_s_image_leaves_out_what_the_actors_need() -> None:
    """The line that drops them goes by how a requirement begins."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    dropped = [line for line in needed if line.startswith(ACTORS_NEED)]
    assert sorted(line.partition(">")[0] for line in dropped) == sorted(ACTORS_NEED)
    assert str(ACTORS_NEED) in STAGES["build"]


def test_the_actor_s_image_can_be_the_learner_s() -> None:
    """It has torch, which Adam needs; what else an image says of its daemon, the compose file says of the learner."""
    for environment, image in (({}, "learner"), ({"FARFLUNG_LEARNER_IMAGE": "actor"}, "actor")):
        found = services(**environment)
        assert found["learner"]["image"] == f"farflung-{image}:latest"
        assert found["learner"]["build"]["target"] == image
        assert found["actor"]["image"] == "farflung-actor:latest"
    learner, stage = services()["learner"], STAGES["learner"]
    assert learner["entrypoint"] == words(stage, "ENTRYPOINT")
    assert learner["command"] == words(stage, "CMD")
    probe = re.search(r"^HEALTHCHECK (.*?)(CMD) (\[.*?\])$", stage.replace("\\\n", ""), re.MULTILINE)
    assert probe is not None
    assert learner["healthcheck"].pop("test") == [probe[2], *json.loads(probe[3])]
    flags = {name.replace("_", "-"): value for name, value in learner["healthcheck"].items()}
    assert flags == {name: yaml.safe_load(value) for name, value in re.findall(r"--([a-z-]+)=(\S+)", probe[1])}


def test_what_can_be_said_to_the_compose_file_is_listed_in_it() -> None:
    head, _, body = COMPOSE.partition("\nname:")
    assert set(re.findall(r"FARFLUNG_[A-Z_]+", head)) == set(re.findall(r"\$\{(FARFLUNG_[A-Z_]+)", body))


def test_nobody_can_sign_in_to_grafana() -> None:
    """Whose first administrator would have a password that everybody knows, also without its form."""
    said = services()["grafana"]["environment"]
    assert said["GF_AUTH_DISABLE_LOGIN_FORM"] == said["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert said["GF_AUTH_BASIC_ENABLED"] == "false"
