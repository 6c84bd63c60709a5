"""The recipe of a shipped experiment for one loop: ``python -m tests.bench.peers.shipped EXPERIMENT`` prints it.

What makes it Farflung's stays out: what is sent, staleness, the smaller β1 beside a residual, and kl_target.
"""

from __future__ import annotations

import sys

from actor.config import ActorSettings, read_settings
from learner import config
from learner.launch.experiment_file import load
from protocol.shipped import named
from tests.bench.peers.recipe import Recipe, written


def shipped(name: str) -> Recipe:
    """All environments of the run's actors in one loop, and as many more minibatches, so that none is larger."""
    experiment = load(named(name), [], {})
    actor, learner, run = read_settings(config.actor_table(experiment)), experiment.learner, experiment.run
    _check(name, actor)
    assert run.until_return is not None
    assert actor.entropy_weight != "auto"
    anneal_steps, anneal_floor = learner.annealing
    return Recipe(
        env=actor.env,
        target=run.until_return,
        envs=run.actors * actor.envs,
        rollout_steps=actor.rollout_steps,
        passes=actor.passes,
        minibatch=actor.envs * actor.rollout_steps // actor.minibatches,
        learning_rate=learner.learning_rate,
        anneal_steps=anneal_steps,
        anneal_floor=anneal_floor,
        reward_scale=actor.reward_scale,
        discount=actor.discount,
        gae_lambda=actor.gae_lambda,
        clip=actor.clip,
        value_weight=actor.value_weight,
        entropy_weight=actor.entropy_weight,
        max_gradient_norm=actor.max_gradient_norm,
        beta2=actor.beta2,
        epsilon=actor.epsilon,
        hidden=actor.hidden,
    )


def _check(name: str, actor: ActorSettings) -> None:
    """A loop that left out a setting would be another recipe under the same name."""
    plain = (
        actor.algorithm == "a3c" and actor.targets == "gae" and actor.loss == "clipped" and actor.normalize_advantages,
        actor.network in ("auto", "mlp") and actor.activation == "tanh" and actor.memory == "none",
        not (actor.layer_norm or actor.shared_trunk),
        not (actor.normalize_observations or actor.normalize_returns or actor.hidden_observations or actor.env_options),
        actor.reward_clip is None and actor.final_discount is None and actor.entropy_steps == 0,
        actor.entropy_weight != "auto",
    )
    if not all(plain):
        raise ValueError(f"{name} uses what the loops do not have")


if __name__ == "__main__":
    print(written(shipped(sys.argv[1])))
