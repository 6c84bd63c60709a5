"""θ, its version, and the one way in which gradients change it. Pure; runs on the math thread, the only writer of θ.

A gradient is refused whole or applied whole: everything that can be wrong with it is found before θ, the optimizer or
the observation moments are touched. No gradient can fail a batch; its outcome says what became of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from learner.events import APPLIED, Job, Outcome
from learner.optim.aggregation import Rule as Aggregation
from learner.optim.aggregation import merge, merge_moments
from learner.optim.applied import AppliedUpdate, Numbers
from learner.optim.delay_compensation import make_correction
from learner.optim.noise_scale import NoiseScale
from learner.optim.norms import NormCheck
from learner.optim.optimizers import Optimizer, StateMismatch
from learner.optim.staleness import Dropped, Rule, judge
from learner.optim.update import Update
from protocol.buffers import Buffer
from protocol.codecs.registry import codec
from protocol.errors import PayloadFault, Reason
from protocol.layout import Layout
from protocol.messages import Snapshot
from protocol.moments import FRESH, Moments


class Sound(msgspec.Struct, frozen=True):
    """A gradient that may be applied. scale: what its age costs it. moments: that came with it."""

    update: Update
    scale: float
    moments: Moments | None


class AppliedJobs(NamedTuple):
    """outcomes: one for each job, in order. applied: what θ went through, in order; each made one version."""

    outcomes: list[Outcome]
    applied: list[AppliedUpdate]


class Parameters:
    """θ and all that changes with it.

    theta: float32 [P], written in place by the optimizer that is bound to it. version: gradients applied so far.
    moments: of what actors normalise; None where they normalise nothing, and then what arrives of them is refused.
    noise: of what is applied, as it came.
    """

    def __init__(
        self,
        theta: np.ndarray,
        version: int,
        optimizer: Optimizer,
        rule: Rule,
        screen: NormCheck,
        layout: Layout,
        moments: Moments | None = None,
    ) -> None:
        assert theta.shape == (layout.length,)
        self.theta, self.version, self.moments, self.layout = theta, version, moments, layout
        self._optimizer, self._rule, self._norm_check = optimizer, rule, screen
        self._correction = make_correction(rule, optimizer, theta)
        self.noise = NoiseScale()

    def apply(self, jobs: Sequence[Job], rate: float) -> AppliedJobs:
        """Judge and apply each in order; the version moves with each one. rate: learning rate, >= 0.

        Where gradients are aggregated the jobs are one group, whose sound ones make one version together.
        """
        self.noise.begin_batch(len(jobs))
        if self._rule.aggregation != "none":
            return self._apply_group(jobs, rate, self._rule.aggregation)
        done = AppliedJobs([], [])
        for job in jobs:
            lag_updates = self.version - job.base_version
            judged = self._judge(job, self._optimizer.scratch)
            if isinstance(judged, Sound):
                self.noise.observe(job.session, judged.update.value, self.version)
                scale, applied = self._step(
                    judged.update, ((job.session, job.sequence),), job.base_version, rate, judged.scale, judged.moments
                )
                done.applied.append(applied)
                done.outcomes.append(self._outcome(job, APPLIED, scale, lag_updates))
            else:
                done.outcomes.append(self._outcome(job, judged, 0.0, lag_updates))
        return done

    def _apply_group(self, jobs: Sequence[Job], rate: float, aggregation: Aggregation) -> AppliedJobs:
        lags = [self.version - job.base_version for job in jobs]
        judged = [self._judge(job, None) for job in jobs]
        for job, each in zip(jobs, judged, strict=True):
            if isinstance(each, Sound):
                self.noise.observe(job.session, each.update.value, self.version)
        sound = [each for each in judged if isinstance(each, Sound)]
        applied = []
        if sound:
            merged = merge([each.update for each in sound], aggregation, self._rule.aggregate_trim)
            merged = merged.written() if self._optimizer.adds else merged.whole()
            moments = merge_moments([each.moments for each in sound if each.moments is not None], aggregation)
            numbers = tuple(
                (job.session, job.sequence) for job, each in zip(jobs, judged, strict=True) if isinstance(each, Sound)
            )
            applied.append(self._step(merged, numbers, self.version, rate, 1.0, moments)[1])
        outcomes = [
            self._outcome(job, APPLIED, 1.0, lag) if isinstance(each, Sound) else self._outcome(job, each, 0.0, lag)
            for job, each, lag in zip(jobs, judged, lags, strict=True)
        ]
        return AppliedJobs(outcomes, applied)

    def _step(
        self,
        update: Update,
        numbers: Numbers,
        base_version: int,
        rate: float,
        scale: float,
        moments: Moments | None,
    ) -> tuple[float, AppliedUpdate]:
        """Makes one version. What the update was scaled by, and what was applied."""
        mean, update = self._correction.step(update, self.version, base_version, rate, scale)
        self.version += 1
        if self.moments is not None and moments is not None:
            self.moments = self.moments.merge(moments)
        return mean, AppliedUpdate(numbers, update.codec, update.count, update.payload, rate, scale, moments)

    def repeat(self, applied: AppliedUpdate) -> None:
        """Apply again what a journal says was applied to this version. Raises PayloadFault, having changed nothing."""
        length, scratch = self.layout.length, self._optimizer.scratch
        value = codec(applied.codec).decode(applied.payload, length, applied.count, scratch)
        self._optimizer.step(value, applied.rate, applied.scale)
        if self.moments is not None and applied.moments is not None:
            self.moments = self.moments.merge(applied.moments)
        self.version += 1

    def read_moments(self, rows: int, buffer: Buffer) -> Moments | None:
        """Moments as a journal keeps them; None where none are kept here. Raises PayloadFault."""
        return None if self.moments is None else Moments.from_buffer(buffer, rows, self.moments.size)

    def _judge(self, job: Job, scratch: np.ndarray | None) -> Sound | Reason:
        """The gradient, young enough, decoded and found sound, or why not; changes nothing of θ.

        scratch: float32 [P] into which a dense one may be decoded.
        """
        age = judge(self.version - job.base_version, job.lag_s, self._rule)
        if isinstance(age, Dropped):
            return age.reason
        if job.length != self.layout.length:
            return Reason.WRONG_LENGTH
        try:
            value = codec(job.codec).decode(job.buffer, job.length, job.count, scratch)
            reason = self._norm_check.check(value, job.sender, job.arrived)
            if reason is not None:
                return reason
            return Sound(Update(value, job.codec, job.count, job.buffer), age.scale, self._fresh_moments(job))
        except PayloadFault as fault:
            return fault.reason

    def _fresh_moments(self, job: Job) -> Moments | None:
        if job.moments is None:
            return None
        if self.moments is None:
            raise PayloadFault(Reason.MALFORMED_PAYLOAD, "observation moments in a run that normalises nothing")
        rows, buffer = job.moments
        return Moments.from_buffer(buffer, rows, self.moments.size, FRESH)

    def _outcome(self, job: Job, outcome: str, scale: float, lag_updates: int) -> Outcome:
        return Outcome(
            session=job.session,
            sequence=job.sequence,
            outcome=str(outcome),
            version=self.version,
            scale=scale,
            codec=job.codec,
            lag_updates=lag_updates,
            sender=job.sender,
            lag_s=job.lag_s,
            arrived=job.arrived,
            report=job.report,
            collected_from=job.collected_from,
        )

    @property
    def adds(self) -> bool:
        """Whether an update's payload says all that it does to θ: whoever adds it up has the same bits."""
        return self._optimizer.adds

    def remember(self, version: int, theta: Buffer) -> None:
        """Weights of ``version`` are about to be published. theta: float32 [P] as bytes that nobody will change."""
        self._correction.remember(version, theta)

    def digest(self) -> str:
        """BLAKE2b-128 of θ's bytes, in hexadecimal: two runs with equal ones hold equal bits."""
        return hashlib.blake2b(self.theta.data, digest_size=16).hexdigest()

    def checkpoint_arrays(self) -> dict[str, np.ndarray]:
        """Copies of all that continuing depends on: "theta", "optimizer.*", "staleness.*" and "observations.*"."""
        arrays = {"theta": self.theta.copy()}
        arrays |= {f"optimizer.{name}": array for name, array in self._optimizer.state().items()}
        arrays |= {f"staleness.{name}": array for name, array in self._correction.state().items()}
        return arrays | ({} if self.moments is None else _kept(self.moments))

    def restore(self, version: int, arrays: dict[str, np.ndarray]) -> None:
        """Take back ``checkpoint_arrays``. Raises StateMismatch, having changed nothing."""
        theta = _expect(arrays, "theta", self.theta)
        moments = None if self.moments is None else _restored(arrays, self.moments)
        self._optimizer.restore(_under("optimizer.", arrays))
        self._correction.restore(_under("staleness.", arrays))
        np.copyto(self.theta, theta)
        self.moments, self.version = moments, version


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def arrays_of(record: Snapshot, buffers: Sequence[Buffer]) -> dict[str, np.ndarray]:
    """What one of our own keys holds, as ``checkpoint_arrays`` names it: "theta", a view of its buffer, and
    "observations.*".
    """
    arrays = {"theta": np.frombuffer(buffers[0], "<f4")}
    return arrays | (_kept(Moments.from_buffer(buffers[1], record.observations)) if record.observations else {})


def _kept(moments: Moments) -> dict[str, np.ndarray]:
    return {
        "observations.count": np.array(moments.count, np.int64),
        "observations.mean": moments.mean.copy(),
        "observations.m2": moments.m2.copy(),
    }


def _restored(arrays: dict[str, np.ndarray], held: Moments) -> Moments:
    count = _expect(arrays, "observations.count", np.array(held.count, np.int64))
    mean = _expect(arrays, "observations.mean", held.mean).copy()
    return Moments(int(count), mean, _expect(arrays, "observations.m2", held.m2).copy())


def _expect(arrays: dict[str, np.ndarray], name: str, like: np.ndarray) -> np.ndarray:
    """The saved array of this name, of the same type and shape as the present one."""
    found = arrays.get(name)
    if found is None or (found.dtype, found.shape) != (like.dtype, like.shape):
        raise StateMismatch(name, like, found)
    return found
