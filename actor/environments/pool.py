"""EnvPool's simulators, stepped together by C++, as Gymnasium's vectors are. Knows EnvPool, which nobody else does.

EnvPool (Weng et al. 2022) wrote its tasks anew under Gymnasium's ids. Those in SAME_AS_GYMNASIUM were compared with
Gymnasium's step by step, and a test repeats it. Others may differ.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import SettingError, UserError, nearest

# EnvPool's options that decide how environments are stepped rather than what they are.
RESERVED_OPTIONS = frozenset(
    {"num_envs", "batch_size", "seed", "env_seed", "max_num_players", "base_path", "gym_reset_return_info"}
    | {"thread_affinity_offset"}
)
MOST_THREADS = 256  # it starts as many as it is told to, and where the system has no more the process ends

Ended = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]  # (observations, rewards) -> [B]


def _fallen(seen: NDArray[Any], _: NDArray[Any]) -> NDArray[np.bool_]:
    fallen: NDArray[np.bool_] = (np.abs(seen[:, 0]) > 2.4) | (np.abs(seen[:, 2]) > np.deg2rad(12.0))
    return fallen


def _landed_or_crashed(_: NDArray[Any], rewards: NDArray[Any]) -> NDArray[np.bool_]:
    over: NDArray[np.bool_] = np.abs(rewards) == 100.0
    return over


# Which episodes reached their end in the very step of their time limit. EnvPool then says only that they were
# truncated, Gymnasium both, and what follows an end must not be bootstrapped.
ENDED: dict[str, Ended] = {
    "Acrobot-v1": lambda _, rewards: rewards == 0.0,
    "CartPole-v1": _fallen,
    "LunarLander-v3": _landed_or_crashed,
    "LunarLanderContinuous-v3": _landed_or_crashed,
    "MountainCar-v0": lambda seen, _: seen[:, 0] >= 0.5,
    "MountainCarContinuous-v0": lambda _, rewards: rewards > 50.0,
}
# Ids whose task is Gymnasium's, in releases that begin with COMPARED: Gymnasium 1.4.0 beside EnvPool 1.2.5. Not among
# them is Pendulum-v1, whose angle moves by the speed before its bound, and LunarLander-v3: it flies the same, but over
# ground that is 1 % higher and on another release of Box2D, and one policy lands there a little less often.
COMPARED = "1.2."
SAME_AS_GYMNASIUM = frozenset({"Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0"})


def has_same(env_id: str) -> bool:
    """Whether an EnvPool is installed that was compared with Gymnasium's ``env_id``. It is not imported."""
    try:
        return env_id in SAME_AS_GYMNASIUM and version("envpool").startswith(COMPARED)
    except PackageNotFoundError:
        return False


class Pool:
    """``count`` environments of EnvPool with the methods of a Gymnasium vector that has threads of its own.

    A finished row resets in the step after, whose action it ignores: Gymnasium's next-step autoreset. Raises UserError
    where EnvPool is not installed, SettingError for an id or an option that it does not have.
    """

    def __init__(self, env_id: str, count: int, options: Mapping[str, Any]) -> None:
        self.num_envs = count
        # One thread: a step of 16 small environments takes less time than it takes to wake a second one, and an actor
        # is one core's worth of work. EnvPool's own default is all cores, in each actor of a machine.
        self._make = {"task_id": env_id, "num_envs": count, "num_threads": 1, **options}
        self._envpool = _import()
        _check(self._envpool, env_id, options)
        try:
            spec = self._envpool.make_spec(**self._make)
        except TypeError as error:  # a number past 32 bits
            raise SettingError("actor.env_options", dict(options), f"EnvPool's {env_id} refused them") from error
        with _quiet():
            self.single_observation_space = spec.gymnasium_observation_space
            self.single_action_space = spec.gymnasium_action_space
        self._ended = ENDED.get(env_id)
        self._pool: Any = None

    def reset(self, *, seed: int) -> tuple[Any, Any]:
        """Begins anew, row i from ``seed`` + i: seeds are an argument of EnvPool's constructor."""
        seeds = [seed + row for row in range(self.num_envs)]
        self._pool = self._envpool.make(env_type="gymnasium", seed=seeds, **self._make)
        with _quiet():
            first: tuple[Any, Any] = self._pool.reset()
        return first

    def send(self, actions: NDArray[Any]) -> None:
        """Its threads begin to step. actions: [B, ...]."""
        self._pool.send(actions)

    def recv(self) -> tuple[Any, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Any]:
        """What the step gave, as ``step`` of a Gymnasium vector has it."""
        seen, rewards, terminated, truncated, info = self._pool.recv()
        if self._ended is not None and truncated.any():
            terminated = terminated | truncated & self._ended(seen, rewards)
        return seen, rewards, terminated, truncated, info

    def close(self) -> None:
        """Ends its threads."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Where it makes spaces: of float32, with bounds in float64, about which Gymnasium warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _import() -> Any:
    try:
        import envpool
    except ImportError as error:
        missing = error.name == "envpool"
        cause = 'is not installed: pip install "farflung[envpool]"' if missing else f"cannot be imported: {error}"
        raise UserError(f'actor.vectorization = "envpool" needs EnvPool, which {cause}') from error
    return envpool


def _check(envpool: Any, env_id: str, options: Mapping[str, Any]) -> None:
    """Raises SettingError for what EnvPool does not have. Some values that it does not check itself end the process."""
    ids = envpool.list_all_envs()
    if env_id not in ids:
        close = nearest(env_id, ids)
        raise SettingError("actor.env", env_id, "EnvPool has no such environment", close)
    defaults = envpool.make_spec(env_id).config._asdict()
    for option, value in options.items():
        name = f"actor.env_options.{option}"
        if option in RESERVED_OPTIONS:
            raise SettingError(name, value, "the actor sets this itself")
        if option not in defaults:
            own = ", ".join(sorted(defaults.keys() - RESERVED_OPTIONS))
            raise SettingError(name, value, f"EnvPool's {env_id} has no such option, but {own}")
        if not _fits(value, defaults[option]):
            raise SettingError(name, value, f"expected {type(defaults[option]).__name__}, as {defaults[option]!r}")
    if not 1 <= options.get("num_threads", 1) <= MOST_THREADS:
        raise SettingError("actor.env_options.num_threads", options["num_threads"], f"expected 1 to {MOST_THREADS}")


def _fits(value: object, default: object) -> bool:
    return type(value) is type(default) or (type(default) is float and type(value) is int)
