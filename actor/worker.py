"""The actor's main loop: collect a rollout, reuse it, hand in each gradient. Knows simulators and torch; no sockets.

Between any two gradients the newest weights are taken, so each is computed as fresh as the link allows. A gradient's
way goes on in ``compression.py`` and from there to the desk.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import Any, Literal, Protocol, get_args, get_origin

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from actor.compression import Compressor, Preconditioner
from actor.config import ActorSettings
from actor.envs import make_simulators
from actor.events import Weights, Work
from actor.flat import FlatModule
from actor.gradients import gradient, minibatches
from actor.losses import LossStats
from actor.policy import ActorCritic
from actor.returns import gae, n_step_returns
from actor.rollout import Collector, Normalizer, Rollout
from protocol.codecs import CODECS
from protocol.errors import SettingError, UserError
from protocol.frames import MAX_FRAME_BYTES
from protocol.messages import Episode, Losses, Report, Welcome
from protocol.moments import Moments

MAX_EPISODES = 10_000  # in one report, of an actor that could not report for long; far inside the wire's bound
HOPELESS = 100  # gradients in a row that are not finite, after which waiting for better weights is no use


class Link(Protocol):
    """What a worker needs of the desk."""

    env_steps: int
    collect_s: float
    learn_s: float

    def first_weights(self, generation: int) -> Weights: ...
    def newest(self) -> Weights | None: ...
    def await_permit(self, generation: int) -> None: ...
    def hand_in(self, work: Work) -> None: ...
    def collect_refused(self) -> list[Work]: ...


class Worker:
    """Simulators, network and compression of one configuration.

    Raises UserError where the welcome's table or layout does not fit this machine or this version.
    """

    def __init__(self, welcome: Welcome, allowed_modules: frozenset[str]) -> None:
        self.settings = settings = read_settings(welcome.table)
        rollout_seed, shuffle_seed = _seeds(welcome)
        self._simulators = make_simulators(settings, allowed_modules)
        spaces = self._simulators.spaces
        self.policy, self.flat = build_policy(settings, spaces.observation_size, spaces.actions, seed=0)
        if self.flat.layout().digest != welcome.layout.digest:
            self._simulators.close()
            raise UserError(_mismatch(welcome, self.flat))
        self._collector = Collector(self._simulators, self.policy, settings, rollout_seed)
        self._shuffle = torch.Generator().manual_seed(shuffle_seed)
        self._compressor = make_compressor(settings, welcome.quantity, self.flat.layout().length)
        self._weights: Weights | None = None
        self._report: Report | None = None
        self._moments: bytes | None = None
        self._losses = Losses()
        self._hopeless = 0

    def run(self, link: Link, generation: int) -> None:
        """Works until the link interrupts."""
        self._adopt(link.first_weights(generation))
        while True:
            self.step(link, generation)

    def step(self, link: Link, generation: int) -> None:
        """One rollout and all its gradients."""
        self._adopt(link.newest())
        began = time.perf_counter()
        rollout = self._collector.collect()
        link.collect_s += time.perf_counter() - began
        link.env_steps += rollout.env_steps
        self._note(rollout)
        stats: LossStats | None = None
        norm = 0.0
        targets = _advantages(rollout, self.settings)
        for minibatch in minibatches(rollout, targets, self.settings, self._shuffle):
            link.await_permit(generation)
            self._adopt(link.newest())
            began = time.perf_counter()
            vector, stats, norm = gradient(self.flat, self.policy, minibatch, self.settings)
            self._send(vector, norm, link)
            link.learn_s += time.perf_counter() - began
        if stats is not None:
            self._losses = _losses(stats, norm, self._compressor.residual_norm)

    def close(self) -> None:
        """Ends the simulators."""
        self._simulators.close()

    def _adopt(self, weights: Weights | None) -> None:
        if weights is None or weights is self._weights:
            return
        self._weights = weights
        self.flat.load(weights.theta)
        if self.settings.normalize_observations and weights.moments is not None and weights.moments.count > 1:
            scale = weights.moments.scale(1e-8)
            self._collector.normalizer = Normalizer(weights.moments.mean.astype(np.float32), scale.astype(np.float32))

    def _note(self, rollout: Rollout) -> None:
        """Remembers what the next gradient should report; adds up where no gradient took the last report along."""
        rows, self._moments = 0, None
        if rollout.moments is not None and rollout.moments[0]:
            rows, mean, m2 = rollout.moments
            self._moments = Moments(rows, mean, m2).to_buffer()
        episodes = tuple(Episode(score, length) for score, length in rollout.episodes)
        self._report = _joined(self._report, Report(rollout.env_steps, episodes, self._losses, rows))

    def _send(self, vector: NDArray[np.float32], norm: float, link: Link) -> None:
        for work in link.collect_refused():
            self._compressor.restore(work.decoded)
            if work.report is not None:  # it never left, so nobody has booked it; its moments are let go
                self._report = _joined(work.report, self._report or Report(0, (), self._losses))
        if not math.isfinite(norm):
            self._despair()
            return
        self._hopeless = 0
        encoded = self._compressor.compress(vector)
        assert self._weights is not None
        report, moments = self._report, self._moments
        self._report = self._moments = None
        link.hand_in(
            Work(
                epoch=self._weights.epoch,
                base_version=self._weights.version,
                codec=self.settings.codec,
                length=self.flat.layout().length,
                count=encoded.count,
                payload=encoded.buffer,
                decoded=encoded.decoded,
                report=report,
                moments=moments,
            )
        )

    def _despair(self) -> None:
        """A gradient with NaN or infinity would poison moments and residual: it is left out, and not for ever."""
        self._hopeless += 1
        if self._hopeless >= HOPELESS:
            raise FloatingPointError(f"{HOPELESS} gradients in a row were not finite")


def read_settings(table: bytes) -> ActorSettings:
    """The actor table of a welcome; raises UserError naming the key that does not fit."""
    try:
        given = msgspec.msgpack.decode(table, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise UserError(f"[actor] {error}") from None
    types = {field.name: field.type for field in msgspec.structs.fields(ActorSettings)}
    for name in given.keys() - types.keys():
        known = [f"actor.{each}" for each in types]
        raise SettingError(f"actor.{name}", given[name], "there is no such setting", known)
    settings = ActorSettings(**{name: _converted(name, value, types[name]) for name, value in given.items()})
    if settings.codec not in CODECS:
        raise SettingError("actor.codec", settings.codec, f"one of {', '.join(CODECS)}")
    if settings.loss == "a3c" and settings.passes > 1:
        raise SettingError("actor.passes", settings.passes, "1 with actor.loss = 'a3c', which is not sound off-policy")
    return settings


def _converted(name: str, value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = ", ".join(get_args(kind)) if get_origin(kind) is Literal else ""
        raise SettingError(f"actor.{name}", value, f"one of {choices}" if choices else str(error)) from None


def build_policy(
    settings: ActorSettings, observation_size: int, actions: int, seed: int
) -> tuple[ActorCritic, FlatModule]:
    """The network of these settings and its flat vectors; its θ₀ follows from the seed."""
    _check_size(settings, observation_size)
    generator = torch.Generator().manual_seed(seed)
    policy = ActorCritic(observation_size, actions, settings.hidden, settings.activation, generator)
    return policy, FlatModule(policy)


def _check_size(settings: ActorSettings, observation_size: int) -> None:
    """Refuses a network whose snapshot would not fit a message, before memory for it is asked for."""
    sizes = (observation_size, *settings.hidden)
    weights = 2 * sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
    if 4 * weights > MAX_FRAME_BYTES:
        accepted = f"at most {MAX_FRAME_BYTES // 4:,} parameters in all, these have {weights:,}"
        raise SettingError("actor.hidden", list(settings.hidden), accepted)


def make_compressor(settings: ActorSettings, quantity: str, length: int) -> Compressor:
    """What turns gradients into payloads: preconditioned where the learner applies plain addition."""
    preconditioner = None
    if quantity == "update":
        preconditioner = Preconditioner(length, settings.beta1, settings.beta2, settings.epsilon)
    return Compressor(length, settings.codec, settings.density, settings.residual_decay, preconditioner)


def _advantages(rollout: Rollout, settings: ActorSettings) -> NDArray[np.float32]:
    """What ``settings.targets`` asks for, float32 [T, B]; the return is always advantage + value."""
    outcome = (rollout.next_values, rollout.terminated, rollout.truncated, rollout.valid, settings.discount)
    if settings.targets == "gae":
        return gae(rollout.rewards, rollout.values, *outcome, settings.gae_lambda)
    return n_step_returns(rollout.rewards, *outcome) - rollout.values


def _joined(earlier: Report | None, later: Report) -> Report:
    """One report of two rollouts: steps and episodes add up, the rest is the later one's."""
    if earlier is None:
        return later
    episodes = (earlier.episodes + later.episodes)[-MAX_EPISODES:]
    return Report(earlier.env_steps + later.env_steps, episodes, later.losses, later.observations)


def _losses(stats: LossStats, norm: float, residual_norm: float) -> Losses:
    return Losses(
        policy=stats.policy_loss,
        value=stats.value_loss,
        entropy=stats.entropy,
        kl=stats.approx_kl,
        clipped=stats.clip_fraction,
        gradient_norm=norm,
        residual_norm=residual_norm,
    )


def _seeds(welcome: Welcome) -> tuple[int, int]:
    """Independent seeds for rollouts and for shuffling, of the run's n-th session."""
    words = np.random.SeedSequence([welcome.seed, welcome.ordinal]).generate_state(2)
    return int(words[0]), int(words[1])


def _mismatch(welcome: Welcome, flat: FlatModule) -> str:
    ours, theirs = flat.layout(), welcome.layout
    return (
        f"the network built here has {ours.length} parameters in {len(ours.entries)} arrays, the learner's layout "
        f"{theirs.length} in {len(theirs.entries)}: another environment version or another Farflung version"
    )
