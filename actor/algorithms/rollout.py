"""Collects ``[T, B]`` steps with the present policy. Pure. Given simulators and a network; no clock, no wire, no loss.

The environments may be in several groups: while one group's simulators step, the policy looks at another's
observations. The arrays of a ``Rollout`` are views of buffers that the next ``collect`` overwrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.normalization import NORMAL_CLIP, Normalizer, ObservationTransform, columns_of
from actor.algorithms.novelty import Novelty
from actor.config import ActorSettings
from actor.environments.vector import Step, VectorEnv
from actor.networks.policy import Policy, State

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]
Final = tuple[int, NDArray[np.intp], NDArray[Any]]  # t, environments, and the true successors of their last rows
MomentSums = tuple[int, NDArray[np.float64], NDArray[np.float64]]


class ActionSampler(Protocol):
    """How outputs become actions; ``distributions.py`` and ``exploration.py`` have the ways."""

    def noise(self, generator: np.random.Generator, steps: int, count: int) -> Floats: ...
    def draw(self, outputs: Floats, noise: Floats, masks: Masks | None = None, /) -> NDArray[Any]: ...


@dataclass(slots=True)
class Rollout:
    """T steps of B environments; row t is about the transition that action t made.

    observations: [T + 1, B, *input_shape], as the policy saw them before action t; the last row comes next
    actions: [T, B, width], int64 or float32
    outputs: float32 [T + 1, B, K], of the network that chose
    values, next_values: float32 [T, B], V(s_t) and V of the true successor s_{t+1}; None without a value function
    rewards: float32 [T, B], received after action t, as settings have them learnt from
    terminated, truncated: bool [T, B], how the transition ended its episode, if it did
    valid: bool [T, B], False where the simulator only reset, or failed
    starts: bool [T, B], where observation t is the first of an episode
    state: float32 [B, S], what the memory held before row 0
    next_actions: int64 [B, width], drawn at the last row
    finals: true successors where an episode ended and its next row already belongs to another
    episodes: (raw return, length in steps) of those that finished
    env_steps: number of valid steps
    moments: (count, mean float64 [D], m2 float64 [D]) of what settings normalise, at valid steps
    masks: bool [T + 1, B, L], which logits might be chosen at each row (``Actions.logits``); None where all might
    final_masks: beside masks, of the finals in their order, bool [rows, L] each
    older: rows at the beginning in which older policies acted (``recent_rollouts.py``); counts leave them out
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    outputs: Floats
    values: Floats | None
    next_values: Floats | None
    rewards: Floats
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    starts: NDArray[np.bool_]
    state: State
    next_actions: NDArray[Any]
    finals: list[Final]
    episodes: list[tuple[float, int]]
    env_steps: int
    moments: MomentSums | None = None
    older: int = 0
    masks: Masks | None = None
    final_masks: list[Masks] = field(default_factory=list)


