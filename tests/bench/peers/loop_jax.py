"""Plain PPO in one process, learning compiled by JAX: ``python -m tests.bench.peers.loop_jax RECIPE SEED LIMIT KIND``.

One compiled call makes a rollout's targets and takes all its steps of Adam. It runs in a second thread while this one
collects the next rollout, so the policy that acts is one rollout old. KIND is of the simulators. The call is compiled
before the clock starts. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # the other core collects

import jax
import jax.numpy as jnp

from tests.bench.peers.recipe import BETA1, Recipe, read
from tests.bench.peers.rollouts import Collector, Rollout, Watch, empty, first_policy
from tests.bench.peers.simulators import make

Tree = Any  # arrays in dicts and lists, as JAX takes them
UNROLL = 8  # steps of the scan over time in one turn of the compiled loop


def layers(trunk: Tree, inputs: Any) -> Any:
    """inputs: [..., D]. Returns [..., outputs]."""
    for weights, biases in trunk[:-1]:
        inputs = jnp.tanh(inputs @ weights + biases)
    return inputs @ trunk[-1][0] + trunk[-1][1]


def targets(recipe: Recipe, policy: Tree, rollout: Rollout) -> tuple[Any, Any]:
    """Advantages by GAE (Schulman et al. 2016) and what values are fitted to, both [T, B]."""
    values = layers(policy["value"], rollout.observations)[..., 0]
    following = recipe.discount * values[1:] * (1.0 - rollout.terminated)
    errors = recipe.reward_scale * rollout.rewards + following - values[:-1]
    decays = recipe.discount * recipe.gae_lambda * (1.0 - rollout.ended)

    def back(after: Any, row: Any) -> tuple[Any, Any]:
        error, decay, valid = row
        advantage = (error + decay * after) * valid
        return advantage, advantage

    rows = errors, decays, rollout.valid
    _, advantages = jax.lax.scan(back, jnp.zeros(recipe.envs), rows, reverse=True, unroll=UNROLL)
    return advantages, advantages + values[:-1]


def chosen_of(logits: Any, actions: Any) -> Any:
    """Log probabilities of the actions. logits: [..., actions]; actions: [...]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], -1)[..., 0]


def loss(policy: Tree, recipe: Recipe, samples: Any) -> Any:
    """PPO's of one minibatch, resets weighted with 0."""
    observations, actions, before, advantages, wanted, valid = samples
    logits, values = layers(policy["policy"], observations), layers(policy["value"], observations)[:, 0]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratios = jnp.exp(chosen_of(logits, actions) - before)
    clipped = jnp.clip(ratios, 1.0 - recipe.clip, 1.0 + recipe.clip)
    gain = (jnp.minimum(ratios * advantages, clipped * advantages) * valid).mean()
    error = (jnp.square(values - wanted) * valid).mean()
    logs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(logs) * logs).sum(-1).mean()
    return recipe.value_weight * error - gain - recipe.entropy_weight * entropy


def adam(recipe: Recipe, state: Tree, gradient: Tree, rate: Any) -> Tree:
    """One step along the clipped gradient. state: (policy, first moments, second moments, steps)."""
    policy, first, second, steps = state
    norm = jnp.sqrt(sum(jnp.square(part).sum() for part in jax.tree.leaves(gradient)))
    share = jnp.minimum(1.0, recipe.max_gradient_norm / (norm + 1e-6))
    steps = steps + 1.0
    first = jax.tree.map(lambda m, g: BETA1 * m + (1.0 - BETA1) * share * g, first, gradient)
    second = jax.tree.map(
        lambda v, g: recipe.beta2 * v + (1.0 - recipe.beta2) * jnp.square(share * g), second, gradient
    )
    size, root = rate / (1.0 - BETA1**steps), jnp.sqrt(1.0 - recipe.beta2**steps)
    policy = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + recipe.epsilon), policy, first, second)
    return policy, first, second, steps


def learn(recipe: Recipe, state: Tree, rate: Any, arrays: Any, shuffled: Any) -> Tree:
    """Every step that a rollout is used for. arrays: a rollout's. shuffled: int32 [steps, samples]."""
    rollout = Rollout(*arrays)
    advantages, wanted = targets(recipe, state[0], rollout)
    before = chosen_of(rollout.logits, rollout.actions)
    each = rollout.observations[:-1], rollout.actions, before, advantages, wanted, rollout.valid
    samples = [array.reshape(-1, *array.shape[2:]) for array in each]

    def step(state: Tree, rows: Any) -> tuple[Tree, None]:
        gradient = jax.grad(loss)(state[0], recipe, [array[rows] for array in samples])
        return adam(recipe, state, gradient, rate), None

    return jax.lax.scan(step, state, shuffled)[0]


class Learner:
    """The compiled call and what it draws."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._recipe, self._generator = recipe, np.random.default_rng(seed)
        self._learn = jax.jit(lambda *arguments: learn(recipe, *arguments))

    def __call__(self, state: Tree, rollout: Rollout, env_steps: int) -> Tree:
        """The state after all steps, which are done when it returns."""
        rate, arrays = np.float32(self._recipe.rate(env_steps)), [getattr(rollout, name) for name in rollout.__slots__]
        return jax.block_until_ready(self._learn(state, rate, arrays, self._shuffled()))

    def _shuffled(self) -> NDArray[np.int32]:
        count = self._recipe.envs * self._recipe.rollout_steps
        passes = [self._generator.permutation(count) for _ in range(self._recipe.passes)]
        return np.concatenate(passes).astype(np.int32).reshape(-1, self._recipe.minibatch)


def run(recipe: Recipe, seed: int, limit: int, kind: str) -> dict[str, Any]:
    """Trains until the target or ``limit`` environment steps."""
    env, inputs, actions = make(kind, recipe.env, recipe.envs, seed)
    policy = first_policy(recipe, inputs, actions, np.random.default_rng(seed))
    moments = [jax.tree.map(np.zeros_like, policy) for _ in range(2)]
    state, learner = (policy, *moments, np.float32(0.0)), Learner(recipe, seed)
    learner(state, empty(recipe, inputs, actions), 0)  # compiles
    collector = Collector(recipe, env, (inputs, actions), seed)
    watch = Watch(recipe, limit)
    with ThreadPoolExecutor(1) as thread:
        learning = thread.submit(lambda: state)
        while not watch.over(rollout := collector.collect(jax.tree.map(np.asarray, policy["policy"]))):
            state = learning.result()
            learning = thread.submit(learner, state, rollout, watch.env_steps)
            policy = state[0]
        return watch.answer()


if __name__ == "__main__":
    print(json.dumps(run(read(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
