"""The actor's main loop: collect a rollout, reuse it, hand in each gradient. Knows simulators and networks; no sockets.

Between any two gradients the newest weights are taken, so each is computed as fresh as the link allows. A gradient's
way goes on in ``compression/compressor.py`` and from there to the channel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import Literal, Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from actor.algorithms.curriculum import Curriculum
from actor.algorithms.gradients import Minibatch, gradient, minibatches
from actor.algorithms.local_steps import LocalSteps
from actor.algorithms.losses import LossStats
from actor.algorithms.own import declared, make_method
from actor.algorithms.report import ReportBuilder
from actor.algorithms.returns import explained_variance
from actor.algorithms.rollout import Rollout
from actor.algorithms.simulators import Simulators
from actor.algorithms.step_size import StepSizeControl, WeightsId
from actor.compression.build import make_bandwidth_fit, make_compressor
from actor.compression.selection import Everything, Selection
from actor.config import ActorSettings, read_settings
from actor.environments.registry import check
from actor.events import Feedback, Settled, Weights, Work
from actor.handoff import Leaving
from actor.monitoring import log
from actor.networks.build import build_policy
from actor.networks.flat import FlatParameters
from actor.spaces import flattens_images
from actor.stats import WorkerStats
from protocol.codecs.registry import Encoded
from protocol.errors import UserError
from protocol.messages import Fault, Welcome

LEAVING: tuple[str, Selection] = "i8", Everything()  # how all that is held back is said in the end
NAN_BUDGET = 100  # gradients or rollouts in a row of which nothing comes, after which waiting is no use


class GradientChannel(Protocol):
    """What ``step`` needs of the channel to the channel."""

    stats: WorkerStats
    share: float

    @property
    def permits_left(self) -> int: ...
    def check(self, generation: int | None) -> None: ...
    def first_weights(self, generation: int) -> Weights: ...
    def newest(self) -> Weights | None: ...
    def await_permit(self, generation: int) -> None: ...
    def hand_in(self, work: Work) -> None: ...
    def collect_refused(self) -> list[Work]: ...
    def collect_feedback(self) -> list[Feedback]: ...
    def collect_settled(self) -> list[Settled]: ...


class DrainableChannel(GradientChannel, Protocol):
    """A channel that may ask the worker to leave: it raises Leaving."""

    def hand_in_last(self, work: Work | None) -> None: ...


class TrainingWorker:
    """Simulators, network, method and compression of one configuration.

    uplink_kbps: of this machine's link, in place of the experiment's; used where its codec is "auto".

    Raises UserError where the welcome's table or layout does not fit this machine or this version.
    """

    def __init__(
        self, welcome: Welcome, allowed_modules: frozenset[str], uplink_kbps: float | Literal["auto"] | None = None
    ) -> None:
        self.settings = settings = read_settings(welcome.table, declared(allowed_modules))
        self.curriculum = Curriculum(settings)
        check(settings, allowed_modules)  # a later stage's module is asked for before the run depends on it
        rollout_seed, shuffle_seed = _seeds(welcome)
        self._seed, self._allowed = rollout_seed, allowed_modules
        self.simulators = Simulators(
            settings, allowed_modules, welcome.share, rollout_seed, adds=welcome.quantity == "update"
        )
        try:
            spaces = self.simulators.spaces
            if flattens_images(settings, spaces):
                log.write({"event": "image_flattened", "detail": f"{spaces.observation_shape} fits no convolutions"})
            self.policy, self.flat = build_policy(settings, spaces, 0, allowed_modules)
            if self.flat.layout().digest != welcome.layout.digest:
                raise UserError(_mismatch(welcome, self.flat))
            self.step_size = StepSizeControl(
                settings.kl_target,
                stretches=welcome.quantity == "update",
                annealing=welcome.annealing,
            )
            self.local = make_local_steps(settings, welcome)
            self.compressor = make_compressor(settings, welcome.quantity, self.flat.layout(), rollout_seed)
            self.bandwidth_fit = make_bandwidth_fit(settings, self.flat.layout().length, uplink_kbps)
            self.method = make_method(settings, spaces, self.policy, rollout_seed, allowed_modules)
            self.simulators.begin(self.policy, self.method.sampler)
        except BaseException:
            self.close()
            raise
        self._shuffle = np.random.default_rng(shuffle_seed)
        self._weights: Weights | None = None
        self._report = ReportBuilder()
        self._fullness = 1.0  # of what the present gradients are drawn from (Portion.fullness)
        self._nan_streak = 0
        self._overflow: Fault | None = None  # gradients that were not finite
        self._waited_s = 0.0  # for permits

    def run(self, channel: DrainableChannel, generation: int) -> None:
        """Works until the link interrupts; asked to leave, hands in what it holds back first."""
        try:
            self.adopt(channel.first_weights(generation))
            while True:
                self.step(channel, generation)
        except Leaving:
            self.hand_in_residual(channel)
            raise

    def step(self, channel: GradientChannel, generation: int) -> None:
        """One rollout and all its gradients."""
        self.refresh(channel)
        self._follow_curriculum()
        rollout, collected_with = self._collect(channel), self._weights_id
        losses: LossStats | None = None
        norm, by_others = 0.0, None
        for minibatch in self._minibatches(rollout):
            if self.local is None or self.local.full_with_next():
                self._await_permit(channel, generation)
            else:
                channel.check(generation)
            self.refresh(channel)
            began = time.perf_counter()
            vector, losses, norm = gradient(
                self.flat, self.policy, self.method, minibatch, self.settings.max_gradient_norm
            )
            channel.stats = replace(channel.stats, learn_s=channel.stats.learn_s + time.perf_counter() - began)
            if by_others is None:
                by_others = self._moved_by_others(losses, collected_with)
            if not self._send(vector, norm, channel):
                self._record_overflow(norm, losses, rollout, channel)
            if self.step_size.cuts and self.step_size.exhausted(losses.approx_kl):
                break
        if self.local is not None and self.local.due(channel.permits_left):
            self._await_permit(channel, generation)
            self._send_sum(self.local, channel)
        if losses is not None:
            held = self.compressor
            residual_norm = held.residual_norm
            channel.stats = replace(
                channel.stats, residual_norm=residual_norm, residual_age=held.residual_age, beta1=held.beta1
            )
            self._report.learnt(losses, norm, residual_norm)
            self._fit_length(losses.information, by_others or 0.0, collected_with)

    def _collect(self, channel: GradientChannel) -> Rollout:
        began = time.perf_counter()
        self.simulators.heed(channel.share)
        rollout = self.simulators.collect()
        stats = channel.stats
        collect_s, env_steps = stats.collect_s + time.perf_counter() - began, stats.env_steps + rollout.env_steps
        channel.stats = replace(stats, collect_s=collect_s, env_steps=env_steps)
        self._publish_faults(channel)
        self._report.add(rollout, self.simulators.metrics.take())
        if not rollout.env_steps:
            self._spend_nan_budget("rollouts had no step that counts")
        return rollout

    def _follow_curriculum(self) -> None:
        """Where the run has come to another stage, the next rollout is of its environment and learnt from its way."""
        assert self._weights is not None
        if (told := self.curriculum.follow(self._weights.env_steps)) is None:
            return
        log.write({"event": "stage_entered", **told})
        self.settings, held = self.curriculum.settings, self._weights
        self.method = make_method(self.settings, self.simulators.spaces, self.policy, self._seed, self._allowed)
        self.method.adopt(held.env_steps, held.target, held.target_version)
        self.simulators.change(self.settings, self.method.sampler)

    def _moved_by_others(self, losses: LossStats, collected_with: WeightsId) -> float:
        """Nats that others moved the policy by while this rollout was collected, before the first own gradient; 0
        where that is not of interest. losses: of the first gradient.
        """
        fleet = self.step_size.active and self.simulators.portion.share
        return losses.approx_kl if fleet and self._weights_id != collected_with else 0.0

    def _fit_length(self, information: float, by_others: float, collected_with: WeightsId) -> None:
        """The length of updates follows how far the policy moved."""
        assert self._weights is not None
        kl, env_steps, portion = self._report.losses.kl, self._weights.env_steps, self.simulators.portion
        if self.local is None:
            kl = portion.divergence(by_others, kl) if portion.share else kl
            self.step_size.update(kl, information, env_steps, collected_with, self._weights_id)
        elif not portion.share:
            self.step_size.update_local(kl, information, env_steps)
        else:  # where nothing new of the others came, nothing tells that updates are too short
            divergence = portion.divergence(by_others, kl)
            heard = by_others > 0.0
            self.step_size.update_local(divergence, information, env_steps, lengthens=heard, shared=True)

    def _await_permit(self, channel: GradientChannel, generation: int) -> None:
        began = time.perf_counter()
        channel.await_permit(generation)
        self._waited_s += time.perf_counter() - began

    def close(self) -> None:
        """Ends the simulators."""
        self.simulators.close()

    def _minibatches(self, rollout: Rollout) -> Iterator[Minibatch]:
        """As many as the portion has gradients, in passes over what is learnt from, towards targets that are as fresh
        as the method wants them.
        """
        if not rollout.env_steps:
            return
        portion = self.simulators.portion
        assert self._weights is not None
        rollout = self.simulators.recent(rollout, self._weights.epoch, self._weights.env_steps)
        self._fullness = portion.fullness(rollout.valid.size)
        parts, left = portion.parts(rollout.valid.size), portion.gradients
        sized = replace(self.settings, minibatches=parts)
        targets = self.method.targets(rollout)
        if rollout.values is not None:
            newest = slice(rollout.older, None)
            told = (rollout.values[newest], targets.returns[newest], rollout.valid[newest])
            self._report.explained_variance = explained_variance(*told)
        for number in range(math.ceil(left / parts)):
            if number and self.method.fresh_targets:
                targets = self.method.targets(rollout)
            yield from islice(minibatches(rollout, targets, sized, self._shuffle), left - number * parts)

    def adopt(self, weights: Weights | None) -> None:
        """Computes with these weights from now on; None or the same ones change nothing."""
        if weights is None or weights is self._weights:
            return
        if self.local is not None and self._weights is not None and weights.epoch != self._weights.epoch:
            self.local.restart()
        self._weights = weights
        if self.local is None:
            self.flat.load(weights.theta)
        else:
            self._load_own(self.local)
        self.method.adopt(weights.env_steps, weights.target, weights.target_version)
        if weights.moments is not None and weights.moments.count > 1:
            self.simulators.normalize(weights.moments)

    @property
    def _length(self) -> float:
        """Of the next update, as a factor."""
        return self.step_size.factor * self.simulators.portion.length * self._fullness

    @property
    def _weights_id(self) -> WeightsId:
        assert self._weights is not None
        return WeightsId(self._weights.epoch, self._weights.version)

    def _publish_faults(self, channel: GradientChannel) -> None:
        """All groups' failures, and gradients and metrics that were left out."""
        counts, first = self.simulators.failures, self.simulators.first_failures
        faults = [Fault(kind, count, first.get(kind, "")[:200]) for kind, count in counts.items()]
        faults += [] if self._overflow is None else [self._overflow]
        if left_out := self.simulators.metrics.left_out:
            detail = f"{self.settings.env}: {self.simulators.metrics.first_left_out}"
            faults.append(Fault("metric_left_out", left_out, detail[:200]))
        channel.stats = replace(channel.stats, simulator_failures=counts, faults=tuple(faults))

    def _record_overflow(self, norm: float, stats: LossStats, rollout: Rollout, channel: GradientChannel) -> None:
        """A gradient with NaN or infinity would poison moments and residual: it is left out and counted, and nothing is
        learnt again from where it came.
        """
        self.simulators.forget()
        if self._overflow is None:
            rewards, seen = float(np.abs(rollout.rewards).max()), float(np.abs(rollout.observations).max())
            why = (
                f"policy loss {stats.policy_loss:.3g}, value loss {stats.value_loss:.3g}, largest reward {rewards:.3g}"
            )
            detail = f"{self.settings.env}: a gradient has norm {norm}: {why}, largest number seen {seen:.3g}"
            log.write({"event": "gradient_not_finite", "detail": detail})
            self._overflow = Fault("gradient_not_finite", 0, detail[:200])
        self._overflow = Fault("gradient_not_finite", self._overflow.count + 1, self._overflow.detail)
        self._publish_faults(channel)
        self._spend_nan_budget("gradients were not finite")

    def _send(self, vector: NDArray[np.float32], norm: float, channel: GradientChannel) -> bool:
        """A gradient becomes an update, which is sent, or joins those that are sent together. Whether it was finite."""
        self._collect_refused(channel)
        if not math.isfinite(norm):
            return False
        self._nan_streak = 0
        if self.local is not None:
            self._keep(self.local, vector, channel)
            return True
        began = time.perf_counter()
        self._heed_feedback(channel)
        encoded = self.compressor.compress(vector, self._length)
        self._count_compression(began, channel)
        channel.hand_in(self._work(encoded, self.compressor.codec.name))
        return True

    def _keep(self, local: LocalSteps, vector: NDArray[np.float32], channel: GradientChannel) -> None:
        """An update joins those that are sent together, and θ takes it at once."""
        assert self._weights is not None
        full, began = local.full_with_next(), time.perf_counter()
        update = self.compressor.precondition(vector, self._length)
        local.add(update, self.step_size.rate_share(self._weights.env_steps), self.flat.theta)
        self._count_compression(began, channel)
        if full:
            self._send_sum(local, channel)

    def _send_sum(self, local: LocalSteps, channel: GradientChannel) -> None:
        """Hands in what compression takes of the updates since the last message, and of what it held back before."""
        began = time.perf_counter()
        self._heed_feedback(channel)
        encoded = self.compressor.send(local.take())
        local.sent(encoded.decoded)
        self._load_own(local)
        self._count_compression(began, channel)
        channel.hand_in(self._work(encoded, self.compressor.codec.name))

    def _heed_feedback(self, channel: GradientChannel) -> None:
        """What verdicts tell of lags and of the link, before the next message."""
        feedback = channel.collect_feedback()
        lags_updates = [each.lag_updates for each in feedback if each.lag_updates is not None]
        self.compressor.record_lags(lags_updates)
        self.step_size.record_lags(lags_updates)
        if self.bandwidth_fit is not None:
            round_trips_s = [each.round_trip_s for each in feedback if each.round_trip_s is not None]
            self.bandwidth_fit.update(self.compressor, round_trips_s, time.perf_counter(), self._waited_s)

    @staticmethod
    def _count_compression(began: float, channel: GradientChannel) -> None:
        stats = channel.stats
        channel.stats = replace(stats, compress_s=stats.compress_s + time.perf_counter() - began)

    def refresh(self, channel: GradientChannel) -> None:
        """The newest weights, and what became of this actor's own updates.

        In this order: what the weights show was settled before, and would else be taken off them a second time. What
        was refused is held back again before θ loses it, or a rollout would be collected without it.
        """
        before, newest = self._weights, channel.newest()
        if self.local is not None:
            self._collect_refused(channel)
        settled = channel.collect_settled()
        if self.local is not None:
            for decoded, version in settled:
                self.local.settled(decoded, version)
        self.adopt(newest)
        if self.local is not None and settled and self._weights is before:
            self._load_own(self.local)

    def _load_own(self, local: LocalSteps) -> None:
        """θ of the stream, less what is this actor's own and not in it."""
        assert self._weights is not None
        local.followed(self._weights.version)
        self.flat.load(self._weights.theta)
        local.subtract_from(self.flat.theta, self.compressor.residual)

    def hand_in_residual(self, channel: DrainableChannel) -> None:
        """Hands in all that compression holds back, or as much of it as the link bears."""
        self._collect_refused(channel)
        if self.local is not None and self.local.steps:
            self.compressor.hold(self.local.take())
        codec_name, selection = LEAVING if self.bandwidth_fit is None else self.bandwidth_fit.for_residual()
        encoded = self.compressor.compress_residual(codec_name, selection)
        channel.hand_in_last(None if encoded is None else self._work(encoded, codec_name))

    def _collect_refused(self, channel: GradientChannel) -> None:
        refused = channel.collect_refused()
        for work in refused:
            self.compressor.restore(work.decoded)
            if work.report is not None:
                self._report.restore(work.report)
        if refused and self.local is not None:
            self._load_own(self.local)

    def _work(self, encoded: Encoded, codec_name: str) -> Work:
        """A gradient with what is to be reported on it."""
        assert self._weights is not None
        report, moments = self._report.take()
        return Work(
            epoch=self._weights.epoch,
            base_version=self._weights.version,
            codec=codec_name,
            length=self.flat.layout().length,
            count=encoded.count,
            payload=encoded.buffer,
            decoded=encoded.decoded,
            report=report,
            moments=None if moments is None else moments.to_buffer(),
        )

    def _spend_nan_budget(self, what: str) -> None:
        """One more rollout or gradient came to nothing. Raises FloatingPointError once the budget is spent."""
        self._nan_streak += 1
        if self._nan_streak >= NAN_BUDGET:
            known = list(self.simulators.first_failures.values())
            known += [self._overflow.detail] if self._overflow is not None else []
            raise FloatingPointError(f"{NAN_BUDGET} {what} in a row; the first: {'; '.join(known) or 'not known'}")


