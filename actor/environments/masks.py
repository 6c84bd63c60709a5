"""Which actions an environment allows, by the three conventions that people have, as one. Knows Gymnasium's wrappers.

They are ``info["action_mask"]`` of reset and step, a part ``action_mask`` of a Dict observation, which the policy then
does not see (PettingZoo's), and the method ``action_masks()`` (sb3-contrib's). A wrapper makes the first of the others.
A mask is needed wherever an action is to be chosen; where an episode ended, one that is absent or allows nothing is
taken for one that allows all, since nothing is chosen there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from actor.environments.contract import MASK, ContractViolation, described, mask_of, masks_of
from actor.environments.conversion import actions_of
from actor.spaces import Actions
from protocol.errors import SettingError

METHOD = "action_masks"
Convention = Literal["none", "info", "observation", "method"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)  # as a child process numbers them
Masks = NDArray[np.bool_]


class Masking(NamedTuple):
    """by: where masks are told; "info" of an environment that may tell none. certain: whether it must tell them."""

    actions: Actions
    by: Convention
    certain: bool


class MaskBook:
    """What B environments allow.

    shown: bool [B, L] (``Actions.logits``), of the observations that they showed last; None before a reset, and of
    environments that tell no masks. by: where they tell them.
    """

    def __init__(self, masking: Masking, count: int) -> None:
        self.shown: Masks | None = None
        self._masking, self._count = masking, count
        self._told = masking.certain  # after the first reset: whether they tell masks
        self._begun = False
        self._firsts = np.cumsum([0, *masking.actions.choices])[:-1]
        self._nothing = np.zeros(count, np.bool_)

    @property
    def actions(self) -> Actions | None:
        """What masks are about; None where nobody reads them."""
        return None if self._masking.by == "none" else self._masking.actions

    @property
    def by(self) -> Convention:
        """Where masks are told; "none" of environments that tell none."""
        return "none" if self.shown is None else self._masking.by

    def begin(self, info: object) -> None:
        """info: of a reset of all environments. Raises ContractViolation."""
        told = isinstance(info, Mapping) and MASK in info
        if not self._begun and self._masking.by != "none":
            self._begun, self._told = True, self._told or told
        if self._told:
            self.shown = self._read(info, self._nothing)

    def go_on(self, info: Mapping[str, Any], ended: Masks) -> None:
        """info: of a step. ended: bool [B] or [1], which rows show an episode's end. Raises ContractViolation."""
        if self._told:
            self.shown = self._read(info, ended)
        elif MASK in info and self._masking.by != "none":
            said = 'actor.action_mask = "none" does without masks'
            raise ContractViolation(f"info of a step has an {MASK}, and that of the first reset had none; {said}")

    def finals(self, info: Mapping[str, Any]) -> Masks | None:
        """What true successors allow, of a step that reset environments at once; of those that went on nothing.

        Raises ContractViolation.
        """
        if self.shown is None:
            return None
        last = info.get("final_info")
        if not isinstance(last, Mapping):  # an array of dicts, before Gymnasium 1.0
            found = [each if isinstance(each, Mapping) else {} for each in (last if last is not None else ())]
            last = {MASK: [each.get(MASK) for each in found], "_" + MASK: [MASK in each for each in found]}
            last = last if len(found) == self._count else {}
        return self._read(last, ~self._nothing)

    def _read(self, info: object, ended: Masks) -> Masks:
        told = info.get(MASK) if isinstance(info, Mapping) else None
        present = ~self._nothing if told is not None else self._nothing
        if isinstance(info, Mapping) and told is not None and "_" + MASK in info:
            present = np.asarray(info["_" + MASK], np.bool_)
        masks = masks_of(told, present, self._masking.actions)
        allows = np.logical_or.reduceat(masks, self._firsts, 1).all(1)
        if allows.all():
            return masks
        masks[ended & ~allows] = True
        for row in np.flatnonzero(~(allows | ended)).tolist():
            of_row = f" of row {row}" if self._count > 1 else ""
            if not present[row]:
                certain = self._masking.by == "info" and self._masking.certain
                asked = ", and actor.action_mask = 'info' says that it is there" if certain else ""
                raise ContractViolation(f"info{of_row} has no {MASK}{asked}")
            raise ContractViolation(f"the action mask{of_row} allows nothing, and its episode goes on")
        return masks


