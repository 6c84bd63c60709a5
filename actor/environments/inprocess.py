"""Environments in the actor's own process, as an engine of ``VectorEnv``. Knows Gymnasium's vectors and our signals.

What they return is checked as a child process would check it, for a few microseconds a step of all rows together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.environments import signals
from actor.environments.child_protocol import FailureKind, OnFailure
from actor.environments.contract import (
    LARGEST,
    MASK,
    ContractViolation,
    checked,
    final_of,
    first_not_finite,
    first_of,
    outcomes_of,
)
from actor.environments.conversion import flatten
from actor.environments.masks import MaskBook
from actor.environments.metrics import MetricBook

NOBODY = np.zeros(1, np.bool_)  # of any number of rows


@dataclass(slots=True)
class _InProcessStep:
    """Batch of environments that do not fail."""

    observations: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final_observations: NDArray[Any] | None
    final_masks: NDArray[np.bool_] | None = None
    valid: NDArray[np.bool_] | None = None
    cut: NDArray[np.bool_] | None = None


class InProcessEngine:
    """Engine over one of Gymnasium's vector environments. One with threads of its own steps while nobody waits.

    name: what messages call it. on_failure: gets the first of each kind. What it returns is checked: what breaks
    Gymnasium's contract raises ContractViolation, and numbers that are not finite are counted and their rows left out.
    book: of its masks, where it may tell some. metrics: where what the environments measure is booked.
    """

    restarts_cut_rows = False

    def __init__(
        self,
        env: Any,
        *,
        next_step_autoreset: bool,
        on_failure: OnFailure,
        name: str = "",
        book: MaskBook | None = None,
        metrics: MetricBook | None = None,
    ) -> None:
        self.count: int = env.num_envs
        self.failure_counts: Counter[FailureKind] = Counter()
        self.first_failures: dict[FailureKind, str] = {}
        self._metrics = metrics or MetricBook()
        self.env, self._name, self._next_step_autoreset, self._on_failure = env, name, next_step_autoreset, on_failure
        self._space, self._book = env.single_observation_space, book
        self._threaded = hasattr(env, "send") and hasattr(env, "recv")
        self._actions: Any = None
        self._steps = 0  # of each row, since the beginning
        self._any_unobserved = False
        self._unobserved = np.zeros(self.count, np.bool_)  # rows that last showed nothing to act on
        self._nought: NDArray[np.float32] = np.zeros(0, np.float32)

    def reset(self, seed: int) -> NDArray[Any]:
        """Engine.reset. Raises ContractViolation, also for numbers that are not finite."""
        try:
            returned = self.env.reset(seed=seed)  # each environment adds its row
            seen = flatten(self._space, checked(self._space, first_of(returned), self.count), self.count)
            if self._book is not None:
                self._book.begin(returned[1])
            self._measure(returned[1])
            self._nought = np.zeros(0 if seen.dtype == np.uint8 else seen.size, np.float32)
            self._unobserved, self._any_unobserved = np.zeros(self.count, np.bool_), False
            if not self._sound(seen):
                row = int(np.argmin(np.isfinite(seen).all(1)))
                raise ContractViolation(f"{first_not_finite(seen[row])}, the first of row {row}")
            return seen
        except ContractViolation as error:
            raise ContractViolation(f"{self._name}: {error}") from None
        finally:
            signals.restore()

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """Engine.masks."""
        return None if self._book is None else self._book.shown

    @property
    def masked_by(self) -> str:
        """Engine.masked_by."""
        return "none" if self._book is None else self._book.by

    def send(self, actions: Any) -> None:
        """Engine.send."""
        if self._threaded:
            self.env.send(actions)
        else:
            self._actions = actions

    def receive(self) -> _InProcessStep:
        """Engine.receive. Raises ContractViolation."""
        try:
            return self._received(self.env.recv() if self._threaded else self.env.step(self._actions))
        except ContractViolation as error:
            raise type(error)(f"{self._name}: {error}") from None
        finally:
            signals.restore()

    def _received(self, returned: Any) -> _InProcessStep:
        self._steps += 1
        observations, rewards, terminated, truncated, info = outcomes_of(returned, self._space, self.count)
        if info:
            self._measure(info)
        seen = flatten(self._space, observations, self.count)
        finals = None
        if not self._next_step_autoreset and (terminated.any() or truncated.any()):
            finals = self._finals(info, seen, terminated, truncated)
        answer = _InProcessStep(seen, rewards, terminated, truncated, finals)
        if self._book is not None and (MASK in info or self._book.shown is not None):
            self._book.go_on(info, terminated | truncated if self._next_step_autoreset else NOBODY)
            answer.final_masks = None if finals is None else self._book.finals(info)
        paid = (
            float(np.vdot(rewards, rewards)) <= LARGEST**2
        )  # if so all are finite; if not one may be, and is looked at
        if not (paid and self._sound(seen) and (finals is None or self._sound(finals))) or self._any_unobserved:
            self._leave_out(answer)
        return answer

    def _measure(self, info: object) -> None:
        """What a vector of the environment's own says; of Gymnasium's each environment is asked (``Checked``)."""
        if isinstance(info, dict) and ("metrics" in info or "final_info" in info):
            self._metrics.add_batch(info, self.count)

    def _sound(self, seen: NDArray[Any]) -> bool:
        """Whether all numbers are finite; nothing times what is not is not nothing."""
        return not self._nought.size or bool(np.vdot(seen, self._nought) == 0.0)

    def _leave_out(self, answer: _InProcessStep) -> None:
        """Makes rows invalid whose numbers are not finite or whose action was chosen without an observation."""
        reward_held = np.abs(answer.rewards) <= LARGEST
        for row in np.flatnonzero(~reward_held).tolist():
            self._count_failure(row, "reward_not_finite", f"the reward is {answer.rewards[row]}")
        seen_held = final_held = self._seen_held(answer.observations)
        if answer.final_observations is not None:
            final_held = self._seen_held(answer.final_observations, answer.terminated | answer.truncated)
        valid = reward_held & seen_held & final_held & ~self._unobserved
        answer.rewards = np.where(valid, answer.rewards, 0.0)
        if not seen_held.all():
            answer.observations = np.where(seen_held[:, None], answer.observations, np.float32(0.0))
        answer.valid, answer.cut, self._unobserved = valid, ~valid, ~seen_held
        self._any_unobserved = not seen_held.all()

    def _seen_held(self, seen: NDArray[Any], asked: NDArray[np.bool_] | np.bool_ = np.True_) -> NDArray[np.bool_]:
        """Bool [B], which rows are finite; notes those asked for that are not."""
        if not self._nought.size:
            return np.ones(self.count, np.bool_)
        held: NDArray[np.bool_] = np.isfinite(seen).all(1) | ~asked
        for row in np.flatnonzero(~held).tolist():
            self._count_failure(row, "observation_not_finite", first_not_finite(seen[row]))
        return held

    def _count_failure(self, row: int, kind: FailureKind, detail: str) -> None:
        self.failure_counts[kind] += 1
        if kind not in self.first_failures:
            where = f"{self._name}: {detail}, in step {self._steps:,} of row {row}"
            self.first_failures[kind] = where
            self._on_failure(row, kind, where)

    def _finals(
        self,
        info: Mapping[str, Any],
        seen: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> NDArray[Any]:
        """The true successors of finished rows. Raises ContractViolation where one that is needed is missing."""
        successors = seen.copy()
        for row in np.flatnonzero(terminated | truncated).tolist():
            found = final_of(info, row, self._space)
            if found is not None:
                successors[row] = flatten(self._space, found, 1)[0]
            elif not terminated[row]:  # what follows a terminal state counts for nothing
                mode = "resets in the same step (autoreset mode SameStep) and its info has no final_obs"
                raise ContractViolation(f"it {mode} of row {row}, whose episode was truncated")
        return successors

    def close(self) -> None:
        """Engine.close."""
        self.env.close()
