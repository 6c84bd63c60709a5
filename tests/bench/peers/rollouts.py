"""Acting, collecting and counting of both loops: the policy in numpy, which for so few rows is faster than any other.

Knows the clock and simulators; no learning.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.peers.recipe import Recipe
from tests.bench.peers.simulators import Simulators

CURVE_S = 0.25  # between points of the learning curve
WINDOW = 100  # episodes

Array = NDArray[np.float32]
Layers = Sequence[tuple[Array, Array]]  # (weights [inputs, outputs], biases [outputs]), tanh between them


def first_layers(sizes: Sequence[int], gain: float, generator: np.random.Generator) -> list[tuple[Array, Array]]:
    """Orthogonal weights (Saxe et al. 2014) times √2, the last layer's times ``gain``, and biases of 0."""
    gains = [2**0.5] * (len(sizes) - 2) + [gain]
    shapes = zip(sizes[:-1], sizes[1:], gains, strict=True)
    return [
        (_orthogonal(rows, columns, gain, generator), np.zeros(columns, np.float32)) for rows, columns, gain in shapes
    ]


def _orthogonal(rows: int, columns: int, gain: float, generator: np.random.Generator) -> Array:
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q *= gain * np.sign(np.diag(r))
    return np.ascontiguousarray(q if rows >= columns else q.T, np.float32)


def first_policy(recipe: Recipe, inputs: int, actions: int, generator: np.random.Generator) -> dict[str, Any]:
    """The layers of both trunks, ``policy`` and ``value``."""
    return {
        "policy": first_layers((inputs, *recipe.hidden, actions), 0.01, generator),
        "value": first_layers((inputs, *recipe.hidden, 1), 1.0, generator),
    }


def logits_of(layers: Layers, observations: Array) -> Array:
    """observations: [B, D]. Returns [B, actions]."""
    *inner, (weights, biases) = layers
    for inner_weights, inner_biases in inner:
        observations = np.tanh(observations @ inner_weights + inner_biases)
    logits: Array = observations @ weights + biases
    return logits


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of B environments.

    observations: float32 [T + 1, B, D], the last one after step T - 1
    logits: float32 [T, B, actions], of the policy that acted
    actions: int32 [T, B]
    rewards, terminated, ended, valid: float32 [T, B], all but rewards 0 or 1; valid is 0 where a row only reset
    """

    observations: Array
    logits: Array
    actions: NDArray[np.int32]
    rewards: Array
    terminated: Array
    ended: Array
    valid: Array

    @property
    def env_steps(self) -> int:
        """Without resets."""
        return int(self.valid.sum())


def empty(recipe: Recipe, inputs: int, actions: int) -> Rollout:
    """One of zeros, to be written into."""
    shape = (recipe.rollout_steps, recipe.envs)
    observations = np.zeros((shape[0] + 1, shape[1], inputs), np.float32)
    numbers = [np.zeros(shape, np.float32) for _ in range(4)]
    return Rollout(observations, np.zeros((*shape, actions), np.float32), np.zeros(shape, np.int32), *numbers)


class Collector:
    """Steps the simulators from where the last rollout left them."""

    def __init__(self, recipe: Recipe, env: Simulators, sizes: tuple[int, int], seed: int) -> None:
        self._recipe, self._env, self._sizes = recipe, env, sizes
        self._generator = np.random.default_rng(seed)
        self._last: Array = env.reset()[0]
        self._ended = np.zeros(recipe.envs, np.bool_)

    def collect(self, policy: Layers) -> Rollout:
        """A new rollout, which nothing writes into any more."""
        rollout = empty(self._recipe, *self._sizes)
        noise = self._generator.gumbel(size=rollout.logits.shape).astype(np.float32)  # argmax of their sum is a sample
        rollout.observations[0] = self._last
        rollout.valid[0] = ~self._ended
        for t in range(self._recipe.rollout_steps):
            rollout.logits[t] = logits = logits_of(policy, rollout.observations[t])
            rollout.actions[t] = actions = (logits + noise[t]).argmax(1)
            step = self._env.step(actions)
            rollout.observations[t + 1], rollout.rewards[t], rollout.terminated[t], truncated, _ = step
            rollout.ended[t] = step[2] | truncated
        rollout.valid[1:] = 1.0 - rollout.ended[:-1]
        self._last, self._ended = rollout.observations[-1], rollout.ended[-1] > 0.0
        return rollout


class Watch:
    """Environment steps, returns of the last 100 episodes and the curve, looked at after each rollout.

    The clock starts when it is made.
    """

    def __init__(self, recipe: Recipe, limit: int) -> None:
        self._target, self._limit = recipe.target, limit
        self._running = np.zeros(recipe.envs, np.float64)
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._began = time.perf_counter()
        self._next_s = 0.0
        self.env_steps = 0
        self.curve: list[tuple[int, float, float]] = []  # steps, seconds, mean return of 100 episodes

    @property
    def mean(self) -> float | None:
        """Of the last 100 episodes; None before there are as many."""
        return sum(self._returns) / WINDOW if len(self._returns) == WINDOW else None

    @property
    def solved(self) -> bool:
        """Whether their mean has reached the target."""
        return self.mean is not None and self.mean >= self._target

    def over(self, rollout: Rollout) -> bool:
        """Counts it. Returns whether the target or the limit of steps was reached."""
        self.env_steps += rollout.env_steps
        self._add(rollout.rewards, rollout.ended > 0.0)
        over, now_s = self.solved or self.env_steps >= self._limit, time.perf_counter() - self._began
        if self.mean is not None and (over or now_s >= self._next_s):
            self.curve.append((self.env_steps, now_s, self.mean))
            self._next_s = now_s + CURVE_S
        return over

    def _add(self, rewards: Array, ended: NDArray[np.bool_]) -> None:
        """rewards, ended: [T, B]."""
        first = 0
        for t in map(int, np.flatnonzero(ended.any(1))):
            self._running += rewards[first : t + 1].sum(0)
            self._returns.extend(self._running[ended[t]].tolist())
            self._running[ended[t]] = 0.0
            first = t + 1
        self._running += rewards[first:].sum(0)

    def answer(self) -> dict[str, Any]:
        """What a loop prints. To be asked where it is over."""
        spent_s = time.perf_counter() - self._began
        return {
            "solved": self.solved,
            "wall_s": self.curve[-1][1] if self.curve else spent_s,
            "env_steps": self.env_steps,
            "return_mean_100": self.mean,
            "curve": self.curve,
        }
