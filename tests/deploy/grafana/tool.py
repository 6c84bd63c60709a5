"""Grafana's published front end, bundled into one script: npm installs it into build/grafana. Knows npm and esbuild."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.bench.machine import ROOT

SOURCES = Path(__file__).parent
BUILD = ROOT / "build" / "grafana"
SCRIPTS = ("app.jsx", "data.js", "heatmap.jsx")
PAGE, STYLE = BUILD / "app.js", BUILD / "app.css"
INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--legacy-peer-deps", "--ignore-scripts")
LOADERS = ("svg", "png", "ttf", "woff", "woff2")
BUNDLE = (
    *("node_modules/.bin/esbuild", "app.jsx", "--bundle", "--format=iife", "--jsx=automatic", "--minify"),
    *("--outfile=app.js", "--log-level=warning", '--define:process.env.NODE_ENV="production"'),
    *("--define:global=globalThis", *(f"--loader:.{kind}=dataurl" for kind in LOADERS)),
)


def bundled() -> None:
    """What is needed is installed, and the page's script is of the present sources."""
    BUILD.mkdir(parents=True, exist_ok=True)
    wanted = (SOURCES / "package.json").read_text(encoding="utf-8")
    _once(wanted, BUILD / "installed", INSTALL, "package.json")
    sources = "".join((SOURCES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _once(wanted + sources, BUILD / "bundled", BUNDLE, *SCRIPTS)


def _once(of: str, mark: Path, command: tuple[str, ...], *needs: str) -> None:
    """Copies what a command needs and runs it, unless it was run with the same before."""
    digest = hashlib.sha256(of.encode()).hexdigest()
    if mark.exists() and mark.read_text(encoding="utf-8") == digest:
        return
    for name in needs:
        shutil.copy(SOURCES / name, BUILD / name)
    done = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    mark.write_text(digest, encoding="utf-8")
