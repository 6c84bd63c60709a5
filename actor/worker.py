"""The actor's main loop: collect a rollout, reuse it, hand in each gradient. Knows simulators and torch; no sockets.

Between any two gradients the newest weights are taken, so each is computed as fresh as the link allows. A gradient's
way goes on in ``compression.py`` and from there to the desk.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from actor.algorithms.gradients import Minibatch, gradient, minibatches
from actor.algorithms.losses import LossStats
from actor.algorithms.methods import make_method
from actor.algorithms.rollout import Collector, Normalizer, Rollout
from actor.algorithms.step_size import Stand, StrideControl
from actor.compression.bandwidth import Fitting, Uplink
from actor.compression.compressor import Compressor, Momentum, Preconditioner
from actor.compression.selection import Choice, Everything, make_choice
from actor.config import ActorSettings, read_settings
from actor.environments.registry import make_simulators
from actor.environments.spaces import Spaces
from actor.events import Answer, Weights, Work
from actor.handoff import Leaving
from actor.monitoring import log
from actor.networks.flat import FlatModule
from actor.networks.policy import build_policy
from protocol.codecs.budget import THIN
from protocol.codecs.registry import Encoded, codec
from protocol.errors import UserError
from protocol.layout import Layout
from protocol.messages import Episode, Fault, Losses, Report, Welcome
from protocol.moments import Moments

MAX_EPISODES = 10_000  # in one report, of an actor that could not report for long; far inside the wire's bound
LEAVING: tuple[str, Choice] = "i8", Everything()  # how all that is held back is said in the end
HOPELESS = 100  # gradients or rollouts in a row of which nothing comes, after which waiting is no use


class Link(Protocol):
    """What a worker needs of the desk."""

    env_steps: int
    simulator_failures: Mapping[str, int]
    faults: tuple[Fault, ...]
    collect_s: float
    learn_s: float
    compress_s: float
    residual_norm: float
    residual_age: float
    beta1: float

    def first_weights(self, generation: int) -> Weights: ...
    def newest(self) -> Weights | None: ...
    def await_permit(self, generation: int) -> None: ...
    def hand_in(self, work: Work) -> None: ...
    def collect_refused(self) -> list[Work]: ...
    def collect_answers(self) -> list[Answer]: ...


class Employer(Link, Protocol):
    """A link that may ask the worker to leave: it raises Leaving."""

    def hand_in_last(self, work: Work | None) -> None: ...


class Worker:
    """Simulators, network, method and compression of one configuration.

    uplink_kbps: of this machine's link, in place of the experiment's; heard where its codec is "auto".

    Raises UserError where the welcome's table or layout does not fit this machine or this version.
    """

    def __init__(
        self, welcome: Welcome, allowed_modules: frozenset[str], uplink_kbps: float | Literal["auto"] | None = None
    ) -> None:
        self.settings = settings = read_settings(welcome.table)
        rollout_seed, shuffle_seed = _seeds(welcome)
        self._groups = make_simulators(settings, allowed_modules)
        try:
            spaces = self._groups[0].spaces
            self.policy, self.flat = build_policy(settings, spaces, seed=0)
            if self.flat.layout().digest != welcome.layout.digest:
                raise UserError(_mismatch(welcome, self.flat))
            self._stride = StrideControl(
                settings.kl_target,
                stretches=welcome.quantity == "update",
                anneal_steps=welcome.anneal_steps,
                anneal_floor=welcome.anneal_floor,
            )
            self._compressor = make_compressor(settings, welcome.quantity, self.flat.layout(), rollout_seed)
            self._fitting = make_fitting(settings, self.flat.layout().length, uplink_kbps)
            self.method = make_method(settings, spaces, self.policy, rollout_seed)
            self._collector = Collector(self._groups, self.policy, self.method.chooser, settings, rollout_seed)
        except BaseException:
            self.close()
            raise
        self._shuffle = torch.Generator().manual_seed(shuffle_seed)
        self._weights: Weights | None = None
        self._report: Report | None = None
        self._moments: bytes | None = None
        self._losses = Losses()
        self._hopeless = 0
        self._overflow: Fault | None = None  # gradients that were not finite
        self._waited_s = 0.0  # for permits

    def run(self, link: Employer, generation: int) -> None:
        """Works until the link interrupts; asked to leave, hands in what it holds back first."""
        try:
            self._adopt(link.first_weights(generation))
            while True:
                self.step(link, generation)
        except Leaving:
            self._part(link)
            raise

    def step(self, link: Link, generation: int) -> None:
        """One rollout and all its gradients."""
        self._adopt(link.newest())
        began = time.perf_counter()
        rollout = self._collector.collect()
        link.collect_s += time.perf_counter() - began
        link.env_steps += rollout.env_steps
        self._tell_faults(link)
        self._note(rollout)
        if not rollout.env_steps:
            self._despair("rollouts had no step that counts")
        stats: LossStats | None = None
        norm = 0.0
        first = self._stand
        for minibatch in self._minibatches(rollout):
            began = time.perf_counter()
            link.await_permit(generation)
            self._waited_s += time.perf_counter() - began
            self._adopt(link.newest())
            began = time.perf_counter()
            vector, stats, norm = gradient(
                self.flat, self.policy, self.method, minibatch, self.settings.max_gradient_norm
            )
            link.learn_s += time.perf_counter() - began
            if not self._send(vector, norm, link):
                self._note_overflow(norm, stats, rollout, link)
            if self._stride.exhausted(stats.approx_kl):
                break
        if stats is not None:
            held = self._compressor
            link.residual_norm, link.residual_age, link.beta1 = held.residual_norm, held.residual_age, held.beta1
            self._losses = _losses(stats, norm, link.residual_norm)
            assert self._weights is not None
            env_steps = self._weights.env_steps
            self._stride.heed(self._losses.kl, stats.information, env_steps, first, self._stand)

    def close(self) -> None:
        """Ends the simulators."""
        for group in self._groups:
            group.close()

    def _minibatches(self, rollout: Rollout) -> Iterator[Minibatch]:
        """Every pass over the rollout, towards targets that are as fresh as the method wants them."""
        targets = self.method.targets(rollout)
        for number in range(self.settings.passes):
            if number and self.method.fresh_targets:
                targets = self.method.targets(rollout)
            yield from minibatches(rollout, targets, self.settings, self._shuffle)

    def _adopt(self, weights: Weights | None) -> None:
        if weights is None or weights is self._weights:
            return
        self._weights = weights
        self.flat.load(weights.theta)
        self.method.adopt(weights.env_steps, weights.target, weights.target_version)
        if weights.moments is not None and weights.moments.count > 1:
            self._collector.normalizer, self._collector.return_scale = normalization(self.settings, weights.moments)

    @property
    def _stand(self) -> Stand:
        assert self._weights is not None
        return self._weights.epoch, self._weights.version

    def _note(self, rollout: Rollout) -> None:
        """Remembers what the next gradient should report; adds up where no gradient took the last report along."""
        rows, self._moments = 0, None
        if rollout.moments is not None and rollout.moments[0]:
            rows, mean, m2 = rollout.moments
            self._moments = Moments(rows, mean, m2).to_buffer()
        episodes = tuple(Episode(score, length) for score, length in rollout.episodes)
        self._report = _joined(self._report, Report(rollout.env_steps, episodes, self._losses, rows))

    def _tell_faults(self, link: Link) -> None:
        """All groups' failures, and gradients that were left out."""
        counts: Counter[str] = sum((Counter(group.failures) for group in self._groups), Counter())
        link.simulator_failures = counts
        first: dict[str, str] = {
            kind: told for group in reversed(self._groups) for kind, told in group.first_failures.items()
        }
        faults = [Fault(kind, count, first.get(kind, "")[:200]) for kind, count in counts.items()]
        link.faults = (*faults, *([self._overflow] if self._overflow is not None else ()))

    def _note_overflow(self, norm: float, stats: LossStats, rollout: Rollout, link: Link) -> None:
        """A gradient with NaN or infinity would poison moments and residual: it is left out, counted and told once."""
        if self._overflow is None:
            rewards, seen = float(np.abs(rollout.rewards).max()), float(np.abs(rollout.observations).max())
            why = (
                f"policy loss {stats.policy_loss:.3g}, value loss {stats.value_loss:.3g}, largest reward {rewards:.3g}"
            )
            told = f"{self.settings.env}: a gradient has norm {norm}: {why}, largest number seen {seen:.3g}"
            log.say({"event": "gradient_not_finite", "detail": told})
            self._overflow = Fault("gradient_not_finite", 0, told[:200])
        self._overflow = Fault("gradient_not_finite", self._overflow.count + 1, self._overflow.detail)
        self._tell_faults(link)
        self._despair("gradients were not finite")

    def _send(self, vector: NDArray[np.float32], norm: float, link: Link) -> bool:
        """Whether there was something finite to send."""
        self._collect_refused(link)
        if not math.isfinite(norm):
            return False
        self._hopeless = 0
        began = time.perf_counter()
        answers = link.collect_answers()
        lags_updates = [answer.lag_updates for answer in answers if answer.lag_updates is not None]
        self._compressor.heed(lags_updates)
        self._stride.answered(lags_updates)
        if self._fitting is not None:
            round_trips_s = [answer.round_trip_s for answer in answers if answer.round_trip_s is not None]
            self._fitting.fit(self._compressor, round_trips_s, time.perf_counter(), self._waited_s)
        encoded = self._compressor.compress(vector, self._stride.length)
        link.compress_s += time.perf_counter() - began
        link.hand_in(self._work(encoded, self._compressor.codec.name))
        return True

    def _part(self, link: Employer) -> None:
        self._collect_refused(link)
        codec_name, choice = LEAVING if self._fitting is None else self._fitting.last()
        encoded = self._compressor.empty(codec_name, choice)
        link.hand_in_last(None if encoded is None else self._work(encoded, codec_name))

    def _collect_refused(self, link: Link) -> None:
        for work in link.collect_refused():
            self._compressor.restore(work.decoded)
            if work.report is not None:  # it never left, so nobody has booked it; its moments are let go
                self._report = _joined(work.report, self._report or Report(0, (), self._losses))

    def _work(self, encoded: Encoded, codec_name: str) -> Work:
        """A gradient with what is to be reported on it."""
        assert self._weights is not None
        report, moments = self._report, self._moments
        self._report = self._moments = None
        return Work(
            epoch=self._weights.epoch,
            base_version=self._weights.version,
            codec=codec_name,
            length=self.flat.layout().length,
            count=encoded.count,
            payload=encoded.buffer,
            decoded=encoded.decoded,
            report=report,
            moments=moments,
        )

    def _despair(self, what: str) -> None:
        """Nothing comes of it, and not for ever."""
        self._hopeless += 1
        if self._hopeless >= HOPELESS:
            known = [told for group in self._groups for told in group.first_failures.values()]
            known += [self._overflow.detail] if self._overflow is not None else []
            raise FloatingPointError(f"{HOPELESS} {what} in a row; the first: {'; '.join(known) or 'not known'}")


