"""Plays with a policy as it stands: no chance, no learning. Knows simulators and networks; no files, no wire.

Each environment contributes a fixed number of episodes: were the first N to end counted, short ones would be counted
too often. An episode that the policy never ends is cut, and counts too: without it the mean would be of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.distributions import distribution
from actor.algorithms.normalization import ObservationTransform, normalization
from actor.config import ActorSettings
from actor.environments.vector import Step, VectorEnv
from actor.networks.build import build_policy
from actor.networks.policy import Policy
from actor.spaces import Spaces, resolved
from protocol.errors import UserError
from protocol.layout import Layout
from protocol.moments import Moments

STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # two-sided t, 1 to 10 degrees

Act = Callable[[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_] | None], NDArray[Any]]  # as Player.act


class Player:
    """The best action of a run's policy, for observations as its training saw them.

    Of a distribution that is its most probable action, of action values the one with the highest. ``load`` comes first,
    ``reset_memory`` before each sequence of observations. allowed_modules: as of ``build_policy``. Raises
    UserError where ``layout`` is another network's.
    """

    def __init__(
        self, settings: ActorSettings, spaces: Spaces, layout: Layout, allowed_modules: frozenset[str] = frozenset()
    ) -> None:
        settings = resolved(settings, spaces)
        self._settings, self._spaces = settings, spaces
        self._policy, self._flat = build_policy(settings, spaces, 0, allowed_modules)
        if self._flat.layout().digest != layout.digest:
            raise UserError("the run's network is not the one that this version builds for its environment")
        self._distribution = distribution(spaces.actions)
        self._transform = ObservationTransform(settings, self._policy)
        self._state = np.zeros((0, self._policy.state_size), np.float32)

    def load(self, theta: NDArray[np.float32], moments: Moments | None) -> None:
        """theta: float32 [P]. moments: of what the run normalises, as in ``Weights``. Raises UserError for
        another length.
        """
        if theta.shape != (length := self._flat.layout().length,):
            raise UserError(f"the run's network has {length} parameters, and these are {theta.size}")
        self._flat.load(theta)
        self._policy.weights_changed()
        self._transform.normalizer = None
        if moments is not None and moments.count > 1:
            self._transform.normalizer, _ = normalization(self._settings, self._spaces, moments)

    def reset_memory(self, count: int) -> None:
        """Forgets what the memory holds; from now on ``count`` environments are played."""
        self._state = np.zeros((count, self._policy.state_size), np.float32)

    def act(
        self, observations: NDArray[Any], starts: NDArray[np.bool_], masks: NDArray[np.bool_] | None = None
    ) -> NDArray[Any]:
        """observations: [B, *shape], raw. starts: bool [B], the first of an episode. masks: bool [B, L], as
        ``VectorEnv`` has them. Returns actions [B, width].
        """
        return self.best(self.outputs(observations, starts), masks)

    def outputs(
        self, observations: NDArray[Any], starts: NDArray[np.bool_], *, remember: bool = True
    ) -> NDArray[np.float32]:
        """The network's outputs, float32 [B, K]. remember: whether the memory moves on, as with ``act``."""
        state = self._state if remember else self._state.copy()
        if self._policy.state_size:
            state[starts] = 0.0
        outputs: NDArray[np.float32] = self._policy.act(self._transform(observations), state)[0]
        return outputs

    def best(self, outputs: NDArray[np.float32], masks: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """The best action of each row, [B, width]. masks: as of ``act``."""
        return self._distribution.best(outputs, masks)

    def draw(
        self,
        outputs: NDArray[np.float32],
        generator: np.random.Generator,
        masks: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """An action of each row's distribution, [B, width]; of action values there is none. masks: as of ``act``."""
        return self._distribution.draw(outputs, self._distribution.noise(generator, 1, len(outputs))[0], masks)

    @property
    def network(self) -> Policy:
        """The network, with the weights that were loaded and what it makes of pixels."""
        return self._policy

    @property
    def transform(self) -> ObservationTransform:
        """What the network is shown of an observation."""
        return self._transform

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the network's parameters by their names in the layout."""
        theta = self._flat.theta.copy()
        layout = self._flat.layout()
        runs = layout.slices()
        return {entry.name: theta[runs[entry.name]].reshape(entry.shape) for entry in layout.entries}


@dataclass(frozen=True, slots=True)
class Score:
    """Undiscounted raw returns of ``episodes`` episodes. ci95: half the width of the mean's 95 % interval.

    cut: how many of them were stopped at the step limit, and count with the return that they had. stochastic: actions
    were drawn.
    """

    env: str
    version: int
    episodes: int
    mean: float
    std: float  # of the sample, n - 1
    ci95: float
    min: float
    max: float
    length_mean: float  # steps
    seed: int  # of the environments' first episodes
    cut: int = 0
    stochastic: bool = False

    def __str__(self) -> str:
        more = "  actions drawn" if self.stochastic else ""
        more += f"  {self.cut} cut at the step limit" if self.cut else ""
        return (
            f"{self.env}  {self.episodes} episodes  mean {self.mean:.2f} ± {self.ci95:.2f} (95 %)  "
            f"std {self.std:.2f}  min {self.min:.2f}  max {self.max:.2f}  "
            f"length {self.length_mean:.1f}  version {self.version}{more}"
        )


class Played(NamedTuple):
    """episodes: (return, length) of each, in the order of their ends. cut: how many of them were stopped."""

    episodes: list[tuple[float, int]]
    cut: int


def play(
    simulators: VectorEnv,
    act: Act,
    quota: NDArray[np.int64],
    seed: int,
    max_steps: int,
    on_step: Callable[[int], None] = lambda _: None,
) -> Played:
    """Each environment's first episodes. quota: int64 [B], how many of each. max_steps: where an episode is cut, >= 1.

    One environment alone cannot be begun anew: one whose episode was cut waits until the others have played theirs or
    were cut too, and then all begin again, from seeds that none had. on_step: called after each step with how many
    environments took it; what it raises ends the game.
    """
    left, played, cut = quota.copy(), list[tuple[float, int]](), 0
    while left.any():
        overlong = _play_on(simulators, act, left, seed, max_steps, on_step, played)
        left -= overlong
        cut += int(np.count_nonzero(overlong))
        seed += simulators.count
    return Played(played, cut)


def _play_on(
    simulators: VectorEnv,
    act: Act,
    left: NDArray[np.int64],
    seed: int,
    max_steps: int,
    on_step: Callable[[int], None],
    played: list[tuple[float, int]],
) -> NDArray[np.bool_]:
    """From a reset until each environment has none left to play, or was cut. Returns bool [B]: which were."""
    cut = np.zeros(simulators.count, np.bool_)
    observations, starts = simulators.reset(seed), np.ones(simulators.count, np.bool_)
    while (left[~cut] > 0).any():
        step = simulators.step(act(observations, starts, simulators.masks))
        for row, episode in _ended(step):
            if left[row] and not cut[row]:
                left[row] -= 1
                played.append(episode)
        returns, lengths = simulators.unfinished()
        for row in np.flatnonzero((lengths >= max_steps) & (left > 0) & ~cut).tolist():
            cut[row] = True
            played.append((float(returns[row]), int(lengths[row])))
        observations, starts = step.observations, step.starts
        on_step(int(np.count_nonzero(step.valid)))
    return cut


def _ended(step: Step) -> Iterable[tuple[int, tuple[float, int]]]:
    """(environment, episode) of this step's finished episodes, which are listed in the order of environments."""
    return zip(step.rows.tolist(), step.episodes, strict=True)


def quotas(episodes: int, environments: int) -> NDArray[np.int64]:
    """int64 [B] that sums to ``episodes``, as even as can be."""
    each, more = divmod(episodes, environments)
    return np.array([each + (row < more) for row in range(environments)], np.int64)


def summary(
    env: str, version: int, finished: list[tuple[float, int]], seed: int, cut: int = 0, *, stochastic: bool = False
) -> Score:
    """The statistics of at least one episode; with a single one the spread is 0 and the interval infinite."""
    returns = np.array([score for score, _ in finished], np.float64)
    n = len(returns)
    std = float(returns.std(ddof=1)) if n > 1 else 0.0
    quantile = STUDENT_95[n - 2] if 1 < n <= len(STUDENT_95) + 1 else 1.96 + 2.5 / max(n - 1, 1)
    return Score(
        env=env,
        version=version,
        episodes=n,
        mean=float(returns.mean()),
        std=std,
        ci95=quantile * std / math.sqrt(n) if n > 1 else math.inf,
        min=float(returns.min()),
        max=float(returns.max()),
        length_mean=float(np.mean([length for _, length in finished])),
        seed=seed,
        cut=cut,
        stochastic=stochastic,
    )
