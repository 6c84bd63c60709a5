"""Plain PPO in one process, learning in torch: ``python -m tests.bench.peers.loop_torch RECIPE SEED LIMIT KIND``.

Collects and learns in turns. One torch thread, which is fastest for networks of this size. KIND is of the simulators.
Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.bench.peers.recipe import BETA1, Recipe, read
from tests.bench.peers.rollouts import Array, Collector, Layers, Rollout, Watch, first_policy
from tests.bench.peers.simulators import make


def module(layers: Layers) -> nn.Sequential:
    """Linear layers that begin with these weights, tanh between them."""
    parts: list[nn.Module] = []
    for weights, biases in layers:
        linear = nn.Linear(*weights.shape)
        linear.weight.data.copy_(torch.from_numpy(weights.T))
        linear.bias.data.copy_(torch.from_numpy(biases))
        parts += [linear, nn.Tanh()]
    return nn.Sequential(*parts[:-1])


def seen_by_numpy(trunk: nn.Sequential) -> list[tuple[Array, Array]]:
    """The same memory, so what the optimizer writes shows at once."""
    linear = [part for part in trunk if isinstance(part, nn.Linear)]
    return [(part.weight.detach().numpy().T, part.bias.detach().numpy()) for part in linear]


def advantages_of(recipe: Recipe, rollout: Rollout, values: Array) -> Array:
    """GAE (Schulman et al. 2016), float32 [T, B]. values: [T + 1, B]."""
    following = recipe.discount * values[1:] * (1.0 - rollout.terminated)
    errors = recipe.reward_scale * rollout.rewards + following - values[:-1]
    decays = recipe.discount * recipe.gae_lambda * (1.0 - rollout.ended)
    advantages, after = np.zeros_like(errors), np.zeros(recipe.envs, np.float32)
    for t in range(recipe.rollout_steps - 1, -1, -1):
        advantages[t] = after = (errors[t] + decays[t] * after) * rollout.valid[t]
    return advantages


def chosen_of(logs: Tensor, actions: Tensor) -> Tensor:
    """Of log probabilities [N, actions] those of the actions [N]."""
    return logs.gather(1, actions[:, None])[:, 0]


class Learner:
    """Both trunks and Adam. policy: its layers, for numpy."""

    def __init__(self, recipe: Recipe, layers: dict[str, Layers]) -> None:
        self._recipe = recipe
        self._policy, self._value = module(layers["policy"]), module(layers["value"])
        self._parameters = [*self._policy.parameters(), *self._value.parameters()]
        settings: dict[str, Any] = {"betas": (BETA1, recipe.beta2), "eps": recipe.epsilon, "fused": True}
        self._adam = torch.optim.Adam(self._parameters, recipe.learning_rate, **settings)
        self.policy = seen_by_numpy(self._policy)

    def learn(self, rollout: Rollout, env_steps: int) -> None:
        """Every step that a rollout is used for."""
        samples = self._samples(rollout)
        for group in self._adam.param_groups:
            group["lr"] = self._recipe.rate(env_steps)
        for _ in range(self._recipe.passes):
            for rows in torch.randperm(len(samples[0])).chunk(self._recipe.minibatches):
                self._step([array[rows] for array in samples])

    def _step(self, minibatch: list[Tensor]) -> None:
        self._adam.zero_grad()
        torch.autograd.backward(self._loss(*minibatch))
        nn.utils.clip_grad_norm_(self._parameters, self._recipe.max_gradient_norm)
        self._adam.step()

    @torch.no_grad()
    def _samples(self, rollout: Rollout) -> list[Tensor]:
        """Observations, actions, their log probabilities, advantages, what values are fitted to, and weights: [N, ...].

        Log probabilities are of the policy that acted.
        """
        values = self._value(torch.from_numpy(rollout.observations))[..., 0].numpy()
        advantages = advantages_of(self._recipe, rollout, values)
        actions = torch.from_numpy(rollout.actions).long().flatten()
        logs = torch.log_softmax(torch.from_numpy(rollout.logits).flatten(0, 1), -1)
        numbers = [torch.from_numpy(each).flatten() for each in (advantages, advantages + values[:-1], rollout.valid)]
        return [torch.from_numpy(rollout.observations[:-1]).flatten(0, 1), actions, chosen_of(logs, actions), *numbers]

    def _loss(
        self, observations: Tensor, actions: Tensor, before: Tensor, advantages: Tensor, wanted: Tensor, valid: Tensor
    ) -> Tensor:
        """PPO's of one minibatch, resets weighted with 0."""
        recipe = self._recipe
        logs = torch.log_softmax(self._policy(observations), -1)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratios = (chosen_of(logs, actions) - before).exp()
        clipped = ratios.clamp(1.0 - recipe.clip, 1.0 + recipe.clip)
        gain = (torch.minimum(ratios * advantages, clipped * advantages) * valid).mean()
        error = ((self._value(observations)[:, 0] - wanted).square() * valid).mean()
        loss: Tensor = recipe.value_weight * error - gain
        if recipe.entropy_weight == 0.0:
            return loss
        return loss + recipe.entropy_weight * (logs.exp() * logs).sum(-1).mean()


def run(recipe: Recipe, seed: int, limit: int, kind: str) -> dict[str, Any]:
    """Trains until the target or ``limit`` environment steps."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    env, inputs, actions = make(kind, recipe.env, recipe.envs, seed)
    learner = Learner(recipe, first_policy(recipe, inputs, actions, np.random.default_rng(seed)))
    collector = Collector(recipe, env, (inputs, actions), seed)
    watch = Watch(recipe, limit)
    while not watch.over(rollout := collector.collect(learner.policy)):
        learner.learn(rollout, watch.env_steps)
    return watch.answer()


if __name__ == "__main__":
    print(json.dumps(run(read(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
