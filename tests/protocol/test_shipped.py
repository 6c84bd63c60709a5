"""Shipped experiments by name."""

from __future__ import annotations

import pytest

from protocol.errors import UserError
from protocol.shipped import named


def test_an_unknown_experiment_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"no experiment is named 'cartpoles'; there are .*did you mean cartpole\?"):
        named("cartpoles")


def test_names_lead_to_shipped_files_only() -> None:
    for name in ("../deploy/experiments/cartpole", "/etc/passwd", ""):
        with pytest.raises(UserError):
            named(name)
