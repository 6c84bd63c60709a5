"""Wrappers around single environments, found by the names of ``actor.wrappers``. Knows Gymnasium and the import system.

Like an environment id such a name comes from the learner, so it is a request to import code. What is installed with
Gymnasium is trusted as its simulators are; all else a machine's owner has to name, or to install as an entry point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium

from actor.config import Wrapper
from protocol.errors import SettingError, UserError, nearest
from protocol.process.modules import load

SETTING, GROUP = "actor.wrappers", "farflung.wrappers"
GYMNASIUMS = "gymnasium.wrappers"
OUTWARD = ("RecordVideo", "HumanRendering")  # write files or open windows, wherever the learner says

Environment = gymnasium.Env[Any, Any]
Wrap = Callable[[Environment], Environment]


def find(wrappers: Sequence[str | Wrapper], allowed_modules: frozenset[str]) -> list[Wrap]:
    """What each of them does to an environment, in the order in which they are to be applied.

    Raises UserError for a module that is not allowed, SettingError for a name that is none. What is found raises
    SettingError where a wrapper cannot be made with its options, or makes no environment.
    """
    given = [Wrapper(each) if isinstance(each, str) else each for each in wrappers]
    return [partial(_wrapped, _named(each.wrapper, allowed_modules), each) for each in given]


def apply(env: Environment, wraps: Sequence[Wrap]) -> Environment:
    """The environment inside of all of them. One that cannot be made closes it."""
    try:
        for wrap in wraps:
            env = wrap(env)
    except BaseException:
        env.close()
        raise
    return env


def _named(name: str, allowed_modules: frozenset[str]) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found = _gymnasiums(name, attribute, allowed_modules) if module == GYMNASIUMS else None
    found = found or load(SETTING, name, allowed_modules, GROUP)
    if not callable(found):
        raise SettingError(SETTING, name, "not a wrapper: it cannot be called with an environment")
    made: Callable[..., Any] = found
    return made


def _gymnasiums(name: str, attribute: str, allowed_modules: frozenset[str]) -> type[Any]:
    known = [each for each in gymnasium.wrappers.__all__ if each[0].isupper()]
    if attribute not in known:
        close = nearest(attribute, known)
        raise SettingError(SETTING, name, "Gymnasium has no such wrapper", close and f"{GYMNASIUMS}:{close}")
    if attribute in OUTWARD and GYMNASIUMS not in allowed_modules:
        why = "it writes files or opens windows where the experiment says"
        raise UserError(f"{SETTING} names {name!r}: {why}, and this machine allows it with --allow-module {GYMNASIUMS}")
    try:
        found: type[Any] = getattr(gymnasium.wrappers, attribute)
    except Exception as error:  # of some it imports what they need when they are asked for
        raise UserError(f"{SETTING} names {name!r}, which cannot be loaded: {error}") from error
    return found


def _wrapped(make: Callable[..., Any], wrapper: Wrapper, env: Environment) -> Environment:
    try:
        made = make(env, **wrapper.options)
    except UserError:
        raise
    except Exception as error:
        with_options = f" with {wrapper.options}" if wrapper.options else ""
        said = f"it cannot be made{with_options}: {type(error).__name__}: {error}"
        raise SettingError(SETTING, wrapper.wrapper, said) from error
    if not isinstance(made, gymnasium.Env):
        raise SettingError(SETTING, wrapper.wrapper, f"it gave {type(made).__name__}, and no gymnasium.Env")
    return made
