"""How deploy/README.md brings a module of one's own into compose and Kubernetes. Knows both commands, yaml and kubectl.

No engine and no cluster: what is merged and rendered is held against the files that it is put beside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_containers import STAGES, services, words
from tests.documents.commands import faults
from tests.documents.markdown import fences
from tests.documents.pages import ROOT, text_of

FLAG = ["--allow-module", "corridor"]
KUBERNETES = ROOT / "deploy/kubernetes"


def block(beginning: str) -> str:
    """The one that begins so."""
    (found,) = (each.text for each in fences(text_of("deploy/README.md")) if each.text.startswith(beginning))
    return found


def test_the_second_compose_file_says_what_the_first_says_and_the_flag() -> None:
    there, mine = services(), yaml.safe_load(block("services:"))["services"]
    assert mine["initial"]["command"] == [*there["initial"]["command"], *FLAG]
    assert mine["actor"]["command"] == [*words(STAGES["actor"], "CMD"), *FLAG]
    for each in mine.values():
        assert faults(" ".join(["actor", *each["command"]])) == []
        assert each["volumes"] == ["./corridor.py:/var/lib/farflung/corridor.py:ro"]
    assert "WORKDIR /var/lib/farflung" in STAGES["runtime"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_overlay_brings_image_and_flag(tmp_path: Path) -> None:
    base = os.path.relpath(KUBERNETES / "base", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(block("apiVersion").replace("../../base", base))
    told = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    pods: dict[str, Any] = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in yaml.safe_load_all(told.stdout)
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    changed = [*pods["farflung-actor"]["containers"], *pods["farflung-learner"]["initContainers"]]
    for container in changed:
        assert container["image"] == "registry.example/farflung-mine:1"
        assert container["args"][-1] == "=".join(FLAG)
        assert faults(" ".join(["actor", *container["args"]])) == []
    (learner,) = pods["farflung-learner"]["containers"]
    assert not any("allow-module" in each for each in learner["args"])
    assert any(each.startswith("--initial=") for each in learner["args"])
