"""Names that docs/algorithms.md promises to keep are there, and the pages of the API show them. Knows both pages."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.documents.pages import text_of

ROWS = re.findall(r"^\| `(actor/[\w/]+)\.py` \| (.+) \|$", text_of("docs/algorithms.md"), re.MULTILINE)
SHOWN = text_of("docs/api/contracts.md")


@pytest.mark.parametrize(("path", "names"), ROWS)
def test_a_name_is_there_and_shown(path: str, names: str) -> None:
    module = path.replace("/", ".")
    home = importlib.import_module(module)
    told = re.findall(r"`(\w+)`", re.sub(r"\(.*?\)|:.*|, which.*", "", names))
    assert told
    for name in told:
        assert hasattr(home, name)
        assert name == "ActorSettings" or f"::: {module}.{name}\n" in SHOWN or name in _members(module)


def _members(module: str) -> list[str]:
    """Those of a module that the page shows."""
    found = re.search(rf"^::: {re.escape(module)}\n.*\n +members: \[(.*)\]$", SHOWN, re.MULTILINE)
    return found[1].split(", ") if found else []


def test_the_page_lists_them() -> None:
    assert len(ROWS) == 10
