"""One actor and one learner without delay against one plain loop in one process: the same θ, to the bit.

The loop is written once more from the paper's side: collect, estimate advantages, take minibatch gradients, step a
textbook optimizer. It shares the pure mathematics with the product and nothing of its plumbing: no compressor, no
codec, no session, no state machine, no snapshot.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from actor.algorithms.gradients import gradient, minibatches
from actor.algorithms.methods import PolicyTargets, Targets
from actor.algorithms.own import make_method
from actor.algorithms.returns import gae
from actor.algorithms.rollout import Collector
from actor.config import ActorSettings
from actor.environments.registry import describe, make_vector_envs
from actor.events import Feedback, Settled, Weights, Work
from actor.networks.build import build_policy
from actor.stats import WorkerStats
from actor.worker import TrainingWorker
from learner import events
from learner.apply_batch import apply_batch
from learner.config import Experiment, LearnerSettings, RunSettings, learner_settings
from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import age_rule
from learner.progress import Progress
from learner.state import Address, LearnerState
from learner.stream.writer import StreamWriter
from protocol import messages
from protocol.layout import Layout
from protocol.manifest import Manifest, digest_of
from protocol.messages import Gradient, Hello, Welcome
from protocol.snapshot import Reconstruction

SEED, ROLLOUTS, RATE = 11, 3, 2e-3
SMALL = ActorSettings(
    envs=3,
    rollout_steps=32,
    passes=2,
    minibatches=3,
    hidden=(8, 8),
    codec="f32",
    entropy_weight=0.01,
    local_steps=1,
    normalize_observations=False,
    normalize_returns=False,
)
ROUTE = b"actor"

Vector = np.ndarray[Any, np.dtype[np.float32]]


def initial() -> tuple[Vector, Layout]:
    _, flat = build_policy(SMALL, describe(SMALL, frozenset()), SEED)
    return flat.vector(), flat.layout()


class DirectLink:
    """What the worker takes for its desk: every gradient goes through the learner before ``hand_in`` returns."""

    def __init__(self, settings: LearnerSettings) -> None:
        self.stats = WorkerStats()
        theta, layout = initial()
        table = msgspec.msgpack.encode(SMALL)
        self.parameters = Parameters(
            theta, 0, make_optimizer(settings, theta), age_rule(settings), NormCheck(1e6), layout
        )
        self.stream = StreamWriter(self.parameters, budgeted=False)
        manifest = Manifest(
            run="run",
            env=SMALL.env,
            seed=SEED,
            layout=layout,
            actor_table=table,
            actor_digest=digest_of(table),
            created="",
        )
        self.state = LearnerState(
            Experiment(run=RunSettings(seed=SEED), learner=settings),
            manifest,
            Address(1, "*"),
            self.stream.key_frame(1),
            Progress(),
            Random(0),
            0.0,
        )
        self.held = Reconstruction(layout.digest, layout.length)
        self.held.apply(*self.state.publisher.published.key_frame)
        self.sequence = 0
        (welcome,) = self.hear(Hello("actor", 1, ("f32",)), [])
        assert isinstance(welcome, Welcome)
        self.welcome = msgspec.structs.replace(welcome, share=0.0)  # so that the first rollout is as long as all others

    def hear(self, message: messages.Message, buffers: list[bytes]) -> list[messages.Message]:
        """Over the wire's bytes to the learner; what it answers, once everything has happened."""
        read, raw = messages.decode(messages.encode(message, buffers))
        return self.handle(events.MessageArrived(ROUTE, read, raw, 0))

    def handle(self, event: events.Event) -> list[messages.Message]:
        answers: list[messages.Message] = []
        for effect in self.state.handle(event, 0.0):
            if isinstance(effect, events.Send):
                answers.append(effect.message)
            elif isinstance(effect, events.Publish):
                assert self.held.apply(effect.message, effect.buffers) == "taken"
            elif isinstance(effect, events.ApplyBatch):
                applied = apply_batch(self.parameters, self.stream, effect, 1)
                answers += self.handle(replace(applied, math_s=0.0, record_s=0.0, key_frame_s=0.0))
        return answers

    def first_weights(self, generation: int) -> Weights:
        return self.newest()

    def newest(self) -> Weights:
        return Weights(self.held.epoch, self.held.version, self.held.theta, None)

    permits_left = 1
    share = 0.0

    def check(self, generation: int | None) -> None:
        pass

    def await_permit(self, generation: int) -> None:
        pass

    def hand_in(self, work: Work) -> None:
        self.sequence += 1
        session = self.welcome.session
        message = Gradient(session, self.sequence, work.base_version, work.codec, work.length, work.count, work.report)
        (verdict,) = self.hear(message, [work.payload])
        assert isinstance(verdict, messages.Verdict)
        (ruling,) = verdict.rulings
        assert (ruling.outcome, ruling.version, ruling.scale) == ("applied", self.sequence, 1.0)

    def collect_feedback(self) -> list[Feedback]:
        return []

    def collect_settled(self) -> list[Settled]:
        return []

    def collect_refused(self) -> list[Work]:
        return []


