"""What a method learns from a rollout: its targets and its loss. Pure. Knows rollouts and networks; no wire, no clock.

Two families, one face. The actor-critic methods follow a distribution and bootstrap from their own value function; the
value methods act ε-greedily and bootstrap from a target network that the learner names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.distributions import Masks, distribution, masked
from actor.algorithms.exploration import EpsilonGreedy, draw_final_epsilon, entropy_weight_at, epsilon_at
from actor.algorithms.losses import LossStats, OutputGradients, a3c_loss, clipped_loss, q_loss, quiet
from actor.algorithms.returns import discount_at, gae, n_step_returns, one_step_returns, vtrace
from actor.algorithms.rollout import ActionSampler, Rollout
from actor.config import ActorSettings
from actor.networks.flat import FlatParameters
from actor.networks.policy import Inputs, Policy
from actor.spaces import Spaces, resolved
from actor.traits import VALUE_TRAITS, Traits
from protocol.errors import UserError

Floats = NDArray[np.float32]


class PolicyTargets(NamedTuple):
    """What a policy is learnt from, float32 [T, B] each: log-probabilities of its actions, and their advantages."""

    log_probs: Floats
    advantages: Floats


NOTHING: Mapping[str, NDArray[Any]] = MappingProxyType({})


class Targets(NamedTuple):
    """What each row of a rollout is learnt towards. returns: float32 [T, B]. policy: None for a value method.

    extra: arrays [T, B, ...] of a method's own, by name, whose rows go to its loss.
    """

    returns: Floats
    policy: PolicyTargets | None = None
    extra: Mapping[str, NDArray[Any]] = NOTHING


class PolicySample(NamedTuple):
    """``PolicyTargets`` of the N samples of a minibatch, float32 [N] each."""

    log_probs: Floats
    advantages: Floats


class Sample(Protocol):
    """What a loss needs of a minibatch. actions: [N, width]; returns: float32 [N]; policy: None for a value method.

    masks: bool [N, L], which logits might be chosen; None where all might.
    extra: as in ``Targets``, [N, ...] each.
    """

    @property
    def actions(self) -> NDArray[Any]: ...
    @property
    def returns(self) -> Floats: ...
    @property
    def policy(self) -> PolicySample | None: ...
    @property
    def masks(self) -> Masks | None: ...
    @property
    def extra(self) -> Mapping[str, NDArray[Any]]: ...


class Method(Protocol):
    """One algorithm. sampler: how it acts. fresh_targets: whether each pass wants targets at the newest weights."""

    sampler: ActionSampler

    @property
    def fresh_targets(self) -> bool: ...

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """New weights came, at this age of the run; with them the target network, where the run has one."""

    def targets(self, rollout: Rollout) -> Targets:
        """From the rollout, at the policy's present weights."""

    def loss(self, outputs: Floats, values: Floats | None, sample: Sample) -> tuple[OutputGradients, LossStats]:
        """outputs: float32 [N, K], values: float32 [N]."""


def no_target_network(algorithm: str) -> UserError:
    """Of a run that keeps none, where the algorithm needs one."""
    return UserError(f"actor.algorithm = {algorithm!r} needs a target network: set learner.target_interval_steps")


