"""What holds for every test of an actor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actor.monitoring import log


@pytest.fixture(autouse=True)
def _own_stderr() -> Iterator[None]:
    """The log keeps the stderr that it first wrote to: each test has its own."""
    yield
    log.close()