def normalization(settings: ActorSettings, moments: Moments) -> tuple[Normalizer | None, float]:
    """What the merged statistics make of observations, and what they multiply rewards by.

    The moments hold the observation's numbers (one, of all pixels, for an image), where settings normalise them, and
    then the discounted return.
    """
    mean, scale = moments.mean.astype(np.float32), moments.scale(1e-8)
    of_returns = int(settings.normalize_returns)
    normalizer = None
    if settings.normalize_observations:
        size = len(mean) - of_returns
        normalizer = Normalizer(mean[:size], scale[:size])
    return normalizer, float(scale[-1]) if of_returns else 1.0


def moments_size(settings: ActorSettings, spaces: Spaces) -> int:
    """D of the moments that these settings keep, 0 for none."""
    return settings.normalize_observations * spaces.normalized_size + int(settings.normalize_returns)


def make_fitting(settings: ActorSettings, length: int, uplink_kbps: float | Literal["auto"] | None) -> Fitting | None:
    """What keeps gradients within the link, where the settings leave the codec to it."""
    if settings.codec != "auto":
        return None
    return Fitting(Uplink(length, settings.uplink_kbps if uplink_kbps is None else uplink_kbps), length)


def make_compressor(settings: ActorSettings, quantity: str, layout: Layout, seed: int) -> Compressor:
    """What turns gradients into payloads: preconditioned where the learner applies plain addition."""
    preconditioner = None
    if quantity == "update":
        momentum = Momentum(settings.beta1, settings.momentum_lag)
        preconditioner = Preconditioner(layout.length, momentum, settings.beta2, settings.epsilon)
    shapes = [entry.shape for entry in layout.entries]
    if settings.codec == "auto" and quantity == "gradient":
        raise UserError(
            "actor.codec = 'auto' needs learner.optimizer = 'preconditioned': it changes what is sent of an update"
        )
    name = THIN if settings.codec == "auto" else settings.codec
    choice = make_choice(codec(name), shapes, settings.density, settings.density_warmup, settings.rank, seed)
    return Compressor(
        layout.length,
        name,
        choice,
        settings.residual_decay,
        preconditioner,
        masks_momentum=settings.mask_momentum,
    )


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
