"""PPO's clipped loss (Schulman et al. 2017, equation 7) by torch's autograd. Knows Farflung's algorithms and torch."""

import torch

from actor.algorithms.losses import LossStats, OutputGradients
from actor.algorithms.methods import ActorCritic
from actor.traits import Traits


class AutogradLoss(ActorCritic):
    traits = Traits(learns_from_older=True, ignores=("loss",))

    def __init__(self, settings, spaces, policy, generator):
        super().__init__(settings, spaces, policy, generator)
        if spaces.actions.kind != "discrete":
            raise ValueError("actions have to be Discrete")

    def loss(self, outputs, values, sample):
        clip, value_weight = self.settings.clip, self.settings.value_weight
        logits, values = torch.tensor(outputs, requires_grad=True), torch.tensor(values, requires_grad=True)
        seen = logits if sample.masks is None else logits.masked_fill(~torch.tensor(sample.masks), -torch.inf)
        policy = torch.distributions.Categorical(logits=seen)
        log_ratios = policy.log_prob(torch.tensor(sample.actions[:, 0])) - torch.tensor(sample.policy.log_probs)
        ratios, advantages = log_ratios.exp(), torch.tensor(sample.policy.advantages)
        terms = torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)
        errors = values - torch.tensor(sample.returns)
        loss = -terms.mean() + value_weight * errors.square().mean() - self.entropy_weight * policy.entropy().mean()
        by_outputs, by_values = torch.autograd.grad(loss, (logits, values))
        told = (each.detach().numpy() for each in (terms, errors))
        likelihood = self.distribution.likelihood(outputs, sample.actions, sample.masks)
        stats = LossStats(*told, likelihood, log_ratios.detach().numpy(), clip, value_weight, self.entropy_weight)
        return OutputGradients(by_outputs.numpy(), by_values.numpy()), stats
