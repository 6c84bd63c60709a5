"""Finds and makes the environments that a run names. Knows Gymnasium's registry; no torch, no network.

An environment id comes from the learner, so everything that could run code is checked before anything is made:
the id's syntax, the module that it names against what this machine allows, and the registry.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import msgspec
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from actor.config import ActorSettings, Wrapper, stages
from actor.environments import signals, wrappers
from actor.environments.child_protocol import FailureKind
from actor.environments.contract import MASK, Checked
from actor.environments.conversion import spaces_of
from actor.environments.inprocess import InProcessEngine
from actor.environments.masks import METHOD, Convention, MaskBook, Masking, can_be_asked, masked, masked_vector, told_by
from actor.environments.metrics import MetricBook
from actor.environments.pool import Pool, has_same
from actor.environments.vector import VectorEnv
from actor.monitoring import log
from actor.spaces import Spaces, difference, normalized_size
from protocol.errors import SettingError, UserError, nearest
from protocol.moments import MAX_OBSERVATION
from protocol.process.modules import import_allowed
from protocol.setting_names import OF_SIMULATORS

ENV_ID = re.compile(r"(?:(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):)?(?P<name>(?:[\w-]+/)?[\w.-]+)")
RESERVED_OPTIONS = ("id", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers")  # make_vec's own arguments
REGISTERED_BY = {"ALE": "ale_py"}  # namespace -> the package that fills it on import
# Part of an entry point or namespace -> what brings it.
PROVIDERS = {"box2d": "farflung[box2d]", "mujoco": "farflung[mujoco]", "ALE": "farflung[atari]"}


def check(settings: ActorSettings, allowed_modules: frozenset[str]) -> None:
    """What the registry tells of the environments of all stages, which are not made. Raises UserError as
    ``make_vector_envs`` does.
    """
    for _, stage in stages(settings):
        _check(stage, allowed_modules)


def _check(settings: ActorSettings, allowed_modules: frozenset[str]) -> None:
    if _find(settings, allowed_modules, pools=True)[0] is None:
        Pool(settings.env, 1, settings.env_options)  # makes nothing yet
    wrappers.find(settings.wrappers, allowed_modules)


def describe(settings: ActorSettings, allowed_modules: frozenset[str], *, pools: bool = True) -> Spaces:
    """The spaces of ``settings.env``. pools: as of ``make_vector_envs``, and raises UserError as it does."""
    return described(settings, *gymnasium_spaces(settings, allowed_modules, pools=pools))


def described(settings: ActorSettings, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> Spaces:
    """The same of an environment with these spaces, which need not be here. Raises SettingError."""
    return _checked(settings, spaces_of(settings.env, observations, actions))


def gymnasium_spaces(
    settings: ActorSettings, allowed_modules: frozenset[str], *, pools: bool = True
) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """What one of the environments shows and takes. Raises UserError as ``describe`` does."""
    spec, mode = _find(settings, allowed_modules, pools)
    if spec is not None and mode in ("processes", "envpool"):
        mode = "sync"  # for one look neither a child process nor EnvPool's import
    env, _ = _make(settings, spec, mode, 1, wrappers.find(settings.wrappers, allowed_modules))
    try:
        return env.single_observation_space, env.single_action_space
    finally:
        env.close()


def looked_at(
    settings: ActorSettings, allowed_modules: frozenset[str]
) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any], Convention]:
    """What one of the environments shows, with a mask where observations hold it, what it takes, and where it tells
    masks. One that may tell them in info is reset once. Raises UserError as ``describe`` does.
    """
    spec, mode = _find(settings, allowed_modules, pools=False)
    mode = "sync" if mode == "processes" else mode
    whole = msgspec.structs.replace(settings, action_mask="none")
    env, _ = _make(whole, spec, mode, 1, wrappers.find(settings.wrappers, allowed_modules))
    try:
        spaces = env.single_observation_space, env.single_action_space
        single = can_be_asked(env.envs[0]) if mode == "sync" else callable(getattr(env, METHOD, None))
        _, masking = told_by(settings.env, *spaces, settings.action_mask, has_method=single)
        tells = masking.by != "info" or masking.certain or MASK in env.reset(seed=0)[1]
        return *spaces, masking.by if tells else "none"
    finally:
        env.close()


def describe_stages(settings: ActorSettings, allowed_modules: frozenset[str]) -> Spaces:
    """The spaces of the environments of all stages. Raises UserError as ``describe`` does, and SettingError where one
    stage has other spaces than the first: its network would be another.
    """
    found, before = describe(settings, allowed_modules), settings
    for number, (_, stage) in enumerate(stages(settings)[1:]):
        if any(getattr(stage, name) != getattr(before, name) for name in OF_SIMULATORS):
            spaces = describe(stage, allowed_modules)
            if spaces != found:
                said = f"{stage.env} is then another: {difference(found, spaces)}; one network cannot be for both"
                raise SettingError(f"actor.curriculum[{number}].set", settings.curriculum[number].set, said)
        before = stage
    return found


def make_one(
    env_id: str,
    env_options: dict[str, Any],
    allowed_modules: frozenset[str],
    around: Sequence[str | Wrapper] = (),
) -> gymnasium.Env[Any, Any]:
    """One environment by itself, inside of these wrappers. Raises UserError as ``make_vector_envs`` does."""
    spec = _find_spec(env_id, env_options, allowed_modules)
    wraps = wrappers.find(around, allowed_modules)
    return wrappers.apply(_make_bare(spec, env_id, env_options), wraps)


def _make_bare(spec: EnvSpec, env_id: str, env_options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(spec.id, **env_options)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise _not_installed(env_id, str(spec.entry_point), error) from error
    except TypeError as error:
        raise _refused(spec, env_options, error) from error


def make_vector_envs(
    settings: ActorSettings,
    allowed_modules: frozenset[str],
    *,
    pools: bool = True,
    metrics: MetricBook | None = None,
) -> list[VectorEnv]:
    """``settings.envs`` environments in ``settings.groups`` equal groups, each stepped together.

    pools: whether EnvPool may step them. Without it they are Gymnasium's own, which draw and whose episodes follow from
    the seed on every machine. metrics: where what they measure is booked; None: nowhere.

    Raises SettingError for an id, option or space that we cannot use, UserError for a module that is not allowed and
    for a simulator that is not installed.
    """
    spec, mode = _find(settings, allowed_modules, pools)
    count = settings.envs // settings.groups
    groups: list[VectorEnv] = []
    book = metrics or MetricBook()
    try:
        for _ in range(settings.groups):
            groups.append(_group(settings, spec, mode, count, allowed_modules, book))  # noqa: PERF401 - one fails: close all
    except BaseException:
        for group in groups:
            group.close()
        raise
    return groups


def _group(
    settings: ActorSettings,
    spec: EnvSpec | None,
    mode: str,
    count: int,
    allowed_modules: frozenset[str],
    metrics: MetricBook,
) -> VectorEnv:
    env: Any
    if mode == "processes":
        from actor.environments.isolated import make_isolated_engine

        env = make_isolated_engine(settings, count, allowed_modules, _log_failure, metrics)
        return VectorEnv(env, _checked(settings, env.spaces), next_step_autoreset=False)
    env, masking = _make(settings, spec, mode, count, wrappers.find(settings.wrappers, allowed_modules), metrics)
    try:
        if env.num_envs != count:
            raise SettingError("actor.env", settings.env, f"asked for {count} environments it makes {env.num_envs}")
        spaces = _checked(settings, spaces_of(settings.env, env.single_observation_space, env.single_action_space))
        late = mode == "envpool" or _next_step_autoreset(settings.env, env)
        book = None if masking.by == "none" else MaskBook(masking, count)
        engine = InProcessEngine(
            env, next_step_autoreset=late, on_failure=_log_failure, name=settings.env, book=book, metrics=metrics
        )
        return VectorEnv(engine, spaces, next_step_autoreset=late)
    except BaseException:
        env.close()
        raise


def _log_failure(row: int, kind: FailureKind, detail: str) -> None:
    log.write({"event": "simulator_failed", "row": row, "kind": kind, "detail": detail})


def _checked(settings: ActorSettings, spaces: Spaces) -> Spaces:
    """Raises SettingError for settings that want something else of the observations than they are."""
    size = normalized_size(settings, spaces)
    if settings.normalize_observations is True and not 0 < size < MAX_OBSERVATION:
        most = (
            f"{size:,}, and the statistics of {MAX_OBSERVATION - 1:,} numbers fit a message" if size else "pixels only"
        )
        accepted = f"false: an observation of {settings.env} has {most}"
        raise SettingError("actor.normalize_observations", True, accepted)
    for index in settings.hidden_observations:
        if len(spaces.observation_shape) != 1 or index >= spaces.observation_size:
            accepted = f"numbers of a vector, below {spaces.observation_size}"
            raise SettingError("actor.hidden_observations", list(settings.hidden_observations), accepted)
    return spaces


def _find(settings: ActorSettings, allowed_modules: frozenset[str], pools: bool) -> tuple[EnvSpec | None, str]:
    """The environment in Gymnasium's registry, None where only EnvPool is asked, and how to make it."""
    if pools and settings.vectorization == "envpool":
        return None, "envpool"
    spec = _find_spec(settings.env, settings.env_options, allowed_modules)
    return spec, _vectorization(settings, spec, pools)