class ActorCritic:
    """Advantage actor-critic (Mnih et al. 2016, algorithm S3), with rollouts used again under a clipped ratio."""

    traits: ClassVar[Traits] = Traits()  # what is made of it declares more where it keeps what makes it so

    def __init__(
        self, settings: ActorSettings, spaces: Spaces, policy: Policy, generator: np.random.Generator | None = None
    ) -> None:
        settings = resolved(settings, spaces)
        self.settings, self.policy = settings, policy
        self.distribution = distribution(spaces.actions)
        self.sampler: ActionSampler = self.distribution
        self.fresh_targets = settings.targets == "vtrace"
        self.entropy_weight, self.discount = entropy_weight_at(settings, 0), settings.discount

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """Method.adopt: there is no target network to follow."""
        self.entropy_weight = entropy_weight_at(self.settings, env_steps)
        self.discount = _discount(self.settings, env_steps)

    def targets(self, rollout: Rollout) -> Targets:
        """Method.targets."""
        assert rollout.values is not None
        assert rollout.next_values is not None
        acted = self._log_probs(rollout.outputs[:-1], rollout)
        settings, values = self.settings, rollout.values
        if settings.targets == "vtrace" or rollout.older:
            return self._corrected(rollout, acted)
        if settings.targets == "gae":
            advantages = gae(
                rewards=rollout.rewards,
                values=values,
                next_values=rollout.next_values,
                terminated=rollout.terminated,
                truncated=rollout.truncated,
                valid=rollout.valid,
                discount=self.discount,
                lam=settings.gae_lambda,
            )
        else:
            advantages = _longest_returns(rollout, rollout.next_values, self.discount) - values
        return Targets(returns=advantages + values, policy=PolicyTargets(log_probs=acted, advantages=advantages))

    @quiet
    def _log_probs(self, outputs: Floats, rollout: Rollout) -> Floats:
        """Of the rollout's actions under the outputs, float32 [T, B]."""
        actions, masks = rollout.actions, rollout.masks
        rows = outputs.reshape(-1, outputs.shape[2]), actions.reshape(-1, actions.shape[2])
        allowed = None if masks is None else masks[:-1].reshape(-1, masks.shape[2])
        log_probs: Floats = self.distribution.likelihood(*rows, allowed).log_probs.reshape(actions.shape[:2])
        return log_probs

    def _corrected(self, rollout: Rollout, acted: Floats) -> Targets:
        """V-trace from the policy that acted to the present one. Of the newest rollout's, successors that no row shows
        keep their value.
        """
        outputs, values = self._again(rollout)
        newest = self._log_probs(outputs[:-1], rollout)
        next_values = values[1:].copy()
        assert rollout.next_values is not None
        for t, rows, seen in rollout.finals:
            old = t < rollout.older
            next_values[t, rows] = (
                self.policy.values(seen, rollout.state[rows]) if old else rollout.next_values[t, rows]
            )
        settings = self.settings
        returns, advantages, corrections = vtrace(
            log_ratios=newest - acted,
            rewards=rollout.rewards,
            values=values[:-1],
            next_values=next_values,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            valid=rollout.valid,
            discount=self.discount,
            lam=settings.gae_lambda,
            clip=settings.vtrace_clip,
        )
        if settings.targets != "vtrace":  # as generalised advantage estimation has them where nothing is corrected
            advantages = corrections
        # The way from who acted to here is in the advantages already: the ratio that is clipped begins here (Hilton,
        # Cobbe and Schulman 2021, "Batch size-invariance for policy optimization", section 2).
        return Targets(returns=returns, policy=PolicyTargets(log_probs=newest, advantages=advantages))

    def _again(self, rollout: Rollout) -> tuple[Floats, Floats]:
        """Outputs [T + 1, B, K] and values [T + 1, B] of the whole rollout at the present weights."""
        steps, count = rollout.observations.shape[:2]
        starts = np.concatenate([rollout.starts, np.zeros((1, count), np.bool_)])
        inputs = Inputs(rollout.observations, rollout.state, starts)
        if not self.policy.state_size:
            inputs = Inputs(rollout.observations.reshape(steps * count, *rollout.observations.shape[2:]))
        self.policy.weights_changed()  # the weights may be newer than those that acted
        outputs, values = self.policy.infer(inputs)
        assert values is not None
        return outputs.reshape(steps, count, -1), values.reshape(steps, count)

    def loss(self, outputs: Floats, values: Floats | None, sample: Sample) -> tuple[OutputGradients, LossStats]:
        """Method.loss."""
        assert values is not None
        assert sample.policy is not None
        settings = self.settings
        likelihood = self.distribution.likelihood(outputs, sample.actions, sample.masks)
        if settings.loss == "a3c":
            return a3c_loss(
                likelihood=likelihood,
                values=values,
                advantages=sample.policy.advantages,
                returns=sample.returns,
                value_weight=settings.value_weight,
                entropy_weight=self.entropy_weight,
            )
        return clipped_loss(
            likelihood=likelihood,
            values=values,
            log_probs_old=sample.policy.log_probs,
            advantages=sample.policy.advantages,
            returns=sample.returns,
            clip=settings.clip,
            value_weight=settings.value_weight,
            entropy_weight=self.entropy_weight,
        )


