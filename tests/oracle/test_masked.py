"""A game whose illegal moves raise: no method ever makes one, and each learns it as the same game without them.

The plain loop of one process, so no clock: rollout, minibatches, Adam.
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from actor.algorithms.gradients import gradient, minibatches
from actor.algorithms.own import make_method
from actor.algorithms.recent_rollouts import Limits, RecentRollouts
from actor.algorithms.rollout import Collector
from actor.config import ActorSettings
from actor.environments.child_protocol import Description
from actor.environments.isolated import IsolatedEngine
from actor.environments.registry import make_vector_envs
from actor.environments.vector import VectorEnv
from actor.networks.build import build_policy
from actor.spaces import resolved
from tests.actor.environments import masked_envs
from tests.actor.environments.masked_envs import LENGTH

STEPS, ENVS = 10_000, 4
METHODS: dict[str, dict[str, Any]] = {
    "gae": {},
    "joined": {},  # older rollouts are learnt from as well, and corrected for
    "vtrace": {"targets": "vtrace"},
    "n_step": {"targets": "n_step", "loss": "a3c", "passes": 1},
    "gru": {"memory": "gru", "memory_size": 16, "minibatches": 2},
    "n_step_q": {"algorithm": "n_step_q"},
    "one_step_q": {"algorithm": "one_step_q"},
    "one_step_sarsa": {"algorithm": "one_step_sarsa"},
}


def settings_of(name: str, env: str) -> ActorSettings:
    usual: dict[str, Any] = {
        "env": env,
        "envs": ENVS,
        "rollout_steps": 25,
        "hidden": (32,),
        "passes": 2,
        "minibatches": 4,
    }
    plain: dict[str, Any] = {"normalize_observations": False, "normalize_returns": False, "discount": 0.9}
    value: dict[str, Any] = {"exploration_steps": STEPS // 2, "final_epsilons": (0.05,), "final_epsilon_odds": (1.0,)}
    chosen = METHODS[name]
    return ActorSettings(**usual | plain | (value if "algorithm" in chosen else {}) | chosen)


def simulators_of(settings: ActorSettings, where: str) -> VectorEnv:
    if where == "in process":
        return make_vector_envs(settings, frozenset())[0]
    description = Description(settings.env, {}, (), 20.0, 60.0)
    engine: Any = IsolatedEngine(description, ENVS, 0, lambda *_: None, command=(sys.executable, masked_envs.__file__))
    return VectorEnv(engine, engine.spaces, next_step_autoreset=False)


def trained(simulators: VectorEnv, settings: ActorSettings, *, joined: bool) -> list[float]:
    """Returns of all episodes, in order."""
    settings = resolved(settings, simulators.spaces)
    policy, flat = build_policy(settings, simulators.spaces, 0)
    method = make_method(settings, simulators.spaces, policy, 0)
    collector = Collector([simulators], policy, method.sampler, settings, 0)
    parameter = torch.nn.Parameter(torch.from_numpy(flat.vector().copy()))
    adam, shuffle = torch.optim.Adam([parameter], lr=1e-2), np.random.default_rng(0)
    env_steps, version, returns, recent = 0, 0, list[float](), RecentRollouts()
    while env_steps < STEPS:
        method.adopt(env_steps, None if settings.algorithm == "a3c" else flat.vector().copy(), version)
        collected = rollout = collector.collect()
        if joined:
            rollout = recent.join(collected, 1, env_steps, Limits(1, 3, 1e9))
        assert rollout.masks is None or np.take_along_axis(rollout.masks[:-1], rollout.actions, 2).all()
        for _ in range(settings.passes):
            targets = method.targets(rollout)
            for minibatch in minibatches(rollout, targets, settings, shuffle):
                vector, _, _ = gradient(flat, policy, method, minibatch, settings.max_gradient_norm)
                parameter.grad = torch.from_numpy(vector.copy())
                adam.step()
                flat.load(parameter.detach().numpy())
        env_steps, version = env_steps + collected.env_steps, version + 1
        returns += [score for score, _ in collected.episodes]
    assert not sum(simulators.failures.values())
    return returns


@pytest.mark.parametrize(
    ("name", "where"),
    [(name, "in process") for name in METHODS] + [(name, "processes") for name in METHODS if name != "gru"],
)
def test_illegal_moves_are_never_made_and_the_game_is_learnt(name: str, where: str) -> None:
    """At first half of all moves are high ones; in the end all but what exploration takes."""
    settings = settings_of(name, "Strict-v0")
    with closing(simulators_of(settings, where)) as simulators:
        returns = trained(simulators, settings, joined=name == "joined")
    assert np.mean(returns[:20]) < 0.8 * LENGTH
    assert np.mean(returns[-100:]) > 0.93 * LENGTH


@pytest.mark.parametrize("name", ["gae", "one_step_q"])
def test_it_is_learnt_as_the_same_game_without_illegal_moves(name: str) -> None:
    """Their curves are as far apart as two seeds of one of them are, within a tenth of what there is to win."""
    curves = []
    for env in ("Strict-v0", "Lenient-v0"):
        settings = settings_of(name, env)
        with closing(simulators_of(settings, "in process")) as simulators:
            returns = trained(simulators, settings, joined=False)
        curves.append(np.array([part.mean() for part in np.array_split(np.array(returns), 4)]))
    np.testing.assert_allclose(curves[0], curves[1], atol=0.1 * LENGTH)
