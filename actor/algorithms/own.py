"""The method that settings name: one of ours, or a class of a user's own, whose answers are checked. No wire, no clock.

docs/algorithms.md says what such a class gets and owes. numpy broadcasts much of what does not fit, and training on it
would fail without a word; so shapes are checked at each call, which costs next to nothing beside a network.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.losses import LossStats, OutputGradients
from actor.algorithms.methods import (
    ActionValues,
    ActorCritic,
    Method,
    PolicyTargets,
    Sample,
    Targets,
    no_target_network,
)
from actor.algorithms.rollout import Rollout
from actor.config import ActorSettings
from actor.networks.policy import Policy
from actor.spaces import Spaces
from actor.traits import ALGORITHMS, ALGORITHMS_GROUP, Traits
from protocol.errors import SettingError, UserError
from protocol.process.modules import load

Floats = NDArray[np.float32]
FACE = ("adopt", "targets", "loss")
FOUR = ("settings", "spaces", "policy", "generator")  # that it is made with, beside its options
NOBODY: frozenset[str] = frozenset()


def declared(allowed_modules: frozenset[str]) -> Callable[[str], Traits]:
    """What ``config.read_settings`` asks of an algorithm of a user's own, where these modules may be imported."""
    return lambda name: _traits(name, _found(name, allowed_modules))


def make_method(
    settings: ActorSettings, spaces: Spaces, policy: Policy, seed: int, allowed_modules: frozenset[str] = NOBODY
) -> Method:
    """The method that the settings name. Raises UserError where one of a user's own cannot be made."""
    generator = np.random.default_rng([seed, 2])
    if settings.algorithm not in ALGORITHMS:
        return _own(settings, spaces, policy, generator, allowed_modules)
    if settings.traits.stochastic:
        return ActorCritic(settings, spaces, policy)
    return ActionValues(settings, spaces, policy, generator)


def look_up(settings: ActorSettings, allowed_modules: frozenset[str]) -> None:
    """Whether a class of a user's own is there and takes its options. Raises UserError."""
    name, options = settings.algorithm, settings.algorithm_options
    if name in ALGORITHMS:
        return
    try:
        inspect.signature(_found(name, allowed_modules)).bind(*FOUR, **options)
    except TypeError as error:
        said = f"{name} is called with settings, spaces, policy, generator and these, and that does not fit: {error}"
        raise SettingError("actor.algorithm_options", options, said) from None


def _found(name: str, allowed_modules: frozenset[str]) -> type:
    found = load("actor.algorithm", name, allowed_modules, ALGORITHMS_GROUP)
    if not isinstance(found, type):
        raise SettingError("actor.algorithm", name, f"a class is needed, and this is a {type(found).__name__}")
    if lacking := [each for each in FACE if not callable(getattr(found, each, None))]:
        raise SettingError("actor.algorithm", name, f"the class has no {' and no '.join(lacking)} to call")
    return found


def _traits(name: str, found: type) -> Traits:
    traits = getattr(found, "traits", Traits())
    if not isinstance(traits, Traits):
        said = f"its attribute traits has to be an actor.traits.Traits, and is a {type(traits).__name__}"
        raise SettingError("actor.algorithm", name, said)
    return traits


def _own(
    settings: ActorSettings,
    spaces: Spaces,
    policy: Policy,
    generator: np.random.Generator,
    allowed_modules: frozenset[str],
) -> Method:
    name, options = settings.algorithm, settings.algorithm_options
    look_up(settings, allowed_modules)
    found = _found(name, allowed_modules)
    try:
        method = found(settings, spaces, policy, generator, **options)
    except ValueError as error:  # as Python says of a value that does not fit
        raise SettingError("actor.algorithm_options", options, f"{name}: {error}") from error
    lacking = [each for each in ("sampler", "fresh_targets") if not hasattr(method, each)]
    if lacking:
        raise SettingError("actor.algorithm", name, f"what it makes has no attribute {' and no '.join(lacking)}")
    return CheckedMethod(name, method, _traits(name, found))


class CheckedMethod:
    """``Method`` by an object of a user's own. name: as settings have it."""

    def __init__(self, name: str, method: Method, traits: Traits) -> None:
        self._name, self.own, self._traits = name, method, traits
        self.sampler = method.sampler

    @property
    def fresh_targets(self) -> bool:
        """Method.fresh_targets."""
        return self.own.fresh_targets

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """Method.adopt. Raises UserError where it needs a target network and the run has none."""
        if self._traits.needs_target and target is None:
            raise no_target_network(self._name)
        self.own.adopt(env_steps, target, target_version)

    def targets(self, rollout: Rollout) -> Targets:
        """Method.targets. Raises UserError for what is no Targets, or has other shapes than the rollout."""
        found: Any = self.own.targets(rollout)
        if not isinstance(found, Targets):
            raise self._wrong("targets", f"a {type(found).__name__}", "an actor.algorithms.methods.Targets")
        rows = rollout.rewards.shape
        returns = self._numbers("targets", "returns", found.returns, rows)
        policy = found.policy
        if policy is not None:
            log_probs = self._numbers("targets", "policy.log_probs", policy.log_probs, rows)
            policy = PolicyTargets(log_probs, self._numbers("targets", "policy.advantages", policy.advantages, rows))
        for name, array in found.extra.items():
            if np.shape(array)[:2] != rows:
                raise self._wrong("targets", f"extra[{name!r}] of shape {np.shape(array)}", f"{rows} and more")
        return Targets(returns, policy, found.extra)

    def loss(self, outputs: Floats, values: Floats | None, sample: Sample) -> tuple[OutputGradients, LossStats]:
        """Method.loss. Raises UserError for what is no pair of gradients and statistics, or has other shapes."""
        found: Any = self.own.loss(outputs, values, sample)
        if not isinstance(found, tuple) or [*map(type, found)] != [OutputGradients, LossStats]:
            kinds = " and ".join(type(each).__name__ for each in found) if isinstance(found, tuple) else type(found)
            raise self._wrong("loss", str(kinds), "OutputGradients and LossStats of actor.algorithms.losses")
        gradients, stats = found
        for name in ("terms", "errors", "log_ratios"):
            if (told := getattr(stats, name)) is not None or name == "errors":
                self._numbers("loss", f"{name} of LossStats", told, outputs.shape[:1])
        by_outputs = self._numbers("loss", "gradients by outputs", gradients.outputs, outputs.shape)
        if values is None:
            return OutputGradients(by_outputs, None), stats
        by_values = self._numbers("loss", "gradients by values", gradients.values, values.shape)
        return OutputGradients(by_outputs, by_values), stats

    def _numbers(self, call: str, what: str, array: Any, shape: tuple[int, ...]) -> Floats:
        """As float32. Raises UserError for another shape."""
        if np.shape(array) != shape or array is None:
            raise self._wrong(call, "no " + what if array is None else f"{what} of shape {np.shape(array)}", f"{shape}")
        try:
            numbers: Floats = np.asarray(array, np.float32)
        except (TypeError, ValueError) as error:
            raise self._wrong(call, f"{what} that are no numbers", "float32") from error
        return numbers

    def _wrong(self, call: str, gave: str, expected: str) -> UserError:
        return UserError(f"actor.algorithm = {self._name!r}: {call} gave {gave}; expected {expected}")
