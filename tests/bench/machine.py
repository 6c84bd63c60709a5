"""What a measurement ran on, and the children that are measured on cores of their own. Knows the operating system."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from protocol.process.threads import ONE_THREAD

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "pyzmq", "gymnasium", "envpool", "jax", "stable-baselines3")


def cores() -> list[int]:
    """Cores that this process may use; empty where the system does not tell."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else []


def pin(pid: int, index: int) -> None:
    """Keeps a process that has just started on one core; does nothing where there is no such call or one core only."""
    usable = cores()
    if len(usable) > 1:
        os.sched_setaffinity(pid, {usable[index % len(usable)]})


def start(
    arguments: Sequence[str], core: int | None = None, within: str | None = None, **options: Any
) -> subprocess.Popen[str]:
    """A child that runs ``python -m ARGUMENTS`` in the repository, with one numeric thread.

    within: the network namespace that it lives in, ours if None.
    """
    environment = os.environ | ONE_THREAD
    command = [*(() if within is None else ("ip", "netns", "exec", within)), sys.executable, "-m", *arguments]
    child = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **options)
    if core is not None:
        pin(child.pid, core)
    return child


def ask(arguments: Sequence[str], core: int | None = None) -> dict[str, Any]:
    """What such a child prints: one JSON object on its last line. Its stderr is ours."""
    return _answer(start(arguments, core, stdout=subprocess.PIPE))


def ask_at_once(each: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The same of children that run at the same time, each on a core of its own."""
    return [_answer(child) for child in [start(asked, core, stdout=subprocess.PIPE) for core, asked in enumerate(each)]]


def _answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = child.communicate()
    if child.returncode != 0:
        raise SystemExit(f"{child.args!r} exited with code {child.returncode}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def mean(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Of two answers with the same numbers: what was measured before and after something else."""
    return {name: (first[name] + second[name]) / 2 for name in first}


# What a series writes while it runs: it changes no result.
WRITTEN = (":(exclude,top,glob)tests/**/measured/*.jsonl", ":(exclude,top,glob)tests/**/*.md")


def commit() -> str:
    """Short hash of the checkout, marked where files differ from it; "unknown" outside one, or without git."""
    if shutil.which("git") is None:
        return "unknown"
    name = _git("rev-parse", "--short=9", "HEAD").stdout.strip()
    if not name:
        return "unknown"
    return name if _git("diff", "--quiet", "HEAD", "--", ":/", *WRITTEN).returncode == 0 else f"{name}-dirty"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def versions() -> dict[str, str]:
    """Python's and those of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def description() -> str:
    """One line: processor, cores, system."""
    return f"{_processor()}, {len(cores()) or os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
