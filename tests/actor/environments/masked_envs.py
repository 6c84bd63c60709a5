"""A game whose illegal moves raise, told by each convention, and the process that serves it. Knows Gymnasium.

Run as a script it is what ``actor.environments.child_main`` is, with this game.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.environments.child_main import Environment, main

FACES = Box(0, 1, (2,), np.float32)
LENGTH = 10


class Strict(gymnasium.Env[Any, Any]):
    """Ten moves of four, two of them legal: low (0 or 1) and high (2 or 3), as the observation shows. High ones pay 1.

    by: how legal moves are told: info, observation, method, or none. parts: a second choice, of three, one illegal at a
    time, as MultiDiscrete or Dict. ends: whether the last move ends the game or cuts it. blank: masks that allow
    nothing where it ended. moves: those that were made, in all games.
    """

    def __init__(
        self, by: str = "info", parts: str = "", ends: bool = False, blank: bool = False, names: bool = False
    ) -> None:
        self.by, self.parts, self.ends, self.blank, self.names = by, parts, ends, blank, names
        self.moves: list[Any] = []
        self.action_space: Space[Any] = Discrete(4)
        if parts == "multi_discrete":
            self.action_space = MultiDiscrete([4, 3])
        elif parts == "dict":
            self.action_space = Dict({"aim": Box(-1, 1, (1,)), "move": Discrete(4), "side": Tuple((Discrete(3),))})
        logits = 7 if parts else 4
        if by == "method":
            self.action_masks = self._mask
        self.observation_space: Space[Any] = (
            Dict({"faces": FACES, "action_mask": MultiBinary(logits)}) if by == "observation" else FACES
        )
        self.taken, self.low, self.high = 0, 0, 2

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.taken = 0
        self._turn()
        return self._seen(), self._info()

    def step(self, action: Any) -> Any:
        move = action
        if self.parts == "multi_discrete":
            move, side = action
        elif self.parts == "dict":
            assert self.action_space.contains(action)
            move, (side,) = action["move"], action["side"]
        if self.parts and side == self.taken % 3:
            raise ValueError(f"illegal side {side}")
        if move not in (self.low, self.high):
            raise ValueError(f"illegal move {move}")
        self.moves.append(int(move))
        self.taken += 1
        over, paid = self.taken == LENGTH, float(move >= 2)
        self._turn()
        return self._seen(), paid, over and self.ends, over and not self.ends, self._info()

    def _turn(self) -> None:
        self.low, self.high = int(self.np_random.integers(2)), 2 + int(self.np_random.integers(2))

    def _mask(self) -> Any:
        first = [int(move in (self.low, self.high)) for move in range(4)]
        second = [int(side != self.taken % 3) for side in range(3)] if self.parts else []
        if self.blank and self.taken == LENGTH:
            return np.zeros(len(first + second), np.int8)
        if self.names:
            return {"move": np.array(first), "side": (second,)} if self.parts == "dict" else (first, np.array(second))
        return np.array(first + second, np.int8)

    def _seen(self) -> Any:
        faces = np.array([self.low, self.high - 2], np.float32)
        return {"faces": faces, "action_mask": self._mask()} if self.by == "observation" else faces

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self._mask()} if self.by == "info" else {}


class Lenient(Strict):
    """The same game with two moves, of which each is legal: 0 is the low one, 1 the high one."""

    def __init__(self) -> None:
        super().__init__("none")
        self.action_space = Discrete(2)

    def step(self, action: Any) -> Any:
        return super().step(self.high if action else self.low)


class Silent(Strict):
    """Has a method as well, which nobody may ask."""

    def action_masks(self) -> Any:
        raise AssertionError


class Tidy(Strict):
    """Knows no moves of a game that is over, as most games with a list of moves do."""

    def __init__(self, ends: bool) -> None:
        super().__init__("method", ends=ends)
        moves = self._mask

        def asked() -> Any:
            if self.taken == LENGTH:
                raise IndexError("the game is over")
            return moves()

        self.action_masks = asked


class Counting(Lenient):
    """Has something else of the method's name."""

    def __init__(self) -> None:
        super().__init__()
        self.action_masks: Any = np.ones(2)

    def _info(self) -> dict[str, Any]:
        return {"action_mask": None}


class Misfit(Lenient):
    """Two moves, and a mask of four."""

    def __init__(self) -> None:
        super().__init__()
        self.by, self.observation_space = "observation", Dict({"faces": FACES, "action_mask": MultiBinary(4)})


class Faulty(Strict):
    """What info says of the mask after so many moves is what it is asked for; None: nothing."""

    def __init__(self, told: Any, when: int = 1) -> None:
        super().__init__()
        self.told, self.when = told, when

    def _info(self) -> dict[str, Any]:
        if self.taken != self.when:
            return super()._info()
        return {} if self.told is None else {"action_mask": np.array(self.told)}


class Together(SyncVectorEnv):
    """A vector with masks of its own: what single environments say, as arrays, and by its own method."""

    def __init__(self, num_envs: int, by: str = "info", same_step: bool = False, **options: Any) -> None:
        mode = AutoresetMode.SAME_STEP if same_step else AutoresetMode.NEXT_STEP
        super().__init__([lambda: Strict(by, **options)] * num_envs, copy=False, autoreset_mode=mode)
        if by == "method":
            self.action_masks = lambda: np.stack(self.call("action_masks"))


GAMES: dict[str, Any] = {
    "Strict": Strict,
    "Lenient": Lenient,
    "Faulty": Faulty,
    "Misfit": Misfit,
    "Tidy": Tidy,
    "Counting": Counting,
    "Silent": Silent,
}
for _name, _game in GAMES.items():
    gymnasium.register(f"{_name}-v0", entry_point=_game)
_together: Any = Together
gymnasium.register("Together-v0", entry_point=GAMES["Strict"], vector_entry_point=_together)


def _make(env_id: str, env_options: dict[str, Any], allowed_modules: frozenset[str]) -> Environment:
    return gymnasium.make(env_id, **env_options)


if __name__ == "__main__":
    main(_make)
