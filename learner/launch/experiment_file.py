"""Where an experiment comes from: its file, FARFLUNG_ variables and overrides. Reads files; no environment of its own.

Later sources win: defaults, the file, ``FARFLUNG_TABLE__KEY`` environment variables, ``table.key=value`` overrides.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from learner.config import (
    FALLING,
    TABLE_NAMES,
    TABLES,
    Experiment,
    LearnerSettings,
    experiment,
    implied_rule,
    learner_settings,
)
from protocol.errors import SettingError, UserError, nearest
from protocol.setting_names import DEFAULTS_EDITION, suggest
from protocol.settings import choices, flat, flat_defaults, flat_types, holds_text, unread

ENVIRONMENT_PREFIX = "FARFLUNG_"
# The constructor's, and how its observations and rewards are seen, which environments of one namespace (ALE/...) share.
NAMESPACES = ("actor.env_options", "actor.normalize_observations", "actor.normalize_returns")
# What is chosen for one environment: its scale of scores and rewards, its constructor, its observation's numbers.
ENVIRONMENTS_OWN = (
    "run.until_return",
    *NAMESPACES,
    "actor.wrappers",
    "actor.curriculum",
    "actor.reward_scale",
    "actor.hidden_observations",
    "actor.log_deviation",
)
# Of a run that began with the first edition of defaults, where nobody says otherwise.
FORMER: dict[str, Any] = {"learning_rate": 2e-3, "anneal": "linear", "anneal_steps": 300_000, "anneal_floor": 0.05}
REFUSED = re.compile(r"(?:local-\d+: )?((?:run|learner|actor)\.\w+)\S* = ")  # how a refusal of a setting begins
Sources = tuple[list[tuple[str, str]], list[tuple[str, str]]]


class UnreadableExperiment(UserError):
    """A file that cannot be read or is not TOML. path: which. cause: why, with the line where there is one."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"experiment {self.path}: {self.cause}"


def load(
    path: Path | None,
    overrides: Iterable[str],
    environ: Mapping[str, str],
    tell: Callable[[str], object] = lambda _: None,
    *,
    kept: bool = False,
    edition: int = DEFAULTS_EDITION,
) -> Experiment:
    """Defaults < file < environment < overrides ("table.key=value"). Raises UserError; SettingError names the key.

    tell: hears which settings of the file were left out, as they are of another environment or of another choice than
    the one asked for. kept: the file is a run directory's, perhaps of an earlier version. edition: of the defaults of a
    file that is not and that names none; a run that goes on has that of its first life.
    """
    tables = _read(path) if path else {name: {} for name in TABLE_NAMES}
    if kept:
        tables["learner"] = flat(learner_settings(tables["learner"], kept=True))
    sources: Sources = _whole(_from_environment(environ)), _whole([*map(_override, overrides)])
    until_steps = tables["run"].get("until_steps")
    if kept and any(key == "learner.aggregation" for source in sources for key, _ in source):
        _forget_implied(tables["learner"])
    _leave_out(tables, [*sources[0], *sources[1]], tell)
    for given in sources:
        for key, text in given:
            _drop_unread(tables["learner"], key, text, tell)
        for key, text in given:
            _assign(tables, key, text)
    if kept:
        _lengthen(tables, sources, until_steps)
    else:
        _name_edition(tables, edition)
    return experiment(tables)