class Collector:
    """Steps the simulators with the policy, each rollout starting where the last one stopped.

    normalizer, return_scale: may be set between rollouts; used where settings ask for them. novelty: rewards what was
    seldom seen; None: nothing does.
    """

    def __init__(
        self,
        groups: Sequence[VectorEnv],
        policy: Policy,
        sampler: ActionSampler,
        settings: ActorSettings,
        seed: int,
        novelty: Novelty | None = None,
    ) -> None:
        self._transform = ObservationTransform(settings, policy)
        self._columns = columns_of(settings, groups[0].spaces)
        self.return_scale = 1.0
        self._novelty = novelty
        self._groups, self._policy, self._sampler, self._settings = groups, policy, sampler, settings
        self._generator = np.random.default_rng([seed, 1])  # simulators seed default_rng with the bare number
        ends = np.cumsum([group.count for group in groups]).tolist()
        self._rows = [slice(end - group.count, end) for group, end in zip(groups, ends, strict=True)]
        self._follows = settings.traits.needs_next_action  # its target needs the action that will be taken
        firsts = [group.reset(seed + rows.start) for group, rows in zip(groups, self._rows, strict=True)]
        self._masked = any(group.masks is not None for group in groups)
        self._final_masks: list[Masks] = []
        self._allocate(settings.rollout_steps, ends[-1])
        for group, rows, first in zip(groups, self._rows, firsts, strict=True):
            self._store_observation(-1, rows, first)
            self._store_masks(-1, rows, group)

    @property
    def normalizer(self) -> Normalizer | None:
        """What observations are normalised by; None before there are statistics."""
        return self._transform.normalizer

    @normalizer.setter
    def normalizer(self, normalizer: Normalizer | None) -> None:
        self._transform.normalizer = normalizer

    def _allocate(self, steps: int, count: int) -> None:
        spaces, settings = self._groups[0].spaces, self._settings
        shape = (steps + 1, count, *self._policy.input_shape)
        self._observations = np.zeros(shape, spaces.observation_type)
        self._raw = self._observations if self._transform.plain else np.zeros_like(self._observations)
        chosen = np.float32 if spaces.actions.low else np.int64
        self._actions = np.zeros((steps, count, spaces.actions.width), chosen)
        self._next_actions = np.zeros_like(self._actions[0])
        masks = (steps + 1, count, spaces.actions.logits)
        self._masks = np.ones(masks, np.bool_) if self._masked else None
        self._outputs = np.zeros((steps + 1, count, self._policy.outputs), np.float32)
        self._values = np.zeros((steps + 1, count), np.float32)
        self._next_values = np.zeros((steps, count), np.float32)
        self._rewards = np.zeros((steps, count), np.float32)
        self._terminated = np.zeros((steps, count), np.bool_)
        self._truncated = np.zeros((steps, count), np.bool_)
        self._valid = np.ones((steps, count), np.bool_)
        self._starts = np.zeros((steps + 1, count), np.bool_)
        self._starts[-1] = True
        self._state = np.zeros((count, self._policy.state_size), np.float32)
        self._begun = False  # whether next_actions were drawn
        self._discounted = np.zeros(count, np.float32)  # running discounted return of each episode, raw
        self._returns = np.zeros((steps, count if settings.normalize_returns else 0), np.float32)

    def change(self, settings: ActorSettings, sampler: ActionSampler, novelty: Novelty | None) -> None:
        """Other settings of rewards and another sampler from the next rollout on; episodes go on."""
        self._settings, self._sampler, self._novelty = settings, sampler, novelty

    def set_length(self, steps: int) -> None:
        """T of the rollouts from now on; episodes go on."""
        if steps == len(self._actions):
            return
        shown, started = self._raw[-1], self._starts[-1]
        allowed = None if self._masks is None else self._masks[-1]
        state, begun, following, discounted = self._state, self._begun, self._next_actions, self._discounted
        self._allocate(steps, self._actions.shape[1])
        self._raw[-1], self._starts[-1] = shown, started
        if self._masks is not None and allowed is not None:
            self._masks[-1] = allowed
        self._state, self._begun, self._discounted = state, begun, discounted
        self._next_actions[...] = following

    def collect(self) -> Rollout:
        """The next T steps of every environment."""
        self._raw[0], self._starts[0] = self._raw[-1], self._starts[-1]
        if self._masks is not None:
            self._masks[0], self._final_masks = self._masks[-1], []
        self._policy.weights_changed()
        noise = self._sampler.noise(self._generator, len(self._actions) + 1, self._actions.shape[1])
        state = self._state.copy()
        finals: list[Final] = []
        episodes: list[tuple[float, int]] = []
        for group, rows in zip(self._groups, self._rows, strict=True):
            self._act(0, group, rows, noise)
        for t in range(len(self._actions)):
            for group, rows in zip(self._groups, self._rows, strict=True):
                step = group.receive()
                self._store(t, rows, step, finals)
                self._store_masks(t + 1, rows, group)
                episodes += step.episodes
                if t + 1 < len(self._actions):
                    self._act(t + 1, group, rows, noise)
        self._act_on_last_row(noise[-1])
        return self._finish(state, finals, episodes)

    def _act(self, t: int, group: VectorEnv, rows: slice, noise: Floats) -> None:
        """The policy sees row t of one group and its simulators begin to step."""
        self._transform_row(t, rows)
        state = self._state[rows]
        if self._policy.state_size:
            state[self._starts[t, rows]] = 0.0
        outputs, values = self._policy.act(self._observations[t, rows], state)
        self._outputs[t, rows] = outputs
        if values is not None:
            self._values[t, rows] = values
        if t == 0 and self._begun:
            self._actions[0, rows] = self._next_actions[rows]
        else:
            self._actions[t, rows] = self._draw(t, rows, outputs, noise[t, rows])
        group.send(self._actions[t, rows])

    def _store(self, t: int, rows: slice, step: Step, finals: list[Final]) -> None:
        """What one group's simulators answered."""
        self._store_observation(t + 1, rows, step.observations)
        self._rewards[t, rows] = step.rewards
        self._terminated[t, rows] = step.terminated
        self._truncated[t, rows] = step.truncated
        self._valid[t, rows] = step.valid
        self._starts[t + 1, rows] = step.starts
        if step.final_observations is not None:
            done = np.flatnonzero(step.terminated | step.truncated)
            if len(done):
                self._end(t, rows, done, step.final_observations[done], finals)
                if self._masks is not None:
                    all_allowed = np.ones((len(done), self._masks.shape[2]), np.bool_)
                    self._final_masks.append(all_allowed if step.final_masks is None else step.final_masks[done])

    def _end(self, t: int, rows: slice, done: NDArray[np.intp], seen: NDArray[Any], finals: list[Final]) -> None:
        """The last observations of episodes whose next row belongs to another one."""
        seen = self._transform(seen)
        finals.append((t, done + rows.start, seen))
        if self._policy.has_values:
            self._next_values[t, rows][done] = self._policy.values(seen, self._state[rows][done])

    def _act_on_last_row(self, noise: Floats) -> None:
        """Row T: what the last transition is bootstrapped from, and the action that Sarsa will take there."""
        every = slice(None)
        self._transform_row(-1, every)
        if not (self._follows or self._policy.values_while_acting):
            return
        state = self._state.copy()
        if self._policy.state_size:
            state[self._starts[-1]] = 0.0
        outputs, values = self._policy.act(self._observations[-1], state)
        self._outputs[-1] = outputs
        if values is not None:
            self._values[-1] = values
        if self._follows:
            self._next_actions[...], self._begun = self._draw(-1, every, outputs, noise), True

    def _draw(self, t: int, rows: slice, outputs: Floats, noise: Floats) -> NDArray[Any]:
        if self._masks is None:
            return self._sampler.draw(outputs, noise)
        return self._sampler.draw(outputs, noise, self._masks[t, rows])

    def _store_observation(self, t: int, rows: slice, shown: NDArray[Any]) -> None:
        """What the simulators show, before the policy needs to see it."""
        self._raw[t, rows] = self._transform(shown) if self._transform.plain else shown

    def _store_masks(self, t: int, rows: slice, group: VectorEnv) -> None:
        if self._masks is not None and group.masks is not None:
            self._masks[t, rows] = group.masks

    def _transform_row(self, t: int, rows: slice) -> None:
        if not self._transform.plain:
            self._observations[t, rows] = self._transform(self._raw[t, rows])

    def _finish(self, state: State, finals: list[Final], episodes: list[tuple[float, int]]) -> Rollout:
        has_values = self._policy.has_values
        if has_values:
            self._bootstrap(finals)
        moments = self._moments()
        return Rollout(
            observations=self._observations,
            actions=self._actions,
            outputs=self._outputs,
            values=self._values[:-1] if has_values else None,
            next_values=self._next_values if has_values else None,
            rewards=self._learnt_rewards(),
            terminated=self._terminated,
            truncated=self._truncated,
            valid=self._valid,
            starts=self._starts[:-1],
            state=state,
            next_actions=self._next_actions,
            finals=finals,
            episodes=episodes,
            env_steps=int(np.count_nonzero(self._valid)),
            moments=moments,
            masks=self._masks,
            final_masks=self._final_masks,
        )

    def _bootstrap(self, finals: list[Final]) -> None:
        """values of all rows, where acting did not give them, and of every true successor."""
        if not self._policy.values_while_acting:
            flat = self._observations.reshape(-1, *self._observations.shape[2:])
            empty = np.zeros((len(flat), 0), np.float32)
            self._values[...] = self._policy.values(flat, empty).reshape(self._values.shape)
        ended = [(t, rows, self._next_values[t, rows].copy()) for t, rows, _ in finals]
        self._next_values[...] = self._values[1:]
        for t, rows, values in ended:
            self._next_values[t, rows] = values

    def _learnt_rewards(self) -> Floats:
        settings = self._settings
        rewards = self._rewards
        if settings.reward_clip is not None:
            rewards = np.clip(rewards, -settings.reward_clip, settings.reward_clip)
        rewards = rewards * np.float32(settings.reward_scale)
        if settings.normalize_returns:
            np.clip(rewards * np.float32(self.return_scale), -NORMAL_CLIP, NORMAL_CLIP, out=rewards)
        if self._novelty is not None:
            goes_on = self._valid & ~(self._terminated | self._truncated)
            rewards = rewards + self._novelty.bonuses(self._observations[1:], goes_on)
        return rewards

    def _moments(self) -> MomentSums | None:
        """Of raw observations, then of the running discounted return of rewards, over valid rows."""
        settings = self._settings
        count = int(np.count_nonzero(self._valid))
        sums = []
        if settings.normalize_observations:
            sums.append(_of_pixels(self._raw[0], count) if self._policy.sees_bytes else _of_rows(self._numbers()))
        if settings.normalize_returns:
            sums.append(_of_rows(self._running_returns()[self._valid][:, None]))
        if not sums:
            return None
        return count, np.concatenate([mean for mean, _ in sums]), np.concatenate([m2 for _, m2 in sums])

    def _numbers(self) -> Floats:
        """Raw numbers that have statistics of their own, float32 [N, D] of the valid rows."""
        rows: Floats = self._raw[:-1][self._valid]
        return rows if self._columns is None else rows[:, self._columns]

    def _running_returns(self) -> Floats:
        """G_t = r_t + γ G_{t-1} in each episode, float32 [T, B]; rewards as clipped and scaled, not normalised."""
        rewards = (
            self._rewards
            if self._settings.reward_clip is None
            else np.clip(self._rewards, -self._settings.reward_clip, self._settings.reward_clip)
        )
        gamma, running = np.float32(self._settings.discount), self._discounted
        for t, reward in enumerate(rewards * np.float32(self._settings.reward_scale)):
            running[self._starts[t]] = 0.0
            running *= gamma
            running += reward
            self._returns[t] = running
        return self._returns


def _of_rows(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """mean and m2, float64 [D], of rows [N, D]; zeros where there is none."""
    if not len(rows):
        return np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    numbers = rows.astype(np.float64)
    mean = numbers.mean(0)
    return mean, np.square(numbers - mean).sum(0)


def _of_pixels(images: NDArray[np.uint8], rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """mean and m2, float64 [1], as ``rows`` steps would have them whose pixels are spread as those of ``images``.

    One image of each environment is enough of a sample, and looking at all of them would cost as much as acting.
    """
    counts = np.bincount(images.reshape(-1), minlength=256).astype(np.float64)
    levels = np.arange(256.0)
    mean = counts @ levels / counts.sum()
    return np.array([mean]), np.array([rows * (counts @ np.square(levels - mean)) / counts.sum()])
