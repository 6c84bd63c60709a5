"""An experiment as TOML text that reads back unchanged. Pure. The standard library reads TOML and does not write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from learner.config import TABLES, Experiment
from protocol.settings import flat


def dumps(experiment: Experiment) -> str:
    """The resolved experiment as TOML that ``load`` reads back unchanged. Unset settings are left out."""
    tables = {name: flat(getattr(experiment, name)) for name in TABLES} | {"actor": experiment.actor}
    return "\n".join(_write_table(name, table) for name, table in tables.items())


def _write_table(name: str, table: Mapping[str, Any]) -> str:
    lines = [f"{_write_key(key)} = {value_text(value)}\n" for key, value in table.items() if value is not None]
    return f"[{name}]\n" + "".join(lines)


def value_text(value: Any) -> str:
    """One TOML value; tables inline, so that the order of keys cannot change what they mean."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_write_key(key)} = {value_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _write_text(value) if isinstance(value, str) else repr(value)


def _write_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()
    return key if bare else _write_text(key)


def _write_text(text: str) -> str:
    """A TOML basic string. JSON's is one too, except that TOML also forbids a bare DEL."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
