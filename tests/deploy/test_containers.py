"""What the container files say, held against the project; tests/deploy/containers.py runs them (make test-deploy)."""

from __future__ import annotations

import json
import tomllib

import pytest
from typer.main import get_command

from actor.cli import app as actor
from learner.cli import app as learner
from learner.installed import ACTORS_NEED
from protocol.security import parse_address
from tests.deploy.engine import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STAGES = {stage.split(maxsplit=1)[0]: stage for stage in DOCKERFILE.split(" AS ")[1:]}


def test_the_images_have_the_project_s_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in STAGES["runtime"]


@pytest.mark.parametrize(("name", "app"), [("learner", learner), ("actor", actor)])
def test_an_image_s_words_are_the_command_s(name: str, app: object) -> None:
    words = json.loads(STAGES[name].partition("\nCMD ")[2].partition("]")[0].replace("\\\n", "") + "]")
    command = get_command(app).commands[words[0]]  # type: ignore[arg-type, attr-defined]
    given = command.make_context(words[0], words[1:]).params  # an unknown flag raises
    for address in [*(given.get("bind") or ()), *filter(None, [given.get("learner")])]:
        parse_address(address)
    assert STAGES[name].count("USER 10001:10001") == 1


def test_the_learner_s_image_leaves_out_what_the_actors_need() -> None:
    """The line that drops them goes by how a requirement begins."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    dropped = [line for line in needed if line.startswith(ACTORS_NEED)]
    assert sorted(line.partition(">")[0] for line in dropped) == sorted(ACTORS_NEED)
    assert str(ACTORS_NEED) in STAGES["build"]
