"""Vectors of simulators with one face, whoever steps them. Knows Gymnasium and EnvPool.

A finished row resets in the step after, whose action it ignores and whose reward is 0: Gymnasium's next-step autoreset.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

Step = tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Any]


class Simulators(Protocol):
    """B environments. ``step`` returns observations [B, D], rewards [B], terminated [B], truncated [B], and more."""

    def reset(self) -> tuple[NDArray[Any], Any]:
        """Observations [B, D] of the first step, and more."""

    def step(self, actions: NDArray[np.int64]) -> Step:
        """actions: [B]."""


def make(kind: str, env_id: str, count: int, seed: int) -> tuple[Simulators, int, int]:
    """The vector, D and the number of discrete actions. kind: ``gymnasium`` or ``envpool``."""
    env, seen, actions = {"gymnasium": _gymnasium, "envpool": _envpool}[kind](env_id, count, seed)
    return env, int(np.prod(seen.shape)), int(actions.n)


class _Seeded:
    """Gymnasium's vector, which wants its seed at ``reset``."""

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], seed: int) -> None:
        self.reset = lambda: env.reset(seed=seed)
        self.step = env.step


def _gymnasium(env_id: str, count: int, seed: int) -> tuple[Simulators, Any, Any]:
    """Gymnasium's fastest in one process: the environment's own vector where it has one."""
    own = gymnasium.spec(env_id).vector_entry_point is not None
    mode, options = ("vector_entry_point", {}) if own else ("sync", {"copy": False})
    env = gymnasium.make_vec(env_id, count, mode, vector_kwargs=options)
    return _Seeded(env, seed), env.single_observation_space, env.single_action_space


def _envpool(env_id: str, count: int, seed: int) -> tuple[Simulators, Any, Any]:
    """EnvPool's with one thread: the second core learns meanwhile."""
    import envpool

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its spaces are of float32, with bounds in float64
        env = envpool.make(env_id, env_type="gymnasium", num_envs=count, seed=seed, num_threads=1)
        return env, env.observation_space, env.action_space
