"""What an actor's work costs when nothing surrounds it: ``python -m tests.bench.actor_bare EXPERIMENT SECONDS``.

In one process on one core: bare simulators with random actions, the policy's forward pass, its gradients; and beside
their sum the actor's own ``Worker`` at a real ``Desk`` whose link answers at once. Prints one JSON object.
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
import torch

from actor.config import ActorSettings
from actor.desk import Desk
from actor.envs import describe, make_simulators
from actor.events import Weights, Work
from actor.gradients import gradient, minibatches
from actor.rollout import Collector
from actor.worker import Worker, build_policy, read_settings
from learner import config
from protocol.manifest import digest_of
from protocol.messages import Welcome

SLICE_S = 0.15  # of each part at a time
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
        self.policy, self.flat = build_policy(settings, spaces.observation_size, spaces.actions, seed=0)
        self._simulators = _simulators(settings)
        generator = np.random.default_rng(0)
        self._actions = generator.integers(0, spaces.actions, (RANDOM_ROWS, settings.envs))
        collector = Collector(make_simulators(settings, frozenset()), self.policy, settings, seed=0)
        rollout = collector.collect()
        self.valid_share = rollout.env_steps / rollout.valid.size
        noise = generator.standard_normal(rollout.rewards.shape, np.float32)
        self._minibatch = next(minibatches(rollout, noise, settings, torch.Generator().manual_seed(0)))
        self._observations = rollout.observations.copy()
        self._t = 0

    def step(self) -> None:
        """One step of every simulator."""
        self._simulators.step(self._actions[self._t % RANDOM_ROWS])
        self._t += 1

    def forward(self) -> None:
        """One rollout's forward passes: logits row by row, since each decides the next, then all values at once."""
        logits = self.policy.policy_function()
        for row in self._observations:
            logits(row)
        self.policy.value_function()(self._observations.reshape(-1, self._observations.shape[2]))

    def backward(self) -> None:
        """One minibatch's gradient."""
        gradient(self.flat, self.policy, self._minibatch, self.settings)

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
    """The actor's worker at a desk that answers each gradient at once, with weights that leave the policy as it was."""

    def __init__(self, experiment: config.Experiment) -> None:
        welcome = _welcome(experiment)
        self._worker = Worker(welcome, frozenset())
        self._desk = desk = Desk(lambda work: _answer(desk, work))
        desk.configure(welcome)
        desk.permit(welcome.credit)
        desk.adopt(Weights(1, 0, self._worker.flat.vector(), None))

    def rate(self, seconds: float) -> float:
        """Environment steps per second."""
        self._worker.step(self._desk, 1)
        before, began = self._desk.env_steps, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            self._worker.step(self._desk, 1)
        return (self._desk.env_steps - before) / spent


def _answer(desk: Desk, work: Work) -> None:
    """The link's side: an applied verdict and a snapshot, which leaves the policy as it was."""
    held = desk.newest()
    assert held is not None
    desk.settle(work, restore=False)
    desk.adopt(Weights(held.epoch, held.version + 1, held.theta, None))


def _welcome(experiment: config.Experiment) -> Welcome:
    table = config.actor_table(experiment)
    settings = read_settings(table)
    spaces = describe(settings, frozenset())
    _, flat = build_policy(settings, spaces.observation_size, spaces.actions, seed=0)
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
    )


def _simulators(settings: ActorSettings) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """As Gymnasium itself makes them, vectorised as the actor has it."""
    own = gymnasium.spec(settings.env).vector_entry_point is not None
    mode, arguments = ("vector_entry_point", {}) if own else ("sync", {"copy": False})
    env = gymnasium.make_vec(settings.env, settings.envs, mode, vector_kwargs=arguments)
    env.reset(seed=0)
    return env


def run(name: str, seconds: float) -> dict[str, float]:
    """Medians over short slices in turns, so that a change of the machine's pace falls on both sides."""
    experiment = config.load(config.named(name), [], {})
    bare, alone = Bare(read_settings(config.actor_table(experiment))), Alone(experiment)
    slices = []
    for _ in range(max(1, round(seconds / (6 * SLICE_S)))):
        costs = bare.measure(SLICE_S)
        rate = 1e6 / sum(costs.values())
        worker = alone.rate(3 * SLICE_S)
        slices.append({**costs, "bare": rate, "worker": worker, "worker_share": worker / rate})
    return {name: median(one[name] for one in slices) for name in slices[0]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(sys.argv[1], float(sys.argv[2]))))
