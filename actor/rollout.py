"""Collects ``[T, B]`` steps with the present policy. Given simulators and a network; no clock, no wire, no loss.

Acting needs the policy's trunk alone; its logits are kept, and the values of all T + 1 rows are one batch at the end,
at the same weights, in numpy. The arrays of a ``Rollout`` are views of buffers that the next ``collect`` overwrites.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actor.config import ActorSettings
from actor.envs import Simulators, Spaces, Step
from actor.policy import ActorCritic, log_softmax

Final = tuple[int, NDArray[np.float32]]  # a row's t and its final_observations
Moments = tuple[int, NDArray[np.float64], NDArray[np.float64]]
OBSERVATION_CLIP = 10.0  # standard deviations; what lies further out is a glitch, and would own the gradient


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Observations are seen as clip((observation - mean) * scale). mean, scale: float32 [D]; scale is 1 / deviation."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    def apply(self, raw: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """raw, out: float32 [..., D]."""
        np.subtract(raw, self.mean, out=out)
        np.multiply(out, self.scale, out=out)
        np.maximum(out, -OBSERVATION_CLIP, out=out)
        np.minimum(out, OBSERVATION_CLIP, out=out)


@dataclass(slots=True)
class Rollout:
    """T steps of B environments; row t is about the transition that action t made.

    observations: float32 [T, B, D], seen before action t, normalised where settings ask
    actions: int64 [T, B], 0 <= action < A
    log_probs: float32 [T, B], log π(action t | observation t) at the weights that chose it
    values: float32 [T, B], V(s_t)
    next_values: float32 [T, B], V of the true successor s_{t+1}, terminal ones included
    rewards: float32 [T, B], received after action t, times settings.reward_scale
    terminated, truncated: bool [T, B], how the transition ended its episode, if it did
    valid: bool [T, B], False where the simulator only reset
    episodes: (raw return, length in steps) of those that finished
    env_steps: number of valid steps
    moments: (count, mean float64 [D], m2 float64 [D]) of raw observations at valid steps, where settings normalise
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    values: NDArray[np.float32]
    next_values: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    episodes: list[tuple[float, int]]
    env_steps: int
    moments: Moments | None = None


class Collector:
    """Steps the simulators with the policy, each rollout starting where the last one stopped.

    normalizer: may be set between rollouts; read only where settings.normalize_observations.
    """

    def __init__(self, simulators: Simulators, policy: ActorCritic, settings: ActorSettings, seed: int) -> None:
        self.normalizer: Normalizer | None = None
        self._simulators, self._policy, self._settings = simulators, policy, settings
        self._generator = np.random.default_rng([seed, 1])  # simulators seed default_rng with the bare number
        self._allocate(settings.rollout_steps, simulators.count, simulators.spaces)
        self._raw[-1] = simulators.reset(seed)

    def _allocate(self, steps: int, count: int, spaces: Spaces) -> None:
        self._observations = np.zeros((steps + 1, count, spaces.observation_size), np.float32)
        self._raw = np.zeros_like(self._observations) if self._settings.normalize_observations else self._observations
        self._actions = np.zeros((steps, count), np.int64)
        self._logits = np.zeros((steps, count, spaces.actions), np.float32)
        self._rewards = np.zeros((steps, count), np.float32)
        self._terminated = np.zeros((steps, count), np.bool_)
        self._truncated = np.zeros((steps, count), np.bool_)
        self._valid = np.ones((steps, count), np.bool_)

    def collect(self) -> Rollout:
        """The next T steps of every environment."""
        self._raw[0] = self._raw[-1]
        self._see(0)
        policy, noise = self._policy.policy_function(), self._gumbel()
        finals: list[Final] = []
        episodes: list[tuple[float, int]] = []
        for t, actions in enumerate(self._actions):
            self._logits[t] = logits = policy(self._observations[t])
            logits += noise[t]
            logits.argmax(1, out=actions)
            step = self._simulators.step(actions)
            self._store(t, step)
            if step.episodes:
                episodes += step.episodes
            if step.final_observations is not None:
                finals.append((t, step.final_observations))
        return self._finish(finals, episodes)

    def _gumbel(self) -> NDArray[np.float32]:
        """Standard Gumbel noise [T, B, A]: the argmax of logits + noise is a sample of their softmax."""
        noise = self._generator.standard_exponential(self._logits.shape, np.float32)
        np.log(np.maximum(noise, np.finfo(np.float32).tiny, out=noise), out=noise)
        return np.negative(noise, out=noise)

    def _store(self, t: int, step: Step) -> None:
        self._raw[t + 1] = step.observations
        self._see(t + 1)
        self._rewards[t] = step.rewards
        self._terminated[t] = step.terminated
        self._truncated[t] = step.truncated
        self._valid[t] = step.valid

    def _see(self, t: int) -> None:
        if self._raw is not self._observations:
            self._normalize(self._raw[t], self._observations[t])

    def _normalize(self, raw: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        if self.normalizer is None or not self._settings.normalize_observations:
            out[...] = raw
        else:
            self.normalizer.apply(raw, out)

    def _finish(self, finals: list[Final], episodes: list[tuple[float, int]]) -> Rollout:
        flat = self._observations.reshape(-1, self._observations.shape[2])
        values = self._policy.value_function()(flat).reshape(len(self._observations), -1)
        return Rollout(
            observations=self._observations[:-1],
            actions=self._actions,
            log_probs=np.take_along_axis(log_softmax(self._logits), self._actions[..., None], 2)[..., 0],
            values=values[:-1],
            next_values=self._next_values(values[1:], finals),
            rewards=self._rewards * np.float32(self._settings.reward_scale),
            terminated=self._terminated,
            truncated=self._truncated,
            valid=self._valid,
            episodes=episodes,
            env_steps=int(np.count_nonzero(self._valid)),
            moments=self._moments() if self._settings.normalize_observations else None,
        )

    def _next_values(self, following: NDArray[np.float32], finals: list[Final]) -> NDArray[np.float32]:
        """following: float32 [T, B], V of the next row; true except where an episode ended in same-step mode."""
        if not finals:
            return following
        following = following.copy()  # it shares memory with the values
        value = self._policy.value_function()
        for t, observations in finals:
            seen = np.empty_like(observations)
            self._normalize(observations, seen)
            done = self._terminated[t] | self._truncated[t]
            following[t, done] = value(seen[done])
        return following

    def _moments(self) -> Moments:
        raw = self._raw[:-1][self._valid].astype(np.float64)
        if not len(raw):
            return 0, np.zeros(raw.shape[1]), np.zeros(raw.shape[1])
        mean = raw.mean(0)
        return len(raw), mean, np.square(raw - mean).sum(0)
