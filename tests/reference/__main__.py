"""``python -m tests.reference`` writes deploy/METRICS.md and deploy/SETTINGS.md."""

from __future__ import annotations

from tests.reference.pages import PAGES


def main() -> None:
    """Overwrites both."""
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
