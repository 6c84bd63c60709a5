"""Environments that misbehave on demand, and the process that serves them. Knows Gymnasium and ``child_main``.

Run as a script it is what ``actor.environments.child_main`` is, with these environments beside Gymnasium's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from enum import IntEnum
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from actor.environments.child_main import Environment, main
from protocol.errors import UserError


class Act(IntEnum):
    """What to ask of a Fragile."""

    GO = 0
    END = 1
    CUT = 2
    RAISE = 3
    HANG = 4
    KILL = 5
    EXIT = 6
    SHAPE = 7
    DTYPE = 8
    NAN = 9
    INFINITE = 10
    NO_REWARD = 11
    NO_FLAG = 12
    OLD_API = 13
    RESET_RAISES = 14
    RESET_SHAPE = 15
    IMMORTAL = 16
    PRINT = 17


def hang() -> None:
    threading.Event().wait()


class Fragile(gymnasium.Env[Any, Any]):
    """Observes (drawn at reset, steps taken, drawn now). The action is an Act; GO is rewarded with what was drawn.

    diary: a file with a line for each process so far. lives: what befalls each process as it starts.
    """

    def __init__(self, diary: str = os.devnull, lives: tuple[str, ...] = (), holds: str = "") -> None:
        before = len(Path(diary).read_text().splitlines()) if Path(diary).is_file() else 0
        with Path(diary).open("a") as file:
            file.write("started\n")
        self._life = lives[before] if before < len(lives) else "well"
        if self._life == "raise":
            raise RuntimeError("no display")
        if self._life == "refuse":
            raise UserError("no such environment here")
        self.observation_space = Box(-np.inf, np.inf, (4 if self._life == "other" else 3,), np.float32)
        self.action_space = Discrete(len(Act))
        self._drawn, self._taken, self._act = 0.0, 0, Act.GO
        if holds:
            with Path(holds).open("w") as file:
                subprocess.Popen(["sleep", "600"], stdout=file)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if self._life == "reset_raises" or self._act is Act.RESET_RAISES:
            raise RuntimeError("stuck")
        self._drawn, self._taken = self.np_random.random(), 0
        return self._observe()[: 2 if self._act is Act.RESET_SHAPE else 3], {}

    def step(self, action: Any) -> Any:
        self._act = act = Act(action)
        self._taken += 1
        self._disturb(act)
        observation, reward = self._observe(), float(self._observe()[2])
        over = act in (Act.END, Act.RESET_RAISES, Act.RESET_SHAPE)
        if act is Act.SHAPE:
            return observation[:2], reward, over, False, {}
        if act is Act.DTYPE:
            return observation.astype(str), reward, over, False, {}
        if act is Act.INFINITE:
            return observation + np.inf, reward, over, False, {}
        if act is Act.OLD_API:
            return observation, reward, over, {}
        strange = {Act.NAN: np.nan, Act.NO_REWARD: None}
        return observation, strange.get(act, reward), 2 if act is Act.NO_FLAG else over, act is Act.CUT, {}

    def _disturb(self, act: Act) -> None:
        if act is Act.RAISE:
            raise ValueError("boom")
        if act is Act.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if act is Act.EXIT:
            os._exit(3)
        if act is Act.PRINT:
            print("a remark")
        if act is Act.IMMORTAL:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if act in (Act.HANG, Act.IMMORTAL):
            hang()

    def _observe(self) -> Any:
        return np.array([self._drawn, self._taken, self.np_random.random()], np.float32)


class Mixed(gymnasium.Env[Any, Any]):
    """Observes a Dict of everything, and its last action in it; ends after five steps."""

    def __init__(self) -> None:
        self.action_space = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
        self.observation_space = Dict(
            near=Box(-9.0, 9.0, (2, 1), np.float64),
            which=Discrete(3, start=1),
            rest=Tuple((MultiDiscrete([2, 3]), MultiBinary(2))),
        )
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._taken = 0
        return self._observe(self.np_random.random(2)), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        action += 0.0  # an environment may do that to its action
        self._taken += 1
        return self._observe(action), float(action.sum()), False, self._taken >= 5, {}

    def _observe(self, near: Any) -> Any:
        digits, bits = self.np_random.integers(0, [2, 3]), self.np_random.integers(0, 2, 2, np.int8)
        near = np.array(near, np.float64).reshape(2, 1)
        return {"near": near, "which": int(self.np_random.integers(1, 4)), "rest": (digits, bits)}


class Screen(gymnasium.Env[Any, Any]):
    """Observes a picture larger than any socket's buffer; several actions at once; ends after three steps."""

    def __init__(self) -> None:
        self.observation_space = Box(0, 255, (400, 400, 3), np.uint8)
        self.action_space = MultiDiscrete([3, 4])
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._taken = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self._taken += 1
        return self._observe(), float(action[0] - action[1]), self._taken >= 3, False, {}

    def _observe(self) -> Any:
        return self.np_random.integers(0, 256, (400, 400, 3), np.uint8)


class Unpaid(gymnasium.Env[Any, Any]):
    """Never pays a number."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (4,), np.float32), Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(4, np.float32), np.nan, False, False, {}


OURS: dict[str, type[gymnasium.Env[Any, Any]]] = {"Fragile": Fragile, "Mixed": Mixed, "Screen": Screen}


UNPAID = "Unpaid-v0"
gymnasium.register(UNPAID, f"{__name__}:Unpaid", disable_env_checker=True)
gymnasium.register("Fragile-v0", f"{__name__}:Fragile", disable_env_checker=True)
gymnasium.register("Timed-v0", f"{__name__}:Fragile", max_episode_steps=9, disable_env_checker=True)


def make(env_id: str, env_options: dict[str, Any], allowed_modules: frozenset[str]) -> Environment:
    """As ``registry.make_one``, for these and for Gymnasium's."""
    return OURS[env_id](**env_options) if env_id in OURS else gymnasium.make(env_id, **env_options)


if __name__ == "__main__":
    main(make)