def _find_spec(env_id: str, env_options: Mapping[str, object], allowed_modules: frozenset[str]) -> EnvSpec:
    """The registered environment that ``env_id`` names, after the checks in the file's docstring."""
    match = ENV_ID.fullmatch(env_id)
    if match is None:
        raise SettingError("actor.env", env_id, "not an id such as CartPole-v1, ALE/Pong-v5 or module:Env-v0")
    module, name = match["module"], match["name"]
    if module is not None:
        import_allowed(module, allowed_modules)
    _import_namespace(name)
    spec = gymnasium.registry.get(name)
    if spec is None:
        close = nearest(name, _newest_ids())
        hint = f"; did you mean {env_id.removesuffix(name)}{close}?" if close else ""
        own = "" if module or "/" in name else f" (one of your own is MODULE:{name} with --allow-module MODULE)"
        if module and hasattr(importlib.import_module(module), name):
            own = f"; {module} has a {name}, which gymnasium.register has to give an id: name that"
        raise SettingError("actor.env", env_id, f"no such environment is registered{own}{hint}")
    for option in RESERVED_OPTIONS:
        if (value := env_options.get(option)) is not None:
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


def _vectorization(settings: ActorSettings, spec: EnvSpec, pools: bool) -> str:
    """How to make it: ``vector_entry_point``, ``envpool``, ``sync`` or ``processes``."""
    own = spec.vector_entry_point is not None and not spec.additional_wrappers
    if settings.wrappers and settings.vectorization == "auto":
        if spec.entry_point is None:
            accepted = f"none: {spec.id} has only vectors of its own, which no wrapper goes around"
            raise SettingError("actor.wrappers", _names(settings), accepted)
        return "sync"
    if settings.vectorization in ("auto", "envpool"):
        if own or spec.entry_point is None:
            return "vector_entry_point"
        return "envpool" if pools and not settings.env_options and _same_in_envpool(spec) else "sync"
    if settings.vectorization == "vector_entry_point" and not own:
        raise SettingError("actor.vectorization", "vector_entry_point", f"{spec.id} has none; auto, sync or processes")
    if settings.vectorization != "vector_entry_point" and spec.entry_point is None:
        raise SettingError("actor.vectorization", settings.vectorization, f"{spec.id} needs auto")
    return settings.vectorization


