"""What docs/python.md shows in Python runs, block after block, as one program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.markdown import fences
from tests.documents.pages import ROOT, text_of
from tests.loopback.system import DEADLINE_S

SHORT = {"FARFLUNG_ACTOR__ENVS": "2"}
LIMITS = {
    "until_return=475": "until_steps=500",
    "20_000": "500",
    "200_000": "500",
}  # what takes long, and the same soon


def test_every_block_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    shutil.copy(ROOT / "docs/examples/corridor.py", tmp_path)
    blocks = [fence.text for fence in fences(text_of("docs/python.md")) if fence.language == "python"]
    program = "\n".join(blocks)
    for shown, short in LIMITS.items():
        assert program.count(shown) == 1, shown
        program = program.replace(shown, short)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARFLUNG_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env={**kept, **SHORT, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "policy.onnx").stat().st_size > 0
    assert "policy.weight0" in done.stdout
