"""Simulators as plain arrays: actions go out, a ``Step`` comes back. Knows no Gymnasium registry, no torch, no network.

Both of Gymnasium's autoreset modes end up in one ``Step``. Next-step mode: the row after a finished one ignores its
action and only resets, so ``valid`` is False there. Same-step mode: every row is valid, and a finished row's true
successor is in ``final_observations``, because its observation already belongs to the next episode. A simulator of its
own process that failed is like the first: its rows are not valid until a new one shows its first observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actor.spaces import ActionCodec, Spaces, flatten, flatten_one

SEEDS = (1 << 30) - 1  # the emulator of Atari games keeps seeds in 32 bits with a sign, and each row adds its number


@dataclass(slots=True)
class Step:
    """What one step of every environment gave; the arrays may be overwritten by the next step.

    observations: float32 or uint8 [B, *shape], after the action
    rewards: float32 [B], raw; 0 where not valid
    terminated, truncated: bool [B]; False where not valid
    valid: bool [B], False where the action was ignored: the environment only reset, or it failed
    starts: bool [B], where the observation is the first of an episode
    final_observations: [B, *shape] with the true successor in finished rows, in same-step mode when a row finished
    episodes: (undiscounted raw return, length in steps) of each episode that this step finished
    """

    observations: NDArray[Any]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    starts: NDArray[np.bool_]
    final_observations: NDArray[Any] | None = None
    episodes: list[tuple[float, int]] = field(default_factory=list)


class Batch(Protocol):
    """What one step of several environments gave, as ``Step`` has it, with raw arrays."""

    observations: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_] | None
    final_observations: NDArray[Any] | None
    cut: NDArray[np.bool_] | None


class Engine(Protocol):
    """Environments of one process or of many: actions go out, and a batch comes back."""

    count: int

    def reset(self, seed: int) -> NDArray[Any]: ...  # row i from seed + i
    def send(self, actions: NDArray[Any]) -> None: ...
    def receive(self) -> Batch: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Answer:
    """Batch of environments that do not fail."""

    observations: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final_observations: NDArray[Any] | None
    valid: NDArray[np.bool_] | None = None
    cut: NDArray[np.bool_] | None = None


class InProcess:
    """Engine over one of Gymnasium's vector environments. One with threads of its own steps while nobody waits."""

    def __init__(self, env: Any) -> None:
        self.count: int = env.num_envs
        self._env = env
        self._space = env.single_observation_space
        self._threaded = hasattr(env, "send") and hasattr(env, "recv")
        self._actions: NDArray[Any] | None = None

    def reset(self, seed: int) -> NDArray[Any]:
        """Engine.reset."""
        observations, _ = self._env.reset(seed=seed)  # each environment adds its row
        return flatten(self._space, observations, self.count)

    def send(self, actions: NDArray[Any]) -> None:
        """Engine.send."""
        if self._threaded:
            self._env.send(actions)
        else:
            self._actions = actions

    def receive(self) -> _Answer:
        """Engine.receive."""
        answer = self._env.recv() if self._threaded else self._env.step(self._actions)
        observations, rewards, terminated, truncated, infos = answer
        finals = infos.get("final_obs") if terminated.any() or truncated.any() else None
        observations = flatten(self._space, observations, self.count)
        return _Answer(observations, rewards, terminated, truncated, self._finals(finals, observations))

    def _finals(self, finals: Any, observations: NDArray[Any]) -> NDArray[Any] | None:
        """The true successors of finished rows, in place; None where the environments reset one step later."""
        if finals is None:
            return None
        successors = observations.copy()
        for row, seen in enumerate(finals):
            if seen is not None:
                successors[row] = flatten_one(self._space, seen)
        return successors

    def close(self) -> None:
        """Engine.close."""
        self._env.close()


class Simulators:
    """B environments behind arrays, with the book of their running episodes."""

    def __init__(self, engine: Engine, spaces: Spaces, *, resets_late: bool) -> None:
        self.spaces, self.count = spaces, engine.count
        self.resets_late = resets_late  # next-step mode
        self._engine = engine
        self._spoken = ActionCodec(spaces.actions)
        self._all_valid = np.ones(self.count, np.bool_)
        self._none = np.zeros(self.count, np.bool_)
        for constant in (self._all_valid, self._none):
            constant.setflags(write=False)
        self._begin()

    def _begin(self) -> None:
        self._steps = 0
        self._returns = np.zeros(self.count, np.float64)
        self._begun_at = np.zeros(self.count, np.int64)
        self._resetting: NDArray[np.bool_] | None = None

    def reset(self, seed: int) -> NDArray[Any]:
        """Start every environment anew, row i from ``seed`` + i, cut to SEEDS. Returns observations [B, *shape]."""
        observations = self._engine.reset(seed & SEEDS)
        self._begin()
        return observations

    def step(self, actions: NDArray[Any]) -> Step:
        """actions: int64 or float32 [B, width], as a policy chose them; ignored in rows that only reset."""
        self.send(actions)
        return self.receive()

    def send(self, actions: NDArray[Any]) -> None:
        """The first half of ``step``: simulators with threads or processes of their own begin to work."""
        self._engine.send(self._spoken(actions))

    def receive(self) -> Step:
        """The second half of ``step``."""
        raw = self._engine.receive()
        rewards = np.asarray(raw.rewards, np.float32)
        step = Step(raw.observations, rewards, raw.terminated, raw.truncated, self._all_valid, self._none)
        if self._resetting is not None:
            self._mask(step, ~self._resetting)
            self._resetting = None
        if raw.valid is not None and not raw.valid.all():
            self._mask(step, raw.valid)
        self._steps += 1
        self._returns += step.rewards
        if raw.cut is not None:
            self._returns[raw.cut] = 0.0  # nobody knows how those episodes would have ended
        done = step.terminated | step.truncated
        if done.any():
            self._finish(step, done, raw.final_observations)
        return step

    def unfinished(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Of the running episodes: undiscounted raw returns [B] so far, and lengths [B] in steps."""
        return self._returns, self._steps - self._begun_at

    @property
    def failures(self) -> Mapping[str, int]:
        """How many simulators were replaced, by kind of failure; empty where they share this process."""
        return getattr(self._engine, "failure_counts", {})

    def close(self) -> None:
        """Release the simulators and their processes."""
        self._engine.close()

    def _mask(self, step: Step, valid: NDArray[np.bool_]) -> None:
        """Rows that took no action: an episode begins with what they show."""
        step.valid, step.starts = valid, ~valid
        step.rewards = step.rewards * valid
        step.terminated, step.truncated = step.terminated & valid, step.truncated & valid
        self._begun_at[step.starts] = self._steps + 1

    def _finish(self, step: Step, done: NDArray[np.bool_], finals: NDArray[Any] | None) -> None:
        rows = np.flatnonzero(done)
        lengths = self._steps - self._begun_at[rows]
        step.episodes = list(zip(self._returns[rows].tolist(), lengths.tolist(), strict=True))
        self._returns[rows] = 0.0
        self._begun_at[rows] = self._steps
        if self.resets_late:
            self._resetting = done
        else:
            step.final_observations = finals
            step.starts = step.starts | done
