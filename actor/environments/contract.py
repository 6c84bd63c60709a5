"""What an environment may return: checked in the same words in every process. Pure. Knows Gymnasium's spaces and numpy.

What is certainly meant is converted: a flag of 0 or 1 of any type, and a number of the space's kind in another width.
What is not is a ``ContractViolation``, in words that name it. A number that is not finite is no breach but a simulator
that came apart: a child process ends with it, and in the actor's own process its row is left out.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from actor.environments.child_protocol import FailureKind
from actor.environments.metrics import KEY, MetricBook
from actor.spaces import Actions

LARGEST = float(np.finfo(np.float32).max)  # rewards are learnt from as float32
FLAG_TYPES = frozenset({bool, np.bool_})
FIVE = "Gymnasium's five values (observation, reward, terminated, truncated, info)"  # old Gym's step has four
MASK = "action_mask"  # where info says which actions are allowed
FINALS = ("final_obs", "final_observation")  # where info holds true successors; the latter before Gymnasium 1.0


class ContractViolation(Exception):
    """The environment returned something that Gymnasium's contract does not allow; the text says what."""

    kind: FailureKind = "wrong_shape"


class RewardNotFinite(ContractViolation):
    kind: FailureKind = "reward_not_finite"


class ObservationNotFinite(ContractViolation):
    kind: FailureKind = "observation_not_finite"


def first_of(returned: Any) -> Any:
    """The observation in what ``reset`` returned. Raises ContractViolation."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ContractViolation(f"reset returned {described(returned)}, not (observation, info)")
    return returned[0]


def outcome_of(returned: Any) -> tuple[Any, float, bool, bool, Any]:
    """What ``step`` of one environment returned, its reward and flags as Python has them. Raises ContractViolation."""
    observation, reward, terminated, truncated, info = _five(returned)
    if type(reward) is not float:
        reward = float(_numbers("reward", reward, ()))
    if type(terminated) is not bool:
        terminated = bool(_flags("terminated", terminated, ()))
    if type(truncated) is not bool:
        truncated = bool(_flags("truncated", truncated, ()))
    return observation, reward, terminated, truncated, info


Outcomes = tuple[Any, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Mapping[str, Any]]


def outcomes_of(returned: Any, space: Space[Any], count: int) -> Outcomes:
    """What ``step`` of a vector of ``count`` environments returned. space: of one observation.

    Returns observations, rewards, float64 [count], terminated and truncated, bool [count], and info. Raises
    ContractViolation.
    """
    observations, rewards, terminated, truncated, info = _five(returned)
    return (
        checked(space, observations, count),
        _numbers("reward", rewards, (count,)).astype(np.float64, copy=False),  # whose squares overflow in no other way
        _flags("terminated", terminated, (count,)),
        _flags("truncated", truncated, (count,)),
        info if type(info) is dict or isinstance(info, Mapping) else {},  # the second look takes ten times as long
    )


def _five(returned: Any) -> tuple[Any, Any, Any, Any, Any]:
    if not isinstance(returned, tuple) or len(returned) != 5:
        raise ContractViolation(f"step returned {described(returned)}, not {FIVE}")
    return returned


def stepped(env: Any, action: Any) -> Any:
    """What ``env.step`` returned. Raises ContractViolation where a wrapper of Gymnasium's could not take it apart."""
    try:
        return env.step(action)
    except ValueError as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if "values to unpack (expected 5" in str(error) and str(frame.f_globals["__name__"]).startswith("gymnasium."):
            raise ContractViolation(f"step did not return {FIVE}: {error}") from None
        raise


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    numbers = _array(value)
    if numbers.shape != shape or numbers.dtype.kind not in "fiub":
        raise ContractViolation(
            f"the {name} is {described(value)}, not {'a number' if shape == () else f'numbers {list(shape)}'}"
        )
    return numbers


