"""An actor's newest rollouts as one. Pure. Knows rollouts.

What a fleet's actor collects between two policies is a piece of one trajectory: the gradients of that alone agree with
each other and with nobody else's. Drawn from the newest few rollouts they do not, and each sample is used as often as
before, only not at once. Each rollout goes on where the one before it stopped, so together they are a longer one, whose
advantages look as far ahead. Its older rows were acted in by older policies, which targets have to correct for.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.rollout import Final, Floats, Rollout


@dataclass(frozen=True, slots=True)
class _Kept:
    """A rollout's copy, and what had happened when it began: the learner's life, and the run's environment steps."""

    rollout: Rollout
    epoch: int
    env_steps: int


class Limits(NamedTuple):
    """least, most: rollouts that are learnt from together. most_age: environment steps of the run since the weights of
    one, beyond which it is let go, but for the least.
    """

    least: int
    most: int
    most_age: float


class RecentRollouts:
    """At first it holds nothing."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()

    def clear(self) -> None:
        """Nothing goes on from here: the simulators are others, or a rollout was left out."""
        self._kept.clear()

    def join(self, rollout: Rollout, epoch: int, env_steps: int, limits: Limits) -> Rollout:
        """The rollout and those before it that can still teach, as one; copies. ``older`` of it says how many rows.

        epoch, env_steps: of the weights that collected it.
        """
        kept = self._kept
        kept.append(_Kept(copy.deepcopy(rollout), epoch, env_steps))
        while kept[0].epoch != epoch or kept[0].env_steps > env_steps:  # of another life, which may have gone back
            kept.popleft()
        while len(kept) > limits.most or (len(kept) > limits.least and env_steps - kept[0].env_steps > limits.most_age):
            kept.popleft()
        return _joined([each.rollout for each in kept])


def _joined(rollouts: list[Rollout]) -> Rollout:
    """rollouts: of the same environments, each from where the last one stopped. Counts are the newest's own."""
    newest = rollouts[-1]
    finals: list[Final] = []
    begins = 0
    for each in rollouts:
        finals += [(t + begins, rows, seen) for t, rows, seen in each.finals]
        begins += len(each.rewards)
    return replace(
        newest,
        observations=_overlapping([each.observations for each in rollouts]),
        actions=np.concatenate([each.actions for each in rollouts]),
        outputs=_overlapping([each.outputs for each in rollouts]),
        values=_together([each.values for each in rollouts]),
        next_values=_together([each.next_values for each in rollouts]),
        rewards=np.concatenate([each.rewards for each in rollouts]),
        terminated=np.concatenate([each.terminated for each in rollouts]),
        truncated=np.concatenate([each.truncated for each in rollouts]),
        valid=np.concatenate([each.valid for each in rollouts]),
        starts=np.concatenate([each.starts for each in rollouts]),
        state=rollouts[0].state,
        finals=finals,
        masks=None
        if newest.masks is None
        else _overlapping([each.masks for each in rollouts if each.masks is not None]),
        final_masks=[masks for each in rollouts for masks in each.final_masks],
        older=begins - len(newest.rewards),
    )


def _overlapping(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """[T + 1, ...] each, whose last row the next one's first is, as the policy saw it that went on from there."""
    return np.concatenate([*(array[:-1] for array in arrays[:-1]), arrays[-1]])


def _together(arrays: list[Floats | None]) -> Floats | None:
    found = [array for array in arrays if array is not None]
    return np.concatenate(found) if found else None