def through_the_house(settings: LearnerSettings) -> Vector:
    """θ after so many rollouts of the real worker and the real learner."""
    link = DirectLink(settings)
    worker = TrainingWorker(link.welcome, frozenset())
    for _ in range(ROLLOUTS):
        worker.step(link, 0)
    worker.close()
    assert link.parameters.version == ROLLOUTS * SMALL.passes * SMALL.minibatches
    assert link.state.progress.env_steps == link.stats.env_steps > 0
    return link.parameters.theta


def gradients_of(step: Any) -> Vector:
    """The plain loop. step: (θ: float32 [P], gradient: float32 [P]) -> None, changes θ in place."""
    theta, _ = initial()
    rollout_seed, shuffle_seed = np.random.SeedSequence([SEED, 0]).generate_state(2)
    groups = make_vector_envs(SMALL, frozenset())
    spaces = groups[0].spaces
    policy, flat = build_policy(SMALL, spaces, seed=0)
    method = make_method(SMALL, spaces, policy, seed=0)
    collector = Collector(groups, policy, method.sampler, SMALL, int(rollout_seed))
    shuffle = np.random.default_rng(int(shuffle_seed))
    for _ in range(ROLLOUTS):
        flat.load(theta)
        rollout = collector.collect()
        assert rollout.values is not None
        assert rollout.next_values is not None
        logits = rollout.outputs[:-1] - rollout.outputs[:-1].max(2, keepdims=True)
        log_softmax = logits - np.log(np.exp(logits).sum(2, keepdims=True))
        log_probs = np.take_along_axis(log_softmax, rollout.actions, 2)[..., 0]
        advantages = gae(
            rollout.rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            rollout.valid,
            SMALL.discount,
            SMALL.gae_lambda,
        )
        targets = Targets(advantages + rollout.values, PolicyTargets(log_probs, advantages))
        for _ in range(SMALL.passes):
            for minibatch in minibatches(rollout, targets, SMALL, shuffle):
                flat.load(theta)
                vector, _, _ = gradient(flat, policy, method, minibatch, SMALL.max_gradient_norm)
                step(theta, vector)
    groups[0].close()
    return theta


def test_adam_at_the_learner() -> None:
    settings = learner_settings({"optimizer": "adam", "learning_rate": RATE, "anneal": "none", "publish_share": 1.0})
    theta, _ = initial()
    parameter = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    adam = torch.optim.Adam([parameter], lr=RATE, betas=(0.9, 0.999), eps=1e-5, fused=True)

    def step(theta: Vector, vector: Vector) -> None:
        parameter.grad = torch.from_numpy(vector.copy())
        adam.step()
        theta[:] = parameter.detach().numpy()

    assert through_the_house(settings).tobytes() == gradients_of(step).tobytes()


def plain_adam_direction(history: list[Vector]) -> Vector:
    """m̂ / (sqrt(v̂) + ε) of Kingma and Ba 2015 over all gradients so far, float64, straight from the sums."""
    t = len(history)
    m = sum((1 - SMALL.beta1) * SMALL.beta1 ** (t - 1 - i) * g.astype(np.float64) for i, g in enumerate(history))
    v = sum((1 - SMALL.beta2) * SMALL.beta2 ** (t - 1 - i) * g.astype(np.float64) ** 2 for i, g in enumerate(history))
    m_hat, v_hat = m / (1 - SMALL.beta1**t), v / (1 - SMALL.beta2**t)
    direction: Vector = (m_hat / (np.sqrt(v_hat) + SMALL.epsilon)).astype(np.float32)
    return direction


def test_preconditioned_updates_and_addition_to_the_bit() -> None:
    """θ ← θ − rate·u with the actor's own preconditioner and nothing between the two."""
    from actor.compression.preconditioner import Momentum, Preconditioner

    theta, _ = initial()
    preconditioner = Preconditioner(len(theta), Momentum(SMALL.beta1), SMALL.beta2, SMALL.epsilon)

    def step(theta: Vector, vector: Vector) -> None:
        theta -= np.float32(RATE) * preconditioner.update(vector)

    settings = learner_settings(
        {"optimizer": "preconditioned", "learning_rate": RATE, "anneal": "none", "publish_share": 1.0}
    )
    assert through_the_house(settings).tobytes() == gradients_of(step).tobytes()


def test_preconditioned_updates_are_adam() -> None:
    """The same against the paper's formula in float64: close, for rounding feeds back through the simulators."""
    history: list[Vector] = []

    def step(theta: Vector, vector: Vector) -> None:
        history.append(vector.copy())
        theta -= np.float32(RATE) * plain_adam_direction(history)

    settings = learner_settings(
        {"optimizer": "preconditioned", "learning_rate": RATE, "anneal": "none", "publish_share": 1.0}
    )
    np.testing.assert_allclose(through_the_house(settings), gradients_of(step), rtol=0, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "preconditioned"])
def test_twice_the_same(optimizer: Any) -> None:
    settings = learner_settings({"optimizer": optimizer, "learning_rate": RATE, "anneal": "none", "publish_share": 1.0})
    assert through_the_house(settings).tobytes() == through_the_house(settings).tobytes()
