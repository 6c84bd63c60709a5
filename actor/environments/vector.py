"""Simulators as plain arrays: actions go out, a ``Step`` comes back. Pure. No registry, no torch, no network.

Both of Gymnasium's autoreset modes end up in one ``Step``. Next-step mode: the row after a finished one ignores its
action and only resets, so ``valid`` is False there. Same-step mode: every row is valid, and a finished row's true
successor is in ``final_observations``, because its observation already belongs to the next episode. A simulator of its
own process that failed is like the first: its rows are not valid until a new one shows its first observation. In this
process a reward or observation that is not finite makes its row invalid, and so the row after it, whose action nobody
could choose; the simulator goes on, and the score of an episode with such a hole is not told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actor.environments.child_protocol import FailureKind
from actor.environments.conversion import ActionConverter
from actor.spaces import Spaces

NO_ROWS: NDArray[np.intp] = np.zeros(0, np.intp)
NO_ROWS.setflags(write=False)
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
    episodes: (undiscounted raw return, length in steps) of each episode that this step finished; rows: int64, whose
    final_masks: bool [B, L], beside final_observations, of environments that tell masks
    """

    observations: NDArray[Any]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    starts: NDArray[np.bool_]
    final_observations: NDArray[Any] | None = None
    episodes: list[tuple[float, int]] = field(default_factory=list)
    rows: NDArray[np.intp] = field(default_factory=lambda: NO_ROWS)
    final_masks: NDArray[np.bool_] | None = None


class EngineStep(Protocol):
    """What one step of several environments gave, as ``Step`` has it, with raw arrays."""

    observations: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_] | None
    final_observations: NDArray[Any] | None
    final_masks: NDArray[np.bool_] | None
    cut: NDArray[np.bool_] | None


class Engine(Protocol):
    """Environments of one process or of many: actions go out, and a batch comes back."""

    count: int
    restarts_cut_rows: bool  # whether a row that was cut comes back with a new episode

    @property
    def failure_counts(self) -> Mapping[FailureKind, int]: ...

    @property
    def first_failures(self) -> Mapping[FailureKind, str]: ...  # what the first of each kind was, in words

    @property
    def masks(self) -> NDArray[np.bool_] | None: ...  # bool [B, L], what was shown last allows; None: no masks are told

    @property
    def masked_by(self) -> str: ...  # how they are told: info, observation or method; none

    def reset(self, seed: int) -> NDArray[Any]: ...  # row i from seed + i
    def send(self, actions: Any) -> None: ...  # as ActionConverter gives them
    def receive(self) -> EngineStep: ...
    def close(self) -> None: ...


class VectorEnv:
    """B environments behind arrays, with the book of their running episodes.

    masks: bool [B, L], which values of their choices (``Actions.logits``) the environments allow that they showed last;
    None of those that do not say. masked_by: how they say it: info, observation or method; none. Both after a reset.
    """

    masks: NDArray[np.bool_] | None = None
    masked_by = "none"

    def __init__(self, engine: Engine, spaces: Spaces, *, next_step_autoreset: bool) -> None:
        self.spaces, self.count = spaces, engine.count
        self.next_step_autoreset = next_step_autoreset  # next-step mode
        self.engine = engine
        self._convert = ActionConverter(spaces.actions)
        self._all_valid = np.ones(self.count, np.bool_)
        self._none = np.zeros(self.count, np.bool_)
        for constant in (self._all_valid, self._none):
            constant.setflags(write=False)
        self._reset_episodes()

    def _reset_episodes(self) -> None:
        self._steps = 0
        self._returns = np.zeros(self.count, np.float64)
        self._begun_at = np.zeros(self.count, np.int64)
        self._resetting: NDArray[np.bool_] | None = None
        self._holed = np.zeros(self.count, np.bool_)  # rows whose running episode has a step that does not count

    def reset(self, seed: int) -> NDArray[Any]:
        """Start every environment anew, row i from ``seed`` + i, cut to SEEDS. Returns observations [B, *shape]."""
        observations = self.engine.reset(seed & SEEDS)
        self.masks, self.masked_by = self.engine.masks, self.engine.masked_by
        self._reset_episodes()
        return observations

    def step(self, actions: NDArray[Any]) -> Step:
        """actions: int64 or float32 [B, width], as a policy chose them; ignored in rows that only reset."""
        self.send(actions)
        return self.receive()

    def send(self, actions: NDArray[Any]) -> None:
        """The first half of ``step``: simulators with threads or processes of their own begin to work."""
        self.engine.send(self._convert(actions))

    def receive(self) -> Step:
        """The second half of ``step``."""
        raw = self.engine.receive()
        self.masks = self.engine.masks
        rewards = np.asarray(raw.rewards, np.float32)
        step = Step(raw.observations, rewards, raw.terminated, raw.truncated, self._all_valid, self._none)
        valid, ended = raw.valid, raw.terminated | raw.truncated
        if self._resetting is not None:
            valid = ~self._resetting if valid is None else valid & ~self._resetting
            ended &= ~self._resetting
            self._begun_at[self._resetting] = self._steps + 1
            self._resetting = None
        if valid is not None and np.count_nonzero(valid) < self.count:
            self._mask(step, valid)
        self._steps += 1
        self._returns += step.rewards
        if raw.cut is not None:
            self._cut(raw.cut)
        if np.count_nonzero(ended):  # a third of what any() takes
            self._finish(step, ended, raw.final_observations, raw.final_masks)
        return step

    def unfinished(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Of the running episodes: undiscounted raw returns [B] so far, and lengths [B] in steps."""
        return self._returns, self._steps - self._begun_at

    @property
    def failures(self) -> Mapping[FailureKind, int]:
        """By kind: how many simulators were replaced, and in this process numbers that were not finite."""
        return self.engine.failure_counts

    @property
    def first_failures(self) -> Mapping[FailureKind, str]:
        """What the first of each kind was, in words."""
        return self.engine.first_failures

    def close(self) -> None:
        """Release the simulators and their processes."""
        self.engine.close()

    def _mask(self, step: Step, valid: NDArray[np.bool_]) -> None:
        """Rows that took no action, or none that counts: what they show begins something new."""
        step.valid, step.starts = valid, ~valid
        step.rewards = step.rewards * valid
        step.terminated, step.truncated = step.terminated & valid, step.truncated & valid
        if self.engine.restarts_cut_rows:
            self._begun_at[step.starts] = self._steps + 1

    def _cut(self, cut: NDArray[np.bool_]) -> None:
        """Nobody knows how those episodes would have ended; one that goes on has a hole."""
        if self.engine.restarts_cut_rows:
            self._returns[cut] = 0.0
        else:
            self._holed |= cut

    def _finish(
        self,
        step: Step,
        ended: NDArray[np.bool_],
        finals: NDArray[Any] | None,
        final_masks: NDArray[np.bool_] | None,
    ) -> None:
        step.rows = rows = np.flatnonzero(ended & ~self._holed)
        lengths = self._steps - self._begun_at[rows]
        step.episodes = list(zip(self._returns[rows].tolist(), lengths.tolist(), strict=True))
        self._returns[ended], self._holed[ended] = 0.0, False
        self._begun_at[ended] = self._steps
        if self.next_step_autoreset:
            self._resetting = ended
        else:
            step.final_observations, step.final_masks = finals, final_masks
            step.starts = step.starts | ended