def origin_of(refusal: str, path: Path, overrides: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """The setting that a refusal is about, where the file said it and nobody after it; None elsewhere."""
    found = REFUSED.match(refusal)
    if found is None:
        return None
    table, _, name = found[1].partition(".")
    later = {key for key, _ in [*_from_environment(environ), *map(_override, overrides)]}
    return found[1] if name in _read(path)[table] and found[1] not in later else None


def _whole(source: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Who gives points for the rate and says no more of it means that it goes through them."""
    keys = {key for key, _ in source}
    points = "learner.anneal_points" in keys and "learner.anneal" not in keys
    return [("learner.anneal", "piecewise"), *source] if points else source


def _name_edition(tables: dict[str, dict[str, Any]], edition: int) -> None:
    """A table that names none is of the first, and so it stays, to the byte, where somebody names the first."""
    if tables["actor"].setdefault("defaults", edition) != 1:
        return
    del tables["actor"]["defaults"]
    learner = tables["learner"]
    for name, value in FORMER.items():
        if name == "learning_rate" or (learner.get("anneal", "linear") == "linear" and "anneal_points" not in learner):
            learner.setdefault(name, value)


def _lengthen(tables: dict[str, dict[str, Any]], sources: Sources, before: object) -> None:
    """A rate that fell for as long as the run was to go does so for as long as it is to go now. before: run.until_steps
    as the run kept it.
    """
    learner, after = tables["learner"], tables["run"].get("until_steps")
    asked = any(key == "learner.anneal_steps" for source in sources for key, _ in source)
    if after is not None and not asked and learner.get("anneal") in FALLING and learner.get("anneal_steps") == before:
        learner["anneal_steps"] = after


def _forget_implied(table: dict[str, Any]) -> None:
    """A resolved table names the staleness rule that its aggregation implied, which another may not imply."""
    usual = implied_rule(table).get("staleness_rule", flat_defaults(LearnerSettings)["staleness_rule"])
    if table["staleness_rule"] == usual:
        del table["staleness_rule"]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The file's tables, every one present. Names are checked, values not yet."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableExperiment(path, error.strerror or str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableExperiment(path, str(error)) from None
    for name, table in found.items():
        if not isinstance(table, dict):
            raise SettingError(name, table, f"every setting lies in a table: {_listed()}", suggest(name))
        if name not in TABLE_NAMES:
            raise SettingError(name, "[...]", f"there is no such table; {_listed()}", nearest(name, TABLE_NAMES))
    return {name: found.get(name, {}) for name in TABLE_NAMES}


def _override(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingError(text, "", "an override is written table.key=value")
    return key.strip(), value.strip()


def _leave_out(
    tables: dict[str, dict[str, Any]], given: Iterable[tuple[str, str]], tell: Callable[[str], object]
) -> None:
    """Of an experiment that is run on another environment than its own, what was chosen for that one."""
    own = tables["actor"].get("env")
    asked = [_toml_value(text) for key, text in given if key == "actor.env"]
    if own is None or not asked or asked[-1] == own:
        return
    kept = NAMESPACES if "/" in own and str(asked[-1]).startswith(f"{own.partition('/')[0]}/") else ()
    left = []
    for key in ENVIRONMENTS_OWN:
        table, _, name = key.partition(".")
        if name in tables[table] and key not in kept:
            left.append(f"{key} = {tables[table].pop(name)}")
    if left:
        tell(f"the experiment is of {own}; for {asked[-1]} these of its settings are left out: {', '.join(left)}")


def _drop_unread(learner: dict[str, Any], key: str, text: str, tell: Callable[[str], object]) -> None:
    """Of earlier sources, what they said beside a choice that ``key = text`` changes."""
    table, _, name = key.partition(".")
    if table != "learner" or name not in LearnerSettings.__struct_fields__:
        return
    chosen, defaults = _toml_value(text), flat_defaults(LearnerSettings)
    if chosen not in [*choices(LearnerSettings, name)] or chosen == learner.get(name):
        return
    dropped = {other: learner.pop(other) for other in unread(LearnerSettings, name, chosen) & learner.keys()}
    left = [f"learner.{other} = {value!r}" for other, value in sorted(dropped.items()) if value != defaults[other]]
    if left:
        tell(f"learner.{name} = {chosen!r} does not read {', '.join(left)}: left out")


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """FARFLUNG_LEARNER__CREDIT=4 as ("learner.credit", "4"), in a fixed order. One underscore alone is no setting."""
    names = sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and "__" in name)
    return [(name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", "."), environ[name]) for name in names]


def _assign(tables: dict[str, dict[str, Any]], key: str, text: str) -> None:
    """Put one textual setting in its table; only the actor's may be nested."""
    table, *path = key.split(".")
    if table not in TABLE_NAMES or not all(path):
        raise SettingError(key, text, f"a setting is written table.key; the tables are {_listed()}", suggest(key))
    if not path:
        raise SettingError(key, text, "a whole table cannot be set; name one key of it")
    if table in TABLES:
        name = ".".join(path)
        tables[table][name] = _from_text(TABLES[table], name, text)
        return
    place = tables[table]
    for step in path[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise SettingError(key, text, f"{step} is a single value, not a table")
    place[path[-1]] = _toml_value(text)


def _from_text(struct: type[msgspec.Struct], name: str, text: str) -> Any:
    """A TOML value; where the field holds text, what is no TOML string is taken as it stands ("run.name=007")."""
    parsed = _toml_value(text)
    return parsed if isinstance(parsed, str) or not holds_text(flat_types(struct).get(name)) else text


def _toml_value(text: str) -> Any:
    """Text as a TOML value; what is none is a bare word and stands for itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _listed() -> str:
    return ", ".join(f"[{name}]" for name in TABLE_NAMES)
