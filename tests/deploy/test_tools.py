"""What .ci/tools installs, where apt knows different packages: real bash, and an apt that says what it heard."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / ".ci/tools"
WANTED = {
    "promtool": "prometheus",
    "chromium": "chromium",
    "shellcheck": "shellcheck",
    "systemd-analyze": "systemd",
    "amtool": "prometheus-alertmanager",
}

pytestmark = pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg, which compares versions, is not installed")


def installed(folder: Path, present: set[str], candidates: dict[str, str]) -> tuple[set[str], str]:
    """Packages that are installed on a machine with these programs and candidates of packages; and stderr."""
    known = "".join(f"{name}) echo '  Candidate: {version}' ;;\n" for name, version in candidates.items())
    scripts = dict.fromkeys(present, "") | {
        "apt-cache": f"case $2 in\n{known}esac\n",
        "apt-get": f'echo "$*" >> "{folder}/heard"\n',
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    for name in ("bash", "sed", "dpkg"):
        (folder / name).symlink_to(str(shutil.which(name)))
    (folder / "heard").touch()
    done = subprocess.run(
        ["bash", str(TOOLS)], env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=True
    )
    heard = [line.split() for line in (folder / "heard").read_text().splitlines()]
    return {word for verb, *words in heard if verb == "install" for word in words if word[0] != "-"}, done.stderr


@pytest.mark.parametrize(
    ("candidates", "package"),
    [
        ({"kubectl": "1.34.1-1.1"}, "kubectl"),  # Kubernetes' own packages
        ({"kubectl": "1:528.0.0-0"}, "kubectl"),  # of Google Cloud
        ({"kubernetes-client": "1.32.3+ds-2"}, "kubernetes-client"),  # Debian 13
        ({"kubectl": "(none)", "kubernetes-client": "1.32.3+ds-2"}, "kubernetes-client"),
    ],
)
def test_kubectl_comes_from_where_it_is_new_enough(tmp_path: Path, candidates: dict[str, str], package: str) -> None:
    assert installed(tmp_path, set(WANTED), candidates) == ({package}, "")


@pytest.mark.parametrize("candidates", [{}, {"kubernetes-client": "1.20.5+really1.20.2-1.1+deb12u1"}])
def test_where_there_is_none_the_others_come_and_it_is_said(tmp_path: Path, candidates: dict[str, str]) -> None:
    packages, said = installed(tmp_path, set(), candidates)
    assert packages == set(WANTED.values())
    assert "deploy/kubernetes will skip" in said


def test_where_all_is_there_nothing_is_asked_for(tmp_path: Path) -> None:
    assert installed(tmp_path, {*WANTED, "kubectl"}, {}) == (set(), "")
    assert (tmp_path / "heard").read_text() == ""
