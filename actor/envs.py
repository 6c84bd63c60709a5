"""Gymnasium simulators as plain arrays. The only file that knows gymnasium; knows no torch and no network.

An environment id comes from the learner, so everything that could run code is checked before anything is made:
the id's syntax, the module that it names against what this machine allows, and the registry.

Both of Gymnasium's autoreset modes end up in one ``Step``. Next-step mode: the row after a finished one ignores its
action and only resets, so ``valid`` is False there. Same-step mode: every row is valid, and a finished row's true
successor is in ``final_observations``, because its observation already belongs to the next episode.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from actor.config import ActorSettings
from protocol.errors import SettingError, UserError, nearest

ENV_ID = re.compile(r"(?:(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):)?(?P<name>(?:[\w-]+/)?[\w.-]+)")
RESERVED_OPTIONS = ("id", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers")  # make_vec's own arguments
REGISTERED_BY = {"ALE": "ale_py"}  # namespace -> the package that fills it on import
# Part of an entry point or namespace -> what brings it.
PROVIDERS = {"box2d": "farflung[box2d]", "mujoco": "gymnasium[mujoco]", "ALE": "gymnasium[atari]"}


@dataclass(frozen=True, slots=True)
class Spaces:
    """What a policy needs to know. observation_size: D, product of observation_shape. actions: A, numbered from 0."""

    observation_shape: tuple[int, ...]
    observation_size: int
    actions: int


@dataclass(slots=True)
class Step:
    """What one step of every environment gave; the arrays may be overwritten by the next step.

    observations: float32 [B, D], after the action
    rewards: float32 [B], raw; 0 where not valid
    terminated, truncated: bool [B]; False where not valid
    valid: bool [B], False where the action was ignored and the environment only reset
    final_observations: float32 [B, D] with the true successor in finished rows, in same-step mode when a row finished
    episodes: (undiscounted raw return, length in steps) of each episode that this step finished
    """

    observations: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    final_observations: NDArray[np.float32] | None = None
    episodes: list[tuple[float, int]] = field(default_factory=list)


def describe(settings: ActorSettings, allowed_modules: frozenset[str]) -> Spaces:
    """The spaces of ``settings.env``. Raises UserError as ``make_simulators`` does."""
    spec = _find_spec(settings, allowed_modules)
    mode = _vectorization(settings, spec)
    env = _make(settings, spec, "sync" if mode == "async" else mode, 1)  # no child process for one look
    try:
        return _spaces(settings.env, env)
    finally:
        env.close()


def make_simulators(settings: ActorSettings, allowed_modules: frozenset[str]) -> Simulators:
    """``settings.envs`` environments, stepped together.

    Raises SettingError for an id, option or space that we cannot use, UserError for a module that is not allowed and
    for a simulator that is not installed.
    """
    spec = _find_spec(settings, allowed_modules)
    env = _make(settings, spec, _vectorization(settings, spec), settings.envs)
    try:
        return Simulators(env, settings.env)
    except BaseException:
        env.close()
        raise


class Simulators:
    """B environments behind arrays, with the book of their running episodes."""

    def __init__(self, env: VectorEnv[Any, Any, Any], env_id: str) -> None:
        self.spaces = _spaces(env_id, env)
        self.count = env.num_envs
        self.autoreset = _autoreset(env_id, env)
        self._env = env
        self._start = int(env.single_action_space.start)  # type: ignore[attr-defined]  # _spaces saw a Discrete
        self._all_valid = np.ones(self.count, np.bool_)
        self._all_valid.setflags(write=False)
        self._begin()

    def _begin(self) -> None:
        self._steps = 0
        self._returns = np.zeros(self.count, np.float64)
        self._begun_at = np.zeros(self.count, np.int64)
        self._resetting: NDArray[np.bool_] | None = None

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Start every environment anew. Returns observations float32 [B, D]."""
        observations, _ = self._env.reset(seed=seed)
        self._begin()
        return self._flat(observations)

    def step(self, actions: NDArray[np.int64]) -> Step:
        """actions: int64 [B], 0 <= action < A; ignored in rows that only reset."""
        if self._start:
            actions = actions + self._start
        raw_observations, raw_rewards, terminated, truncated, infos = self._env.step(actions)
        rewards = np.asarray(raw_rewards, np.float32)
        step = Step(self._flat(raw_observations), rewards, terminated, truncated, self._all_valid)
        if self._resetting is not None:
            self._mask_resets(step, self._resetting)
        self._steps += 1
        self._returns += step.rewards
        done = step.terminated | step.truncated
        if done.any():
            self._finish(step, done, infos)
        return step

    def close(self) -> None:
        """Release the simulators and their processes."""
        self._env.close()

    def _flat(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(observations, np.float32).reshape(self.count, -1)

    def _mask_resets(self, step: Step, resetting: NDArray[np.bool_]) -> None:
        step.valid = ~resetting
        step.rewards = step.rewards * step.valid
        step.terminated, step.truncated = step.terminated & step.valid, step.truncated & step.valid
        self._begun_at[resetting] = self._steps + 1
        self._resetting = None

    def _finish(self, step: Step, done: NDArray[np.bool_], infos: Mapping[str, Any]) -> None:
        rows = np.flatnonzero(done)
        lengths = self._steps - self._begun_at[rows]
        step.episodes = list(zip(self._returns[rows].tolist(), lengths.tolist(), strict=True))
        self._returns[rows] = 0.0
        self._begun_at[rows] = self._steps
        if self.autoreset is AutoresetMode.NEXT_STEP:
            self._resetting = done
        else:
            step.final_observations = step.observations.copy()
            for row in rows:
                step.final_observations[row] = np.asarray(infos["final_obs"][row], np.float32).reshape(-1)


def _find_spec(settings: ActorSettings, allowed_modules: frozenset[str]) -> EnvSpec:
    """The registered environment that ``settings.env`` names, after the checks in the file's docstring."""
    match = ENV_ID.fullmatch(settings.env)
    if match is None:
        raise SettingError("actor.env", settings.env, "not an id such as CartPole-v1, ALE/Pong-v5 or module:Env-v0")
    module, name = match["module"], match["name"]
    if module is not None:
        _import_allowed(module, allowed_modules)
    _import_namespace(name)
    spec = gymnasium.registry.get(name)
    if spec is None:
        close = nearest(name, _newest_ids())
        hint = f"; did you mean {close}?" if close else ""
        raise SettingError("actor.env", settings.env, f"no such environment is registered{hint}")
    for option in RESERVED_OPTIONS:
        if (value := settings.env_options.get(option)) is not None:
            raise SettingError(f"actor.env_options.{option}", value, "the actor sets this itself")
    return spec


def _newest_ids() -> list[str]:
    """Registered ids without those that a later version supersedes: nobody wants to be pointed at CartPole-v0."""
    newest: dict[tuple[str | None, str], EnvSpec] = {}
    for spec in gymnasium.registry.values():
        rival = newest.get((spec.namespace, spec.name))
        if rival is None or (spec.version or 0) > (rival.version or 0):
            newest[spec.namespace, spec.name] = spec
    return [spec.id for spec in newest.values()]


def _import_allowed(module: str, allowed_modules: frozenset[str]) -> None:
    if module not in allowed_modules:
        raise UserError(
            f"actor.env asks to import module {module!r}, which this machine does not allow; "
            f"--allow-module {module} would"
        )
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"actor.env names module {module!r}, which cannot be imported: {error}") from error


