"""What a method learns from a rollout: its targets and its loss. Pure. Knows rollouts and networks; no wire, no clock.

Two families, one face. The actor-critic methods follow a distribution and bootstrap from their own value function; the
value methods act ε-greedily and bootstrap from a target network that the learner names.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actor.algorithms.distributions import distribution
from actor.algorithms.exploration import EpsilonGreedy, draw_final_epsilon, entropy_weight_at, epsilon_at
from actor.algorithms.losses import LossStats, Slopes, a3c_loss, clipped_loss, q_loss
from actor.algorithms.returns import discount_at, gae, n_step_returns, one_step_returns, vtrace
from actor.algorithms.rollout import Chooser, Rollout
from actor.config import ActorSettings
from actor.networks.build import build_policy
from actor.networks.flat import FlatModule
from actor.networks.policy import Inputs, Policy
from actor.spaces import Spaces
from protocol.errors import UserError

Floats = NDArray[np.float32]


class Targets(NamedTuple):
    """What each row of a rollout is learnt towards, float32 [T, B] each; a value method needs the last alone."""

    log_probs: Floats
    advantages: Floats
    returns: Floats


class Sample(Protocol):
    """What a loss needs of a minibatch: [N, ...] each."""

    @property
    def actions(self) -> Tensor: ...
    @property
    def log_probs(self) -> Tensor: ...
    @property
    def advantages(self) -> Tensor: ...
    @property
    def returns(self) -> Tensor: ...


class Method(Protocol):
    """One algorithm. chooser: how it acts. fresh_targets: whether each pass wants targets at the newest weights."""

    chooser: Chooser
    fresh_targets: bool

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """New weights came, at this age of the run; with them the target network, where the run has one."""

    def targets(self, rollout: Rollout) -> Targets:
        """From the rollout, at the policy's present weights."""

    def loss(self, outputs: Tensor, values: Tensor | None, sample: Sample) -> tuple[Slopes, LossStats]:
        """outputs: float32 [N, K], values: float32 [N]."""


def make_method(settings: ActorSettings, spaces: Spaces, policy: Policy, seed: int) -> Method:
    """The method that the settings name."""
    if settings.algorithm == "a3c":
        return ActorCritic(settings, spaces, policy)
    return ActionValues(settings, spaces, policy, np.random.default_rng([seed, 2]))


class ActorCritic:
    """Advantage actor-critic (Mnih et al. 2016, algorithm S3), with rollouts used again under a clipped ratio."""

    def __init__(self, settings: ActorSettings, spaces: Spaces, policy: Policy) -> None:
        self._settings, self._policy = settings, policy
        self._distribution = distribution(spaces.actions)
        self.chooser: Chooser = self._distribution
        self.fresh_targets = settings.targets == "vtrace"
        self._entropy_weight, self._discount = settings.entropy_weight, settings.discount

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """Method.adopt: there is no target network to follow."""
        self._entropy_weight = entropy_weight_at(self._settings, env_steps)
        self._discount = _discount(self._settings, env_steps)

    def targets(self, rollout: Rollout) -> Targets:
        """Method.targets."""
        assert rollout.values is not None
        assert rollout.next_values is not None
        acted = self._log_probs(rollout.outputs[:-1], rollout.actions)
        settings, values = self._settings, rollout.values
        outcome = (rollout.terminated, rollout.truncated, rollout.valid, self._discount)
        if settings.targets == "vtrace":
            return self._corrected(rollout, acted)
        if settings.targets == "gae":
            advantages = gae(rollout.rewards, values, rollout.next_values, *outcome, settings.gae_lambda)
        else:
            advantages = n_step_returns(rollout.rewards, rollout.next_values, *outcome) - values
        return Targets(acted, advantages, advantages + values)

    def _log_probs(self, outputs: Floats, actions: NDArray[Any]) -> Floats:
        """Of the actions under the outputs, float32 [T, B]."""
        rows = torch.from_numpy(outputs).flatten(0, 1), torch.from_numpy(actions).flatten(0, 1)
        log_probs: Floats = self._distribution.likelihood(*rows).log_probs.numpy()
        return log_probs.reshape(actions.shape[:2])

    def _corrected(self, rollout: Rollout, acted: Floats) -> Targets:
        """V-trace from the policy that acted to the present one. Successors that no row shows keep their value."""
        outputs, values = self._again(rollout)
        newest = self._log_probs(outputs[:-1], rollout.actions)
        next_values = values[1:].copy()
        assert rollout.next_values is not None
        for t, rows, _ in rollout.finals:
            next_values[t, rows] = rollout.next_values[t, rows]
        settings = self._settings
        returns, advantages = vtrace(
            newest - acted,
            rollout.rewards,
            values[:-1],
            next_values,
            rollout.terminated,
            rollout.truncated,
            rollout.valid,
            self._discount,
            settings.gae_lambda,
            settings.vtrace_clip,
        )
        return Targets(newest, advantages, returns)  # the way from who acted to here is in the advantages already

    def _again(self, rollout: Rollout) -> tuple[Floats, Floats]:
        """Outputs [T + 1, B, K] and values [T + 1, B] of the whole rollout at the present weights."""
        steps, count = rollout.observations.shape[:2]
        starts = np.concatenate([rollout.starts, np.zeros((1, count), np.bool_)])
        inputs = Inputs(rollout.observations, rollout.state, starts)
        if not self._policy.state_size:
            inputs = Inputs(rollout.observations.reshape(steps * count, *rollout.observations.shape[2:]))
        self._policy.begin()  # the weights may be newer than those that acted
        with torch.no_grad():
            outputs, values, _ = self._policy.forward_pass(inputs)
        assert values is not None
        return outputs.reshape(steps, count, -1), values.reshape(steps, count)

    def loss(self, outputs: Tensor, values: Tensor | None, sample: Sample) -> tuple[Slopes, LossStats]:
        """Method.loss."""
        assert values is not None
        settings = self._settings
        weights = (settings.value_weight, self._entropy_weight)
        likelihood = self._distribution.likelihood(outputs, sample.actions)
        if settings.loss == "a3c":
            return a3c_loss(likelihood, values, sample.advantages, sample.returns, *weights)
        gains = (sample.log_probs, sample.advantages, sample.returns)
        return clipped_loss(likelihood, values, *gains, settings.clip, *weights)


