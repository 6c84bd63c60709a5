"""What a network of a user's own is told, and how it is found. Knows the import system; no torch, no simulator.

docs/networks.md says what it has to be. ``own.py`` makes it and looks at it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from actor.config import NETWORKS, ActorSettings
from actor.spaces import ActionKind, Spaces
from protocol.errors import SettingError, nearest
from protocol.process.modules import load
from protocol.setting_names import VALUES
from protocol.settings import near

GROUP = "farflung.networks"  # of installed packages' entry points


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What a network is told of the run that it is for; the first argument of the callable that makes it.

    observation_shape: of one observation, as the environment has it; of a Dict or a Tuple one for each part, by name
    observation_dtype: likewise, ``uint8`` or ``float32``. Tensors are float32 all the same: a byte is scaled before
    outputs: K, how many numbers the run wants for one observation
    actions: ``discrete``: they are logits, or action values; ``multi_discrete``: logits of each choice, one after the
        other; ``box``: as many means as an action has numbers, then as many log-deviations; ``mixed``: logits of each
        choice, then the means and log-deviations of the real numbers
    values: whether the method wants a value for each observation
    """

    observation_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]]
    observation_dtype: str | Mapping[str, str]
    outputs: int
    actions: ActionKind
    values: bool


Factory = Callable[..., Any]  # (spec, **options) -> torch.nn.Module


def spec_of(settings: ActorSettings, spaces: Spaces) -> NetworkSpec:
    """What a network is told of these spaces."""
    shape: tuple[int, ...] | dict[str, tuple[int, ...]] = spaces.observation_shape
    kind: str | dict[str, str] = spaces.observation_type
    if [part.name for part in spaces.parts] == [""]:
        shape, kind = spaces.parts[0].shape, spaces.parts[0].type
    elif spaces.parts:
        shape = {part.name: part.shape for part in spaces.parts}
        kind = {part.name: part.type for part in spaces.parts}
    return NetworkSpec(shape, kind, spaces.actions.outputs, spaces.actions.kind, settings.traits.has_values)


def find_network(settings: ActorSettings, allowed_modules: frozenset[str]) -> Factory | None:
    """What makes the network that these settings name; None for one of ours. Its module is imported.

    Raises SettingError, UserError where there is none, where it cannot be imported, and where it does not take the
    options.
    """
    name = settings.network
    if name in NETWORKS:
        return None
    try:
        factory = load("actor.network", name, allowed_modules, GROUP)
    except SettingError as error:
        if ":" in name:
            raise
        meant = VALUES["actor.network"].get(name.lower())
        close = near(name, NETWORKS)
        accepted = f"expected one of {', '.join(NETWORKS)}; {error.accepted}"
        raise SettingError("actor.network", name, accepted, meant or (close and repr(close))) from None
    if not callable(factory):
        accepted = f"must be a callable that makes a torch.nn.Module, and is {type(factory).__name__}"
        raise SettingError("actor.network", name, accepted)
    found: Factory = factory
    _check_options(found, settings)
    return found


def _check_options(factory: Factory, settings: ActorSettings) -> None:
    """Raises SettingError for options that the callable does not take."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some of C have none
        return
    options = settings.network_options
    try:
        signature.bind(None, **options)
    except TypeError as error:
        known = [each.name for each in list(signature.parameters.values())[1:] if each.kind in NAMED]
        wrong = next((option for option in options if option not in known), "")
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        said = f"{settings.network} refused them: {error}; {takes}"
        raise SettingError("actor.network_options", options, said, nearest(wrong, known)) from None


NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
