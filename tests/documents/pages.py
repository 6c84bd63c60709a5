"""Which documents there are. Knows the tree."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")))
FIRST = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md", "protocol/WIRE.md")
BY_HAND = (*FIRST, *DOCS)  # held to the width of a line
GENERATED = ("deploy/METRICS.md", "deploy/SETTINGS.md")  # tests/reference holds them to the code
RUNBOOKS = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy/runbooks").glob("*.md")))
RECORDS = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.md")))
PAGES = (*BY_HAND, *RUNBOOKS, "deploy/PROGRESS.md")


def text_of(name: str) -> str:
    """One document."""
    return (ROOT / name).read_text(encoding="utf-8")
