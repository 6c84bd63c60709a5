"""deploy/SETTINGS.md: every setting and flag, with what the source's own comments say of it."""

from __future__ import annotations

import ast
import inspect
import io
import json
import tokenize
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import typer
from msgspec import Meta

import actor.cli
import learner.cli
from actor.config import ActorSettings
from learner.config import LearnerSettings, RunSettings
from protocol.settings import Choice, choices, flat_defaults, flat_types
from tests.reference.markdown import code, table

HEAD = """# Settings

Written by `python -m tests.reference` from the code; a test fails where they differ.

An experiment is a TOML file of three tables. Later ones win: defaults, the file, `FARFLUNG_TABLE__KEY` in the
environment (`FARFLUNG_LEARNER__CREDIT=4`), flags (`--set learner.credit=4`). What does not fit is refused with the key,
the value and what would have been accepted. Some settings are read only with some values of another one; where they
are not read, one that is not at its default is refused.
"""
TABLES: dict[str, type[msgspec.Struct]] = {"run": RunSettings, "learner": LearnerSettings, "actor": ActorSettings}


@dataclass(frozen=True)
class Setting:
    """name: of the field. section: heading of those around it. meaning: the comment above it and the one behind it."""

    name: str
    section: str
    meaning: str


def page() -> str:
    """The whole file."""
    parts = [HEAD]
    for name, struct in TABLES.items():
        parts.append(f"## [{name}]\n")
        found = [each for setting in commented(struct) for each in (setting, *read_with(struct, setting))]
        for section in dict.fromkeys(setting.section for setting in found):
            if section:
                parts.append(f"### {section}\n")
            rows = [_row(name, struct, setting) for setting in found if setting.section == section]
            parts.append(table(("setting", "takes", "default", "what"), rows))
    for name, app in (("learner run", learner.cli.app), ("actor run", actor.cli.app)):
        parts.append(f"## {name}\n\n{table(('flag', 'takes', 'default', 'what'), _flags(app))}")
    return "\n".join(parts)


def commented(struct: type[msgspec.Struct]) -> Iterator[Setting]:
    """The fields in order. A comment below an empty line that is no sentence is the heading of what follows."""
    lines = inspect.getsource(struct).splitlines()
    comments = _comments("\n".join(lines))
    section, last = "", ""
    for field in ast.parse("\n".join(lines)).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if field.target.id not in struct.__struct_fields__:
            continue
        first = field.lineno
        while lines[first - 2].strip().startswith("#"):
            first -= 1
        above = [comments[line] for line in range(first, field.lineno)]
        if above and not lines[first - 2].strip() and not above[0].endswith("."):
            section, above = above[0], above[1:]
        behind = [comments[line] for line in range(field.lineno, (field.end_lineno or 0) + 1) if line in comments]
        meaning = " ".join([*above, *behind])
        yield Setting(field.target.id, section, meaning or f"with {code(last)}")
        last = field.target.id if above else last


def read_with(struct: type[msgspec.Struct], setting: Setting) -> Iterator[Setting]:
    """Settings that only some values of ``setting`` read, each with these values."""
    meanings: dict[str, dict[str, list[str]]] = {}
    for value, kind in choices(struct, setting.name).items():
        for base in kind.__mro__[: kind.__mro__.index(Choice)]:
            for each in commented(base):
                meanings.setdefault(each.name, {}).setdefault(each.meaning, []).append(code(value))
    for name, said in meanings.items():
        lines = [f"With {', '.join(values)}: {meaning}" for meaning, values in said.items()]
        yield Setting(name, setting.section, "; ".join(lines))


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _row(name: str, struct: type[msgspec.Struct], setting: Setting) -> tuple[str, ...]:
    annotation, default = flat_types(struct)[setting.name], flat_defaults(struct)[setting.name]
    return code(f"{name}.{setting.name}"), takes(annotation), _toml(default), setting.meaning


def takes(annotation: Any) -> str:
    """What a field takes, in words."""
    parts, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        length = _length(parts[1], "of them" if get_origin(parts[0]) is tuple else "characters")
        return ", ".join([takes(parts[0]), *length, *_bounds(parts[1])])
    if origin is Literal:
        return ", ".join(code(json.dumps(part)) for part in parts)
    if origin in (Union, types.UnionType):
        return "; or ".join(takes(part) for part in parts if part is not types.NoneType)
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"[{'; '.join(map(takes, parts))}]"
    if origin is tuple:
        return f"list of: {takes(parts[0])}"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return f"table of {', '.join(code(name) for name in annotation.__struct_fields__)}"
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}[annotation]


def _bounds(meta: Meta) -> Iterator[str]:
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if (bound := getattr(meta, name)) is not None:
            yield f"{sign} {_number(bound)}"
    if meta.pattern is not None:
        yield f"matching {code(meta.pattern)}"


def _length(meta: Meta, of: str) -> Iterator[str]:
    if meta.max_length is not None:
        yield f"{meta.min_length or 0} to {meta.max_length} {of}"


def _number(value: float) -> str:
    if isinstance(value, int):
        power = value.bit_length() - 1
        return f"2^{power}" if power >= 20 and value == 1 << power else f"{value:,}"
    return f"{value:g}".replace("e+", "e")


def _toml(value: object) -> str:
    if value is None:
        return "unset"
    return code(json.dumps(value))


def _flags(app: typer.Typer) -> Iterator[tuple[str, ...]]:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    for flag in command.params:
        if getattr(flag, "hidden", False) or flag.name == "help":
            continue
        is_argument = flag.param_type_name == "argument"
        name = flag.metavar if is_argument else ", ".join(flag.opts)
        placeholder = "" if is_argument or flag.is_flag else code(flag.metavar or flag.type.name.upper())
        default = "" if flag.default in (None, False) else code(str(flag.default))
        yield code(name), placeholder, default, " ".join((flag.help or "").split())