def _flags(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    flags = _array(value)
    if flags.shape == shape:
        if flags.dtype == np.bool_:
            return flags
        if flags.dtype.kind in "iuf" and ((flags == 0) | (flags == 1)).all():
            return flags.astype(np.bool_)
    raise ContractViolation(f"{name} is {described(value)}, not {'a bool' if shape == () else f'bool {list(shape)}'}")


def finite(reward: float) -> float:
    """A reward that float32 holds. Raises RewardNotFinite."""
    if not abs(reward) <= LARGEST:
        raise RewardNotFinite(f"the reward is {reward}")
    return reward


def first_not_finite(numbers: NDArray[np.float32]) -> str:
    """Which of an observation's numbers [D] is the first that is not finite, in words."""
    index = int(np.argmin(np.isfinite(numbers)))
    return f"number {index} of an observation is {numbers[index]}"


def checked(space: Space[Any], observation: Any, count: int | None = None) -> Any:
    """Arrays as ``flatten`` takes them, of a batch of ``count``; None: of one, which gets a batch axis.

    Raises ContractViolation. As Gymnasium's own vector environments it forgives a type that casts within its kind, such
    as float64 for float32, and numbers outside a Box; it forgives no other shape, no missing part
    and no choice that does not exist.
    """
    if isinstance(space, Dict):
        if not isinstance(observation, Mapping) or not space.spaces.keys() <= observation.keys():
            raise ContractViolation(
                f"an observation is {described(observation)}, not a dict of {', '.join(space.spaces)}"
            )
        return {name: checked(part, observation[name], count) for name, part in space.spaces.items()}
    if isinstance(space, Tuple):
        if not isinstance(observation, Sequence) or len(observation) != len(space.spaces):
            raise ContractViolation(f"an observation is {described(observation)}, not a tuple of {len(space.spaces)}")
        return tuple(checked(part, seen, count) for part, seen in zip(space.spaces, observation, strict=True))
    return _leaf(space, observation)[None] if count is None else _leaf(space, observation, (count,))


def _leaf(space: Space[Any], observation: Any, batch: tuple[int, ...] = ()) -> NDArray[Any]:
    seen = _array(observation)
    fits = seen.dtype == space.dtype or np.can_cast(seen.dtype, space.dtype or seen.dtype, "same_kind")
    if not fits or seen.shape != (*batch, *(space.shape or ())):
        each = f"{batch[0]} times " if batch else ""
        raise ContractViolation(f"an observation is {described(observation)}, not {each}of {space}")
    if isinstance(space, Discrete | MultiDiscrete) and not _within(space, seen):
        choices = space.n if isinstance(space, Discrete) else space.nvec
        within = (seen >= space.start) & (seen - space.start < choices)
        lost = seen if not batch else seen[int(np.argmin(within.reshape(*batch, -1).all(1)))]
        raise ContractViolation(f"an observation is {lost.tolist()}, outside {space}")
    return seen


def _within(space: Discrete | MultiDiscrete, seen: NDArray[Any]) -> bool:
    if isinstance(space, Discrete) and seen.dtype == np.int64 and seen.shape and seen.flags.c_contiguous:
        return bool((seen - space.start if space.start else seen).view(np.uint64).max() < space.n)  # below 0: huge
    choices = space.n if isinstance(space, Discrete) else space.nvec
    return bool(((seen >= space.start) & (seen - space.start < choices)).all())


def final_of(info: Mapping[str, Any], row: int, space: Space[Any]) -> Any | None:
    """The true successor of a row whose episode ended, as ``checked`` gives one; None where info has none.

    It may stand in an object array of rows, in a dense array, or in one of these for each part of a Dict or Tuple.
    Raises ContractViolation for one that is not of ``space``.
    """
    for key in FINALS:
        present = info.get("_" + key)
        if key in info and (present is None or _at(present, row, "_" + key)):
            found = _row(info[key], row, space, key)
            return None if found is None else checked(space, found)
    return None


def _row(batch: Any, row: int, space: Space[Any], key: str) -> Any | None:
    if isinstance(space, Dict) and isinstance(batch, Mapping):
        return {name: _row(batch[name], row, part, key) for name, part in space.spaces.items() if name in batch}
    if isinstance(space, Tuple) and isinstance(batch, tuple) and len(batch) == len(space.spaces):
        return tuple(_row(inner, row, part, key) for inner, part in zip(batch, space.spaces, strict=True))
    return _at(batch, row, key)


def _at(batch: Any, row: int, key: str) -> Any:
    """One of a batch; ``key`` names it where there is none for the row."""
    try:
        return batch[row]
    except (IndexError, KeyError, TypeError):
        raise ContractViolation(f"info[{key!r}] is {described(batch)}, with nothing for environment {row}") from None


def masks_of(told: Any, present: NDArray[np.bool_], actions: Actions) -> NDArray[np.bool_]:
    """What a batch of masks allows, bool [B, L], of its own. present: bool [B]; rows of others are False.

    Raises ContractViolation.
    """
    shape = (len(present), actions.logits)
    if isinstance(told, np.ndarray) and told.shape == shape and _all_zero_or_one(told):
        return told.astype(np.bool_) & present[:, None]
    masks = np.zeros(shape, np.bool_)
    for row in np.flatnonzero(present).tolist():
        one = {name: _at(part, row, MASK) for name, part in told.items()} if isinstance(told, Mapping) else None
        masks[row] = mask_of(_at(told, row, MASK) if one is None else one, actions)
    return masks


def mask_of(told: Any, actions: Actions) -> NDArray[np.bool_]:
    """Which of its actions' values an environment allows, bool [L].

    told: 0 or 1, or bool, for each; a tuple of one such array for each choice; or for actions that are a Dict or Tuple
    one of masks, without those of real numbers, or with None. Raises ContractViolation.
    """
    if type(told) is np.ndarray and told.dtype == np.bool_ and told.shape == (actions.logits,):
        return told
    paths = [array.path for array in actions.arrays if min(array.columns, default=0) < len(actions.choices)]
    parts = list(_mask_parts(told, paths))
    flat = np.concatenate(parts) if parts else np.zeros(0)
    if flat.shape != (actions.logits,) or not _all_zero_or_one(flat):
        kind = f"it holds {len(flat)} of {flat.dtype}" if parts else "it is empty"
        said = f"the action mask is {described(told)}, not {actions.logits} of 0 or 1: {kind}"
        raise ContractViolation(f'{said}; actor.action_mask = "none" does without masks')
    return flat.astype(np.bool_)


def _mask_parts(told: Any, paths: Sequence[tuple[str | int, ...]]) -> Iterator[NDArray[Any]]:
    """Its arrays in the order of the choices; paths: of the arrays that hold choices, below here."""
    if told is None:
        return
    if isinstance(told, Mapping):
        names = dict.fromkeys(path[0] for path in paths if path)
        if not names or not names.keys() <= told.keys():
            lacks = f"without {', '.join(str(name) for name in names if name not in told)}" if names else "of names"
            raise ContractViolation(f"the action mask is a dict {lacks}")
        parts = [(name, told[name]) for name in names]
    elif isinstance(told, tuple | list) and not all(isinstance(each, int | float | np.generic) for each in told):
        parts = list(enumerate(told))
    else:
        yield _array(told).reshape(-1)
        return
    for name, part in parts:
        yield from _mask_parts(part, [path[1:] for path in paths if path and path[0] == name])


def _all_zero_or_one(numbers: NDArray[Any]) -> bool:
    kind = numbers.dtype.kind
    return kind == "b" or (kind in "iuf" and bool(((numbers == 0) | (numbers == 1)).all()))


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment of a vector in this process, whose returns are checked before a vector's arrays swallow them.

    What an array shows as well, such as a choice that does not exist, is left to ``outcomes_of``. actions: what masks
    in info are about; None: they are not looked at. metrics: where what it measures is booked; a vector's arrays have
    the type of the first environment's number, and bear no other.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], actions: Actions | None = None, metrics: MetricBook | None = None
    ) -> None:
        super().__init__(env)
        self._actions, self._metrics = actions, metrics or MetricBook()
        self._space = env.observation_space
        self._shape, self._type = self._space.shape, self._space.dtype
        self._chooses = isinstance(self._space, Discrete)

    def reset(self, **options: Any) -> Any:
        """Gymnasium's."""
        returned = self.env.reset(**options)
        self._check(first_of(returned))
        return returned[0], self._with_plain_mask(self._metrics.take_out(returned[1]))

    def step(self, action: Any) -> Any:
        """Gymnasium's."""
        returned = stepped(self.env, action)
        if type(returned) is tuple and len(returned) == 5:  # as nearly all of them, at once
            observation, reward, terminated, truncated, info = returned
            if type(info) is dict and KEY in info:
                info = self._metrics.take_out(info)
                returned = (*returned[:4], info)
            flagged = type(terminated) in FLAG_TYPES and type(truncated) in FLAG_TYPES
            plain = self._actions is None or type(info) is not dict or MASK not in info
            if plain and flagged and isinstance(reward, float) and self._plain(observation):
                return returned
        outcome = outcome_of(returned)
        self._check(outcome[0])
        return *outcome[:4], self._with_plain_mask(outcome[4])

    def _with_plain_mask(self, info: Any) -> Any:
        """The mask as one array, which arrays of a vector hold whatever it was."""
        if self._actions is None or type(info) is not dict or MASK not in info:
            return info
        if info[MASK] is None:
            return {name: value for name, value in info.items() if name != MASK}
        return {**info, MASK: mask_of(info[MASK], self._actions)}

    def _plain(self, observation: Any) -> bool:
        if self._chooses:
            return isinstance(observation, int | np.integer)
        fits = type(observation) is np.ndarray and observation.dtype == self._type
        return fits and bool(observation.shape == self._shape)

    def _check(self, observation: Any) -> None:
        if not self._plain(observation):
            checked(self._space, observation)


def _array(value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:  # a list of lists of unequal lengths
        raise ContractViolation(f"{described(value)} is no array") from None


def described(value: Any) -> str:
    """Type, and shape where it has one; never the value, which may be large."""
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | tuple | dict) else type(value).__name__
