"""What every test shares: one torch thread, and Hypothesis without clocks, luck or memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from actor.monitoring import log
from protocol.process.threads import limit_threads

# Before anything imports torch: it sizes its threads by the host, and the tests start several processes.
limit_threads(os.environ)

# The same examples on every run and no deadline, so a slow machine cannot turn a test red.
settings.register_profile("farflung", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("farflung")


@pytest.fixture(autouse=True)
def _own_stderr() -> Iterator[None]:
    """An actor's log keeps the stderr that it first wrote to: each test has its own."""
    yield
    log.close()