def batch_of_one(info: object, actions: Actions | None) -> dict[str, Masks]:
    """What a ``MaskBook`` of one environment reads. actions: the book's. Raises ContractViolation."""
    if actions is None or not isinstance(info, Mapping) or info.get(MASK) is None:
        return {}
    return {MASK: mask_of(info[MASK], actions)[None]}


def masked(env_id: str, env: Any, asked: str) -> tuple[Any, Masking]:
    """The environment with its masks in info. asked: the setting. Raises SettingError."""
    masking = _masking(env_id, env.observation_space, env.action_space, can_be_asked(env), asked)
    if masking.by == "observation":
        return ObservedMasks(env), masking
    return (CalledMasks(env) if masking.by == "method" else env), masking


def masked_vector(env_id: str, env: Any, asked: str) -> tuple[Any, Masking]:
    """Likewise, of a vector that is not made of single environments."""
    spaces = env.single_observation_space, env.single_action_space
    masking = _masking(env_id, *spaces, callable(getattr(env, METHOD, None)), asked)
    return (MaskedVector(env, masking) if masking.by in ("observation", "method") else env), masking


def can_be_asked(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether there is a method ``action_masks()``; something else of that name is none."""
    return env.has_wrapper_attr(METHOD) and callable(env.get_wrapper_attr(METHOD))


def told_by(
    env_id: str, observations: Space[Any], action_space: Space[Any], asked: str, *, has_method: bool
) -> tuple[Space[Any], Masking]:
    """What a network sees of observations of this space, and how an environment with these spaces tells masks.

    has_method: whether it has ``action_masks()``. Raises SettingError.
    """
    masking = _masking(env_id, observations, action_space, has_method, asked)
    if masking.by == "observation" and isinstance(observations, Dict):
        return _visible(observations), masking
    return observations, masking


def _masking(env_id: str, observations: Space[Any], action_space: Space[Any], has_method: bool, asked: str) -> Masking:
    """By the spaces and methods; only whether info tells masks is seen later, at the first reset."""
    actions = actions_of(env_id, action_space)
    if asked == "none" or (asked == "auto" and not actions.logits):
        return Masking(actions, "none", certain=False)
    if not actions.logits:
        raise SettingError("actor.action_mask", asked, f"actions of {env_id} hold no choice; none")
    shown = isinstance(observations, Dict) and MASK in observations.spaces
    if asked in ("auto", "observation") and isinstance(observations, Dict) and shown:
        _check_space(env_id, observations.spaces[MASK], actions, asked)
        if len(observations.spaces) == 1:
            raise SettingError("actor.action_mask", asked, f"nothing but the mask is in observations of {env_id}; none")
        return Masking(actions, "observation", certain=True)
    if asked == "observation":
        raise SettingError("actor.action_mask", asked, f"observations of {env_id} have no part {MASK}")
    if asked == "method" and not has_method:
        raise SettingError("actor.action_mask", asked, f"{env_id} has no method {METHOD}")
    if asked == "method" or (asked == "auto" and has_method):
        return Masking(actions, "method", certain=True)
    return Masking(actions, "info", certain=asked == "info")


def _check_space(env_id: str, space: Space[Any], actions: Actions, asked: str) -> None:
    numbers = _numbers(space)
    if numbers != actions.logits:
        have = f"the {MASK} in observations of {env_id} is {space}, and its actions have {actions.logits} values"
        raise SettingError("actor.action_mask", asked, f'{have}; "none" shows it to the network')


def _numbers(space: Space[Any]) -> int:
    """How many a mask of this space holds; -1 of one that can be none."""
    if isinstance(space, Dict | Tuple):
        found = [_numbers(part) for part in (space.spaces.values() if isinstance(space, Dict) else space.spaces)]
        return sum(found) if -1 not in found else -1
    return int(np.prod(space.shape)) if isinstance(space, Box | MultiBinary | MultiDiscrete) else -1


def _visible(space: Dict) -> Space[Any]:
    """What is left without the mask; a single part stands for itself, as an image does."""
    left = {name: part for name, part in space.spaces.items() if name != MASK}
    return next(iter(left.values())) if len(left) == 1 else Dict(left)


def _split(observation: Any, space: Dict) -> tuple[Any, Any]:
    """What is visible, and the mask; of one environment or of a batch. Raises ContractViolation."""
    if not isinstance(observation, Mapping) or not space.spaces.keys() <= observation.keys():
        raise ContractViolation(f"an observation is {described(observation)}, not a dict of {', '.join(space.spaces)}")
    left = {name: observation[name] for name in space.spaces if name != MASK}
    return (next(iter(left.values())) if len(left) == 1 else left), observation[MASK]


class ObservedMasks(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment whose observation holds the mask."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Dict)
        self._whole = env.observation_space
        self.observation_space = _visible(env.observation_space)

    def reset(self, **options: Any) -> Any:
        """Gymnasium's."""
        return self._without_mask(self.env.reset(**options), 2)

    def step(self, action: Any) -> Any:
        """Gymnasium's."""
        return self._without_mask(self.env.step(action), 5)

    def _without_mask(self, returned: Any, length: int) -> Any:
        if not isinstance(returned, tuple) or len(returned) != length:
            return returned  # who checks it says so
        observation, mask = _split(returned[0], self._whole)
        return observation, *returned[1:-1], {**_plain(returned[-1]), MASK: mask}


class CalledMasks(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment that is asked for its mask."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._ask = env.get_wrapper_attr(METHOD)

    def reset(self, **options: Any) -> Any:
        """Gymnasium's."""
        return self._with_mask(self.env.reset(**options), 2)

    def step(self, action: Any) -> Any:
        """Gymnasium's. Nobody chooses after an episode's last step, and many environments cannot be asked there: once
        it terminated it is not, and where it was truncated whatever it raises stands for no mask.
        """
        returned = self.env.step(action)
        if isinstance(returned, tuple) and len(returned) == 5:
            if returned[2]:
                return returned
            if returned[3]:
                with contextlib.suppress(Exception):
                    return self._with_mask(returned, 5)
                return returned
        return self._with_mask(returned, 5)

    def _with_mask(self, returned: Any, length: int) -> Any:
        if not isinstance(returned, tuple) or len(returned) != length:
            return returned
        return *returned[:-1], {**_plain(returned[-1]), MASK: self._ask()}


def _plain(info: Any) -> Mapping[str, Any]:
    return info if isinstance(info, Mapping) else {}


class MaskedVector:
    """A vector of environments whose observations hold masks, or that is asked for them."""

    def __init__(self, env: Any, masking: Masking) -> None:
        self._env, self._observed = env, masking.by == "observation"
        self.num_envs, self.metadata, self.single_action_space = env.num_envs, env.metadata, env.single_action_space
        self._whole = env.single_observation_space
        self.single_observation_space = _visible(self._whole) if self._observed else self._whole

    def reset(self, *, seed: int) -> Any:
        """Gymnasium's."""
        return self._told(self._env.reset(seed=seed), 2)

    def step(self, actions: Any) -> Any:
        """Gymnasium's."""
        return self._told(self._env.step(actions), 5)

    def _told(self, returned: Any, length: int) -> Any:
        if not isinstance(returned, tuple) or len(returned) != length:
            return returned
        info = dict(_plain(returned[-1]))
        if not self._observed:
            return *returned[:-1], {**info, MASK: self._env.action_masks()}
        observations, masks = _split(returned[0], self._whole)
        for key in ("final_obs", "final_observation"):
            if info.get(key) is not None:
                info[key], info["final_info"] = self._finals(info[key])
        return observations, *returned[1:-1], {**info, MASK: masks}

    def _finals(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        """True successors without their masks, and an info that holds these."""
        if isinstance(batch, Mapping):
            seen, masks = _split(batch, self._whole)
            return seen, {MASK: masks}
        rows = [None if row is None else _split(row, self._whole) for row in batch]
        left, told = np.full(len(rows), None, object), np.full(len(rows), None, object)
        for row, found in enumerate(rows):
            if found is not None:
                left[row], told[row] = found
        return left, {MASK: told, "_" + MASK: np.array([row is not None for row in rows])}

    def close(self) -> None:
        """Gymnasium's."""
        self._env.close()
