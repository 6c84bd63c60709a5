"""The table that a session of learning gates ends with. Knows pytest; trains nothing."""

from __future__ import annotations

import pytest

Row = tuple[object, ...]

HEAD: Row = ("task", "seed", "solved", "return", "steps", "seconds", "total s", "compression", "staleness")
WIDTHS = (34, 5, 7, 8, 10, 8, 8, 12, 10)
ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[Row]:
    """Rows as in HEAD."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table, whether or not the gates held."""
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("learning")
        for row in (HEAD, *rows):
            cells = [f"{cell!s:>{width}}" for cell, width in zip(row, WIDTHS, strict=True)]
            terminalreporter.write_line(" ".join(cells))