def make_local_steps(settings: ActorSettings, welcome: Welcome) -> LocalSteps | None:
    """None where each gradient is a message: as asked, and with a learner that does not tell its rate, or whose own
    optimizer makes of a gradient what is not known here; then a line says why, if somebody asked for more.
    """
    asked = settings.local_steps
    if asked == 1:
        return None
    if welcome.quantity != "update" or not welcome.learning_rate:
        why = "an optimizer at the learner" if welcome.quantity != "update" else "a learner that does not tell its rate"
        if asked != "auto":
            log.write({"event": "local_steps_unused", "detail": f"with {why} each gradient is a message of its own"})
        return None
    return LocalSteps(welcome.layout.length, welcome.learning_rate, None if asked == "auto" else asked)


def _seeds(welcome: Welcome) -> tuple[int, int]:
    """Independent seeds for rollouts and for shuffling, of the run's n-th session."""
    words = np.random.SeedSequence([welcome.seed, welcome.ordinal]).generate_state(2)
    return int(words[0]), int(words[1])


def _mismatch(welcome: Welcome, flat: FlatParameters) -> str:
    ours, theirs = flat.layout(), welcome.layout
    return (
        f"the network built here has {ours.length} parameters in {len(ours.entries)} arrays, the learner's layout "
        f"{theirs.length} in {len(theirs.entries)}: another version of the environment, of your network or of Farflung"
    )
