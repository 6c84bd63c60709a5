"""Tables of settings as structs, and what is said of what does not fit. Pure. Knows no setting of its own.

People write a table flat. A setting that decides which others are read holds a ``Choice``: those others are its fields,
so a struct cannot hold what is not read.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from protocol.errors import SettingError, nearest
from protocol.setting_names import TABLES, VALUES, suggest

S = TypeVar("S", bound=msgspec.Struct)


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of a setting that decides which others are read; these are its fields. Its tag is the value.

    formerly: what earlier versions called the value.
    """

    formerly: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The value as a person writes it."""
        return _tag(type(self))


def read(table: str, struct: type[S], given: Mapping[str, Any], *, kept: bool = False) -> S:
    """``struct`` from a flat table of plain values. Raises SettingError for the first that does not fit.

    A setting that no choice reads is refused unless it is at its default, where it asks for nothing. kept: the table
    was written by a run, perhaps by an earlier version: what is not read is left out, and old names of values are read.
    """
    kinds = flat_types(struct)
    values, made = dict[str, Any](), dict[str, Any]()
    for name, value in given.items():
        if name not in kinds:
            raise SettingError(f"{table}.{name}", value, "there is no such setting", suggest(f"{table}.{name}"))
        values[name] = convert(f"{table}.{name}", _present(table, struct, name, value, kept), kinds[name])
    for name in struct.__struct_fields__:
        if not choices(struct, name):
            made |= {name: values[name]} if name in values else {}
            continue
        chosen = values.get(name, flat_defaults(struct)[name])
        for other in unread(struct, name, chosen) & values.keys():
            if not kept and values[other] != flat_defaults(struct)[other]:
                raise _refused(table, struct, name, other, given)
        kind = choices(struct, name)[chosen]
        made[name] = kind(**{other: values[other] for other in kind.__struct_fields__ if other in values})
    return struct(**made)


def flat(settings: msgspec.Struct) -> dict[str, Any]:
    """What ``read`` makes the same struct of: every setting that is read, choices by their names."""
    values: dict[str, Any] = {}
    for name, value in msgspec.structs.asdict(settings).items():
        values |= {name: value.name, **msgspec.structs.asdict(value)} if isinstance(value, Choice) else {name: value}
    return values


@cache
def choices(struct: type[msgspec.Struct], name: str) -> dict[str, type[Choice]]:
    """The values of a setting that decides which others are read; none for one that does not."""
    annotation = get_type_hints(struct, include_extras=True)[name]
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return {_tag(part): part for part in parts if isinstance(part, type) and issubclass(part, Choice)}


@cache
def flat_types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Annotations of all settings by name, those of choices behind theirs."""
    found: dict[str, Any] = {}
    for name, annotation in get_type_hints(struct, include_extras=True).items():
        if name in struct.__struct_fields__:
            members = choices(struct, name)
            found[name] = Literal[tuple(members)] if members else annotation
            for member in members.values():
                found |= flat_types(member)
    return found


@cache
def flat_defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """What each setting is where nobody says anything, by name; of one that the default choice does not read, too."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        found[field.name] = default.name if isinstance(default, Choice) else default
        for member in choices(struct, field.name).values():  # where they differ, that of the first
            found = flat_defaults(member) | found
    return found


def unread(struct: type[msgspec.Struct], name: str, chosen: str) -> set[str]:
    """Settings that other values of the setting ``name`` read, and ``chosen`` does not."""
    members = choices(struct, name)
    return {other for each in members.values() for other in each.__struct_fields__} - {
        *(members[chosen].__struct_fields__ if chosen in members else ())
    }


def convert(key: str, value: Any, annotation: Any) -> Any:
    """A plain value as what its field holds. Raises SettingError."""
    try:
        return msgspec.convert(_whole(value, annotation), annotation)
    except (msgspec.ValidationError, OverflowError):
        raise SettingError(key, value, f"expected {accepted(annotation)}", _meant(key, value, annotation)) from None


def _whole(value: Any, annotation: Any) -> Any:
    """3e5 is how people write 300000, in lists too."""
    if isinstance(value, float) and value.is_integer() and not takes(annotation, float):
        return int(value)
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if not isinstance(value, list) or get_origin(kind) is not tuple:
        return value
    parts = get_args(kind)
    kinds = itertools.repeat(parts[0]) if parts[-1] is Ellipsis else itertools.chain(parts, itertools.repeat(Any))
    return [_whole(each, kind) for each, kind in zip(value, kinds, strict=False)]


def takes(annotation: Any, kind: type) -> bool:
    """Whether a field's type is ``kind``, under its bounds and beside others."""
    return annotation is kind or any(takes(part, kind) for part in get_args(annotation) if not isinstance(part, Meta))


