"""What an actor's work costs when nothing surrounds it: ``python -m tests.bench.rates.actor_bare EXPERIMENT SECONDS``.

In one process on one core: bare simulators with random actions, the policy's forward pass, its gradients; and beside
their sum the actor's own ``TrainingWorker`` at a channel whose link answers at once. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium
import numpy as np

from actor.algorithms.gradients import gradient, minibatches
from actor.algorithms.own import make_method
from actor.algorithms.rollout import Collector
from actor.config import ActorSettings, read_settings
from actor.environments.conversion import ActionConverter
from actor.environments.registry import describe, make_vector_envs
from actor.events import Weights, Work
from actor.handoff import WorkerChannel
from actor.networks.build import build_policy
from actor.worker import TrainingWorker
from learner import config
from learner.launch.experiment_file import load
from protocol.manifest import digest_of
from protocol.messages import Welcome
from protocol.shipped import named

SLICE_S = 0.15  # of each part at a time
NEXT_TO_NOTHING = 1e-12  # a learner's rate, told so that an actor takes its local steps, which change no weight
RANDOM_ROWS = 4096  # actions drawn beforehand, so that drawing them costs nothing


def per_call_s(call: Callable[[], object], seconds: float) -> float:
    """Mean seconds of one call, over about so many seconds."""
    call()
    calls, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        call()
        calls += 1
    return spent / calls


class Bare:
    """The three parts of an environment step, measured alone. T: rollout_steps, B: envs."""

    def __init__(self, settings: ActorSettings) -> None:
        self.settings = settings
        spaces = describe(settings, frozenset())
        self.policy, self.flat = build_policy(settings, spaces, seed=0)
        self.method = make_method(settings, spaces, self.policy, seed=0)
        self.method.adopt(0, self.flat.vector(), 0)
        self._simulators = _simulators(settings)
        draw, spoken = self.method.sampler, ActionConverter(spaces.actions)
        equal = np.zeros((settings.envs, spaces.actions.outputs), np.float32)
        noise = draw.noise(np.random.default_rng(0), RANDOM_ROWS, settings.envs)
        self._actions = [spoken(draw.draw(equal, row)) for row in noise]
        groups = make_vector_envs(settings, frozenset())
        self.rollout = rollout = Collector(groups, self.policy, draw, settings, seed=0).collect()
        self.valid_share = rollout.env_steps / rollout.valid.size
        self.targets = self.method.targets(rollout)
        self._minibatch = next(minibatches(rollout, self.targets, settings, np.random.default_rng(0)))
        self._observations = rollout.observations.copy()
        self._t = 0

    def step(self) -> None:
        """One step of every simulator."""
        self._simulators.step(self._actions[self._t % RANDOM_ROWS])
        self._t += 1

    def forward(self) -> None:
        """One rollout's forward passes: row by row, since each decides the next; other values all at once."""
        policy, seen = self.policy, self._observations
        state = np.zeros((self.settings.envs, policy.state_size), np.float32)
        policy.weights_changed()
        for row in seen:
            policy.act(row, state)
        if policy.has_values and not policy.values_while_acting:
            policy.values(seen.reshape(-1, *policy.input_shape), state)

    def backward(self) -> None:
        """One minibatch's gradient."""
        gradient(self.flat, self.policy, self.method, self._minibatch, self.settings.max_gradient_norm)

    def measure(self, seconds: float) -> dict[str, float]:
        """Microseconds per environment step of each part, each measured for so many seconds."""
        steps = self.settings.rollout_steps * self.settings.envs * self.valid_share
        parts = {
            "simulator_us": per_call_s(self.step, seconds) * self.settings.rollout_steps,
            "forward_us": per_call_s(self.forward, seconds),
            "gradient_us": per_call_s(self.backward, seconds) * self.settings.passes * self.settings.minibatches,
        }
        return {name: 1e6 * cost_s / steps for name, cost_s in parts.items()}


class Alone:
    """The actor's worker at a channel that answers each gradient at once, with weights that change nothing.

    allowed_modules: that the experiment's settings name.
    """

    def __init__(self, experiment: config.Experiment, allowed_modules: frozenset[str] = frozenset()) -> None:
        welcome = _welcome(experiment, allowed_modules)
        self._worker = TrainingWorker(welcome, allowed_modules)
        self._channel = channel = WorkerChannel(lambda work: _answer(channel, work))
        channel.configure(welcome)
        channel.permit(welcome.credit)
        theta = self._worker.flat.vector()
        channel.adopt(Weights(1, 0, theta, None, 0, theta, 0))

    def rate(self, seconds: float) -> float:
        """Environment steps per second."""
        self._worker.step(self._channel, 1)
        before, began = self._channel.stats.env_steps, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            self._worker.step(self._channel, 1)
        return (self._channel.stats.env_steps - before) / spent


def _answer(channel: WorkerChannel, work: Work) -> None:
    """The link's side: an applied verdict and a snapshot, which leaves the policy as it was."""
    held = channel.newest()
    assert held is not None
    channel.settle(work, restore=False)
    channel.adopt(Weights(held.epoch, held.version + 1, held.theta, None, 0, held.target, 0))


def _welcome(experiment: config.Experiment, allowed_modules: frozenset[str]) -> Welcome:
    table = config.actor_table(experiment)
    settings = read_settings(table)
    _, flat = build_policy(settings, describe(settings, allowed_modules), 0, allowed_modules)
    return Welcome(
        instance=1,
        run="bench",
        epoch=1,
        session=1,
        ordinal=0,
        seed=0,
        credit=experiment.learner.credit,
        heartbeat_s=experiment.learner.heartbeat_s,
        silence_s=experiment.learner.silence_s,
        quantity=experiment.learner.quantity,
        weights="*",
        layout=flat.layout(),
        table=table,
        table_digest=digest_of(table),
        learning_rate=NEXT_TO_NOTHING,
    )


def _simulators(settings: ActorSettings) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """As Gymnasium itself makes them, vectorised as the actor has it."""
    own = gymnasium.spec(settings.env).vector_entry_point is not None
    mode, arguments = ("vector_entry_point", {}) if own else ("sync", {"copy": False})
    options: dict[str, Any] = dict(settings.env_options)
    if own and settings.env.startswith("ALE/"):
        options.setdefault("num_threads", 1)  # as the actor has it
    env = gymnasium.make_vec(settings.env, settings.envs, mode, vector_kwargs=arguments, **options)
    env.reset(seed=0)
    return env


def run(name: str, seconds: float) -> dict[str, float]:
    """Medians over short slices in turns, so that a change of the machine's pace falls on both sides."""
    experiment = load(named(name), [], {})
    bare, alone = Bare(read_settings(config.actor_table(experiment))), Alone(experiment)
    slices = []
    for _ in range(max(1, round(seconds / (6 * SLICE_S)))):
        costs = bare.measure(SLICE_S)
        rate = 1e6 / sum(costs.values())
        worker = alone.rate(3 * SLICE_S)
        slices.append({**costs, "bare": rate, "worker": worker, "worker_share": worker / rate})
    return {name: median(one[name] for one in slices) for name in slices[0]}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], float(sys.argv[2]))))