class ActionValues:
    """n-step Q, one-step Q and one-step Sarsa (Mnih et al. 2016, algorithms 1, S1 and S2)."""

    fresh_targets = False  # the target network stands still while a rollout is used

    def __init__(self, settings: ActorSettings, spaces: Spaces, policy: Policy, generator: np.random.Generator) -> None:
        self._settings, self._policy = settings, policy
        self._final_epsilon = draw_final_epsilon(settings, generator)
        self._greedy = EpsilonGreedy(spaces.actions.sizes[0])
        self.chooser: Chooser = self._greedy
        self._target: Policy
        self._flat: FlatModule
        self._target, self._flat = build_policy(settings, spaces, seed=0)
        self._discount = settings.discount
        self._given: Floats | None = None
        self._version: int | None = None

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """Method.adopt. Raises UserError where the run has no target network."""
        self._discount = _discount(self._settings, env_steps)
        self._greedy.epsilon = epsilon_at(self._final_epsilon, env_steps, self._settings.exploration_steps)
        if target is None:
            name = self._settings.algorithm
            raise UserError(f"actor.algorithm = {name!r} needs a target network: set learner.target_interval_steps")
        if target is not self._given or target_version != self._version:
            self._flat.load(target)  # another array of an equal version is that of another life of the learner
            self._target.begin()
            self._given, self._version = target, target_version

    def targets(self, rollout: Rollout) -> Targets:
        """Method.targets."""
        settings = self._settings
        self._target.expose(*self._policy.exposure)  # both networks see the same pixels
        ahead = self._next_values(rollout)
        if settings.algorithm == "n_step_q":
            outcome = (rollout.terminated, rollout.truncated, rollout.valid, self._discount)
            returns = n_step_returns(rollout.rewards, ahead, *outcome)
        else:
            returns = one_step_returns(rollout.rewards, ahead, rollout.terminated, rollout.valid, self._discount)
        return Targets(returns, returns, returns)

    def _next_values(self, rollout: Rollout) -> Floats:
        """The target network's value of each true successor, float32 [T, B].

        Sarsa takes the action that comes next; where an episode was cut and none follows, the mean over its policy.
        """
        sarsa = self._settings.algorithm == "one_step_sarsa"
        successors = rollout.observations[1:]
        values = self._evaluated(successors.reshape(-1, *successors.shape[2:])).reshape(*successors.shape[:2], -1)
        if sarsa:
            following = np.concatenate([rollout.actions[1:], rollout.next_actions[None]])
            ahead = np.take_along_axis(values, following, 2)[..., 0]
        else:
            ahead = values.max(2)
        for t, rows, seen in rollout.finals:
            last = self._evaluated(seen)
            ahead[t, rows] = self._greedy.expected(last) if sarsa else last.max(1)
        return ahead

    def _evaluated(self, observations: NDArray[Any]) -> Floats:
        """Action values float32 [N, A] by the target network."""
        with torch.no_grad():
            outputs, _, _ = self._target.forward_pass(Inputs(observations))
        return outputs

    def loss(self, outputs: Tensor, values: Tensor | None, sample: Sample) -> tuple[Slopes, LossStats]:
        """Method.loss."""
        return q_loss(outputs, sample.actions, sample.returns)


def _discount(settings: ActorSettings, env_steps: int) -> float:
    return discount_at(settings.discount, settings.final_discount, env_steps, settings.discount_steps)