class ActionValues:
    """n-step Q, one-step Q and one-step Sarsa (Mnih et al. 2016, algorithms 1, S1 and S2)."""

    traits: ClassVar[Traits] = VALUE_TRAITS
    fresh_targets = False  # the target network stands still while a rollout is used

    def __init__(self, settings: ActorSettings, spaces: Spaces, policy: Policy, generator: np.random.Generator) -> None:
        self.settings, self.policy = settings, policy
        self.final_epsilon = draw_final_epsilon(settings, generator)
        self.greedy = EpsilonGreedy(spaces.actions.sizes[0])
        self.sampler: ActionSampler = self.greedy
        self._target = copy.deepcopy(policy)
        self.target_weights = FlatParameters(self._target)
        self.discount = settings.discount
        self._given: Floats | None = None
        self._version: int | None = None

    def adopt(self, env_steps: int, target: Floats | None, target_version: int | None) -> None:
        """Method.adopt. Raises UserError where the run has no target network."""
        self.discount = _discount(self.settings, env_steps)
        self.greedy.epsilon = epsilon_at(self.final_epsilon, env_steps, self.settings.exploration_steps)
        if target is None:
            raise no_target_network(self.settings.algorithm)
        if target is not self._given or target_version != self._version:
            self.target_weights.load(target)  # another array of an equal version is that of another life of the learner
            self._target.weights_changed()
            self._given, self._version = target, target_version

    def targets(self, rollout: Rollout) -> Targets:
        """Method.targets."""
        self._target.set_pixel_normalization(*self.policy.pixel_normalization)  # both networks see the same pixels
        ahead = self._next_values(rollout)
        if self.settings.traits.whole_rollouts:
            return Targets(_longest_returns(rollout, ahead, self.discount))
        return Targets(one_step_returns(rollout.rewards, ahead, rollout.terminated, rollout.valid, self.discount))

    def _next_values(self, rollout: Rollout) -> Floats:
        """The target network's value of each true successor, float32 [T, B].

        Sarsa takes the action that comes next; where an episode was cut and none follows, the mean over its policy.
        """
        sarsa = self.settings.traits.needs_next_action
        successors = rollout.observations[1:]
        values = self._evaluated(successors.reshape(-1, *successors.shape[2:])).reshape(*successors.shape[:2], -1)
        if sarsa:
            following = np.concatenate([rollout.actions[1:], rollout.next_actions[None]])
            ahead = np.take_along_axis(values, following, 2)[..., 0]
        else:
            ahead = masked(values, None if rollout.masks is None else rollout.masks[1:]).max(2)
        final_masks = [None] * len(rollout.finals) if rollout.masks is None else rollout.final_masks
        for (t, rows, seen), masks in zip(rollout.finals, final_masks, strict=True):
            last = self._evaluated(seen)
            ahead[t, rows] = self.greedy.expected(last, masks) if sarsa else masked(last, masks).max(1)
        return ahead

    def _evaluated(self, observations: NDArray[Any]) -> Floats:
        """Action values float32 [N, A] by the target network."""
        return self._target.infer(Inputs(observations))[0]

    def loss(self, outputs: Floats, values: Floats | None, sample: Sample) -> tuple[OutputGradients, LossStats]:
        """Method.loss."""
        return q_loss(outputs, sample.actions, sample.returns)


def _longest_returns(rollout: Rollout, next_values: Floats, discount: float) -> Floats:
    return n_step_returns(
        rewards=rollout.rewards,
        next_values=next_values,
        terminated=rollout.terminated,
        truncated=rollout.truncated,
        valid=rollout.valid,
        discount=discount,
    )


def _discount(settings: ActorSettings, env_steps: int) -> float:
    return discount_at(settings.discount, settings.final_discount, env_steps, settings.discount_steps)
