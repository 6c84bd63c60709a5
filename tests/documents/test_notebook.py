"""docs/notebook.ipynb holds no outputs, and runs in a kernel, whose event loop is running."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.system import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

NOTEBOOK = ROOT / "docs/notebook.ipynb"
SHOWN, SHORT = "STEPS = 300_000", "STEPS = 2_000"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_nothing_that_was_printed_is_kept(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    for cell in code:
        ast.parse(cell.source)


def test_it_trains_draws_loads_and_plays(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # EnvPool sets it where another test imports it
    cells = {cell.id: cell for cell in notebook.cells}
    assert SHOWN in cells["imports"].source
    cells["imports"].source = cells["imports"].source.replace(SHOWN, SHORT)
    cells["train"].source = f"import asyncio\nassert asyncio.get_running_loop()\n{cells['train'].source}"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3", resources=resources).execute()
    assert "(False, 'CartPole-v1-0-" in cells["train"].outputs[-1]["data"]["text/plain"]
    assert "image/png" in cells["returns"].outputs[-1]["data"]
    scores = ast.literal_eval(cells["play"].outputs[-1]["data"]["text/plain"])
    assert len(scores) == 10
    assert min(scores) >= 8.0
