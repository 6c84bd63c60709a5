"""Which files are written from the code, and by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.reference import metrics, settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PAGES: dict[Path, Callable[[], str]] = {DEPLOY / "METRICS.md": metrics.page, DEPLOY / "SETTINGS.md": settings.page}