def holds_text(annotation: Any) -> bool:
    """Whether a field takes words."""
    return get_origin(annotation) is Literal or takes(annotation, str)


def accepted(annotation: Any) -> str:
    """What a field takes, in words: "a number, > 0, <= 100"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}" if len(parts) > 1 else repr(parts[0])
    if origin is Annotated:
        of = " of them" if get_origin(parts[0]) is tuple else " characters"
        return ", ".join([accepted(parts[0]), *_bounds(parts[1], of)])
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"[{'; '.join(map(accepted, parts))}]"
    if origin is tuple:
        return f"a list, each {accepted(parts[0])}"
    if origin in (Union, types.UnionType):
        said = " or ".join(accepted(part) for part in parts if part is not types.NoneType)
        return f"{said}, or left out" if types.NoneType in parts else said
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return f"a table of {' and '.join(annotation.__struct_fields__)}"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(annotation, "a table")


def near(word: str, known: Iterable[str]) -> str | None:
    """The word that is meant: the same in other letters, one that begins like it, or the nearest."""
    known, word = list(known), word.lower().replace("-", "_")
    begins = [each for each in known if each.startswith(word) or (each and word.startswith(each))]
    return word if word in known else begins[0] if begins else nearest(word, known)


def toml(value: Any) -> str:
    """A plain value as a person writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(inner)}" for name, inner in value.items()) + " }" if value else "{}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _tag(kind: type[Choice]) -> str:
    return str(kind.__struct_config__.tag)


def _present(table: str, struct: type[msgspec.Struct], name: str, value: Any, kept: bool) -> Any:
    """The value under its present name; an old one is refused unless ``kept``."""
    members = choices(struct, name) if name in struct.__struct_fields__ else {}
    for new, member in members.items():
        if member.formerly and member.formerly == value:
            if not kept:
                raise SettingError(f"{table}.{name}", value, f"this is called {new!r} now")
            return new
    return value


def _refused(
    table: str, struct: type[msgspec.Struct], choice: str, name: str, given: Mapping[str, Any]
) -> SettingError:
    """Of a setting that what was chosen does not read."""
    chosen = given.get(choice, flat_defaults(struct)[choice])
    members = choices(struct, choice)
    readers = " or ".join(repr(tag) for tag, member in members.items() if name in member.__struct_fields__)
    is_default = "" if choice in given else ", its default"
    said = f"only {table}.{choice} = {readers} reads it, and it is {chosen!r}{is_default}; leave it out, or change that"
    others = [f"{other}.{name}" for other in TABLES if other != table and name in TABLES[other]]
    idle = chosen in members and not members[chosen].__struct_fields__  # here is nothing to set, so perhaps there
    return SettingError(f"{table}.{name}", given[name], said, others[0] if others and idle else None)


def _meant(key: str, value: Any, annotation: Any) -> str | None:
    """What a person may have meant by a value that does not fit, as it is to be written."""
    if isinstance(value, str) and (known := VALUES.get(key, {}).get(value.lower())):
        return known
    words = [word for part in (annotation, *get_args(annotation)) for word in _words(part)]
    if isinstance(value, str) and (close := near(value, words)):
        return repr(close)
    bare = value.strip("()[] ") if isinstance(value, str) else ""
    for candidate in (value, bare.replace(",", "."), [each.strip() for each in bare.split(",")] if bare else [value]):
        try:
            return toml(msgspec.convert(candidate, annotation, strict=False))
        except (msgspec.ValidationError, OverflowError):
            continue
    return None


def _words(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _bounds(meta: Meta, of: str) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "at least", "max_length": "at most"}
    units = {"min_length": of, "max_length": of}
    given = {name: getattr(meta, name) for name in (*signs, "pattern")}
    signs["pattern"] = "matching"
    return [f"{signs[name]} {bound}{units.get(name, '')}" for name, bound in given.items() if bound is not None]