def _import_namespace(name: str) -> None:
    namespace = name.partition("/")[0] if "/" in name else ""
    if namespace not in REGISTERED_BY:
        return
    try:
        importlib.import_module(REGISTERED_BY[namespace])
    except ImportError as error:
        raise _not_installed(name, namespace, error) from error


def _not_installed(env_id: str, origin: str, error: Exception) -> UserError:
    """origin: an entry point or namespace, which tells what brings it."""
    for part, provider in PROVIDERS.items():
        if part in origin:
            return UserError(f'{env_id} needs a simulator that is not installed: pip install "{provider}"')
    return UserError(f"{env_id} needs something that is not installed: {error}")


def _vectorization(settings: ActorSettings, spec: EnvSpec) -> str:
    """How to make it: ``vector_entry_point``, ``sync`` or ``async``."""
    own = spec.vector_entry_point is not None and not spec.additional_wrappers
    if settings.vectorization == "auto":
        return "vector_entry_point" if own or spec.entry_point is None else "sync"
    if settings.vectorization == "vector_entry_point" and not own:
        raise SettingError("actor.vectorization", "vector_entry_point", f"{spec.id} has none; auto, sync or async")
    if settings.vectorization != "vector_entry_point" and spec.entry_point is None:
        raise SettingError("actor.vectorization", settings.vectorization, f"{spec.id} needs auto")
    return settings.vectorization


def _make(settings: ActorSettings, spec: EnvSpec, mode: str, count: int) -> VectorEnv[Any, Any, Any]:
    vector_kwargs: dict[str, Any] = {} if mode == "vector_entry_point" else {"copy": False}  # we copy into our own
    if mode == "async":
        vector_kwargs["context"] = "spawn"  # fork would copy the actor's sockets
    try:
        options: dict[str, Any] = settings.env_options
        return gymnasium.make_vec(spec.id, count, mode, vector_kwargs, **options)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise _not_installed(settings.env, str(spec.vector_entry_point or spec.entry_point), error) from error
    except TypeError as error:  # an option that its constructor does not take
        if not settings.env_options:
            raise
        raise SettingError("actor.env_options", settings.env_options, f"{spec.id} refused them: {error}") from error


def _spaces(env_id: str, env: VectorEnv[Any, Any, Any]) -> Spaces:
    observations, actions = env.single_observation_space, env.single_action_space
    if not isinstance(observations, Box):
        raise SettingError("actor.env", env_id, f"observations must be a Box, and these are {observations}")
    if not isinstance(actions, Discrete):
        raise SettingError("actor.env", env_id, f"actions must be Discrete, and these are {actions}")
    shape = tuple(int(size) for size in observations.shape)
    return Spaces(shape, int(np.prod(shape, dtype=np.int64)), int(actions.n))


def _autoreset(env_id: str, env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        said = mode.value if isinstance(mode, AutoresetMode) else mode
        raise SettingError("actor.env", env_id, f"autoreset mode must be NextStep or SameStep, and this has {said}")
    return mode  # type: ignore[no-any-return]
