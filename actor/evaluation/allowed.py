"""Masks of actions as programs tell them: beside an observation, or within it. Pure. Knows spaces; no environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.environments.contract import MASK, ContractViolation, mask_of, masks_of
from actor.environments.masks import Convention
from actor.spaces import Actions
from protocol.errors import UserError

Masks = NDArray[np.bool_]
TELLING = {"info": f'info["{MASK}"]', "method": "env.action_masks()"}


class MaskReader:
    """The masks of one environment's actions. space: of its observations; a Dict where they hold masks. by: where it
    tells them.
    """

    def __init__(self, env: str, space: Any, actions: Actions, by: Convention) -> None:
        self._env, self._actions, self._by = env, actions, by
        self._names = list(space.spaces) if by == "observation" else None
        self._firsts = np.cumsum([0, *actions.choices])[:-1]

    def apart(self, observation: Any, given: bool) -> tuple[Any, Any]:
        """What the network sees of an observation, and the mask that it holds, or None.

        given: whether a mask is told beside it, so that it need not hold one. Raises UserError.
        """
        if self._names is None:
            return observation, None
        needed = [name for name in self._names if not given or name != MASK]
        lacks = [name for name in needed if not isinstance(observation, Mapping) or name not in observation]
        if lacks:
            keys = ", ".join(map(repr, needed))
            raise UserError(f"observation must be a dict with {keys}, and it has no {', '.join(map(repr, lacks))}")
        left = {name: observation[name] for name in needed if name != MASK}
        seen = next(iter(left.values())) if len(left) == 1 else left
        return seen, None if given else observation[MASK]

    def within(self, told: Any, count: int, batch: bool) -> Masks:
        """Of masks that observations held, with ``batch`` as Gymnasium's vectors have them. bool [count, L]. Raises
        UserError as ``beside`` does.
        """
        return self.beside(_rows(told, count, f"observation[{MASK!r}]") if batch else told, count, batch)

    def beside(self, told: Any, count: int, batch: bool) -> Masks:
        """Of masks that were told beside observations, bool [count, L]; with ``batch`` count of them.

        Raises UserError for masks that do not fit, and for one that allows nothing.
        """
        actions = self._actions
        if not actions.choices:
            raise UserError(f"a mask says which choices are allowed, and actions of {self._env} hold none")
        if batch and isinstance(told, Mapping):
            told = _rows(told, count, "mask")
        elif batch and (found := count_of(told)) != count:
            raise UserError(f"these are {found} action masks for {count} observations; batch=True takes one for each")
        try:
            masks = masks_of(told, np.ones(count, np.bool_), actions) if batch else mask_of(told, actions)[None]
        except ContractViolation as error:
            raise UserError(str(error)) from None
        self._check(masks, batch)
        return masks

    def none(self) -> None:
        """Nobody told a mask. Raises UserError where the environment is known to tell them."""
        if telling := TELLING.get(self._by):
            known = f"{self._env} tells which actions it allows"
            raise UserError(f"{known}, and no mask was given; give mask={telling}, or ones to allow all")

    def _check(self, masks: Masks, batch: bool) -> None:
        allows = np.logical_or.reduceat(masks, self._firsts, 1)
        if allows.all():
            return
        row, choice = (int(places[0]) for places in np.nonzero(~allows))
        size = self._actions.choices[choice]
        what = f"any of the {size} values of choice {choice}" if len(self._firsts) > 1 else f"any of the {size} actions"
        of_row = f" of row {row}" if batch else ""
        ended = "; after the end of an episode let it allow all, since nothing is chosen there" if batch else ""
        raise UserError(f"the action mask{of_row} does not allow {what}{ended}")


def _rows(told: Any, count: int, name: str) -> list[Any]:
    """A batch of masks in whatever structure of dicts and tuples, one after the other. name: of it, for UserError."""
    try:
        return [_row(told, row) for row in range(count)]
    except (IndexError, KeyError, TypeError):
        raise UserError(f"{name} must hold {count} masks in each of its arrays, and one holds less") from None


def _row(told: Any, row: int) -> Any:
    """One of a batch of masks."""
    if isinstance(told, Mapping):
        return {name: _row(part, row) for name, part in told.items()}
    return tuple(_row(part, row) for part in told) if isinstance(told, tuple) else told[row]


def count_of(masks: Any) -> int:
    """How many masks a batch of them holds; 0 of what is none."""
    while isinstance(masks, Mapping) and masks:
        masks = next(iter(masks.values()))
    try:
        return 0 if isinstance(masks, str) else len(masks)
    except TypeError:
        return 0
