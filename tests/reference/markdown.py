"""Tables as Markdown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def _escaped(cell: str) -> str:
    """Neither a bar nor what would be a tag."""
    return re.sub(r"<(?=[a-z])", "&lt;", cell.replace("|", "\\|"))


def code(text: str) -> str:
    """As code; nothing stays nothing."""
    return f"`{text}`" if text else ""