def _names(settings: ActorSettings) -> list[str]:
    return [each if isinstance(each, str) else each.wrapper for each in settings.wrappers]


def _same_in_envpool(spec: EnvSpec) -> bool:
    """Whether it is Gymnasium's own registration of a task that the installed EnvPool shares."""
    gymnasiums = str(spec.entry_point).startswith("gymnasium.envs.") and not spec.additional_wrappers
    return gymnasiums and has_same(spec.id)


def _make(
    settings: ActorSettings,
    spec: EnvSpec | None,
    mode: str,
    count: int,
    wraps: Sequence[wrappers.Wrap],
    metrics: MetricBook | None = None,
) -> tuple[Any, Masking]:
    """A Gymnasium vector, or what looks like one, and how it tells masks. wraps: around each, inside of our checks."""
    if spec is None or mode == "envpool":
        pool = Pool(settings.env if spec is None else spec.id, count, settings.env_options)
        if settings.action_mask not in ("auto", "none"):
            raise SettingError("actor.action_mask", settings.action_mask, "EnvPool's environments tell no masks; none")
        return masked_vector(settings.env, pool, "none")
    own = mode == "vector_entry_point"
    vector_kwargs: dict[str, Any] = {} if own else {"copy": False}  # we copy into our own
    maskings: list[Masking] = []

    def checked(env: gymnasium.Env[Any, Any]) -> Checked:
        inner, masking = masked(settings.env, env, settings.action_mask)
        maskings.append(masking)
        return Checked(inner, None if masking.by == "none" else masking.actions, metrics)

    around: tuple[Any, ...] = () if own else (*wraps, checked)
    try:
        options: dict[str, Any] = settings.env_options
        if "ale_py" in str(spec.vector_entry_point) and mode == "vector_entry_point":
            options = {"num_threads": 1, **options}  # an actor is one core's worth of work
        with signals.restored():
            env = gymnasium.make_vec(spec.id, count, mode, vector_kwargs, around, **options)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise _not_installed(settings.env, str(spec.vector_entry_point or spec.entry_point), error) from error
    except TypeError as error:
        raise _refused(spec, settings.env_options, error) from error
    if not own:
        return env, maskings[0]
    try:
        return masked_vector(settings.env, env, settings.action_mask)
    except BaseException:
        env.close()
        raise


def _refused(spec: EnvSpec, env_options: dict[str, object], error: TypeError) -> Exception:
    """An option that the constructor does not take; without options the environment's own fault."""
    if not env_options:
        return error
    return SettingError("actor.env_options", env_options, f"{spec.id} refused them: {error}")


def _next_step_autoreset(env_id: str, env: Any) -> bool:
    """Whether a finished environment resets one step later."""
    mode = env.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        said = mode.value if isinstance(mode, AutoresetMode) else mode
        raise SettingError("actor.env", env_id, f"autoreset mode must be NextStep or SameStep, and this has {said}")
    return mode is AutoresetMode.NEXT_STEP
