"""θ, its version, and the one way in which gradients change it. Pure; runs on the math thread, the only writer of θ.

A gradient is refused whole or applied whole: everything that can be wrong with it is found before θ, the optimizer or
the observation moments are touched. No gradient can fail a batch; its outcome says what became of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learner.durability.journal_format import Draft, Numbers, Step
from learner.optim.aggregation import Rule as Aggregation
from learner.optim.aggregation import merge, merge_moments
from learner.optim.delay_compensation import make_remedy
from learner.optim.norms import Screen
from learner.optim.optimizers import Optimizer, StateMismatch
from learner.optim.staleness import Dropped, Rule, judge
from learner.optim.update import Update
from learner.stream.delta import Mirror, Record
from learner.stream.update_log import Log
from protocol import snapshot as records
from protocol.buffers import Buffer
from protocol.codecs.registry import Floats, codec
from protocol.errors import PayloadFault, Reason
from protocol.layout import Layout
from protocol.messages import Report, Snapshot
from protocol.moments import FRESH, Moments
from protocol.session import Sender

APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Job:
    """One admitted gradient, not yet decoded.

    base_version: of θ at which it was taken; 0 <= base_version <= current. length, count: as in its header, length
    being P. moments: rows and bytes of the observation statistics that came with it. lag_s: seconds for which its
    weights had not been the newest when it arrived. sender: who answers for it. arrived: when. report: what rode on it.
    """

    session: int
    sequence: int
    base_version: int
    codec: str
    length: int
    count: int
    buffer: Buffer
    moments: tuple[int, Buffer] | None
    lag_s: float
    sender: Sender = ""
    arrived: float = 0.0
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job.

    outcome: "applied", or the Reason of its refusal. version: the one that applying it made, or the unchanged one.
    scale: what staleness multiplied it by, the mean over its coordinates where each has its own; 0 if refused.
    lag_updates: updates between its weights and its judgement. lag_s, arrived, report: as in the job.
    """

    session: int
    sequence: int
    outcome: str
    version: int
    scale: float
    codec: str
    lag_updates: int
    sender: Sender = ""
    lag_s: float = 0.0
    arrived: float = 0.0
    report: Report | None = None


class Parameters:
    """θ and all that changes with it.

    theta: float32 [P], written in place by the optimizer that is bound to it. version: gradients applied so far.
    moments: of what actors normalise; None where they normalise nothing, and then what arrives of them is refused.
    draft: of what the journal says next; None where none is kept.
    """

    def __init__(
        self,
        theta: np.ndarray,
        version: int,
        optimizer: Optimizer,
        rule: Rule,
        screen: Screen,
        layout: Layout,
        moments: Moments | None = None,
    ) -> None:
        assert theta.shape == (layout.length,)
        self.theta, self.version, self.moments = theta, version, moments
        self._optimizer, self._rule, self._screen, self._layout = optimizer, rule, screen, layout
        self._remedy = make_remedy(rule, optimizer, theta)
        self.draft = Draft() if rule.journaled else None
        self._log = Log(layout.digest, layout.length, version) if optimizer.adds else None
        self._budgeted = rule.budgeted
        self._mirror: Mirror | None = None  # of a stream with a budget, from the first key on

    def apply(self, jobs: Sequence[Job], rate: float) -> list[Outcome]:
        """Judge and apply each in order; the version moves with each one. rate: learning rate, >= 0.

        Where gradients are aggregated the jobs are one group, whose sound ones make one version together.
        """
        if self._rule.aggregation != "none":
            return self._apply_group(jobs, rate, self._rule.aggregation)
        return [self._apply_one(job, rate) for job in jobs]

    def _apply_one(self, job: Job, rate: float) -> Outcome:
        lag_updates = self.version - job.base_version
        judged = judge(lag_updates, job.lag_s, self._rule)
        if isinstance(judged, Dropped):
            return self._outcome(job, judged.reason, 0.0, lag_updates)
        try:
            update, moments = self._read(job, self._optimizer.scratch)
        except PayloadFault as fault:
            return self._outcome(job, fault.reason, 0.0, lag_updates)
        number = (job.session, job.sequence)
        scale = self._step(update, (number,), job.base_version, rate, judged.scale, moments)
        return self._outcome(job, APPLIED, scale, lag_updates)

    def _apply_group(self, jobs: Sequence[Job], rate: float, aggregation: Aggregation) -> list[Outcome]:
        lags = [self.version - job.base_version for job in jobs]
        refused: dict[int, str] = {}
        sound: list[Update] = []
        seen: list[Moments] = []
        for index, job in enumerate(jobs):
            judged = judge(lags[index], job.lag_s, self._rule)
            try:
                if isinstance(judged, Dropped):
                    raise PayloadFault(judged.reason, "too old")
                update, more = self._read(job, None)
            except PayloadFault as fault:
                refused[index] = fault.reason
                continue
            sound.append(update)
            if more is not None:
                seen.append(more)
        if sound:
            merged = merge(sound, aggregation, self._rule.aggregate_trim)
            merged = merged.written() if self._optimizer.adds else merged.whole()
            numbers = tuple((job.session, job.sequence) for index, job in enumerate(jobs) if index not in refused)
            self._step(merged, numbers, self.version, rate, 1.0, merge_moments(seen, aggregation))
        return [
            self._outcome(job, refused.get(index, APPLIED), float(index not in refused), lags[index])
            for index, job in enumerate(jobs)
        ]

    def _step(
        self,
        update: Update,
        numbers: Numbers,
        base_version: int,
        rate: float,
        scale: float,
        moments: Moments | None,
    ) -> float:
        """Makes one version, and says so in the stream's log and in the journal; what it was scaled by."""
        mean, applied = self._remedy.step(update, self.version, base_version, rate, scale)
        if self._log is not None:
            self._log.add(applied, float(np.float32(rate * scale)))
        if self.draft is not None:
            self.draft.add(numbers, applied, rate, scale, moments)
        self.version += 1
        if self.moments is not None and moments is not None:
            self.moments = self.moments.merge(moments)
        return mean

    def repeat(self, step: Step, payload: Buffer, moments: Buffer | None) -> None:
        """Apply what a journal says was applied to θ of this version. Raises PayloadFault, having changed nothing."""
        value = codec(step.codec).decode(payload, self._layout.length, step.count, self._optimizer.scratch)
        merged = self.moments
        if merged is not None and moments is not None:
            merged = merged.merge(Moments.from_buffer(moments, step.rows, merged.size))
        self._optimizer.step(value, step.rate, step.scale)
        self.moments = merged
        self.version += 1
        if self._log is not None:
            self._log.begin(self.version)

    def _read(self, job: Job, scratch: np.ndarray | None) -> tuple[Update, Moments | None]:
        """The gradient and its moments, decoded and found sound. Raises PayloadFault; changes nothing of θ.

        scratch: float32 [P] into which a dense one may be decoded.
        """
        if job.length != self._layout.length:
            raise PayloadFault(Reason.WRONG_LENGTH, f"{job.length} parameters, the layout has {self._layout.length}")
        value = codec(job.codec).decode(job.buffer, job.length, job.count, scratch)
        reason = self._screen.examine(value, job.sender, job.arrived)
        if reason is not None:
            raise PayloadFault(reason, f"L2 bound {self._screen.bound}")
        return Update(value, job.codec, job.count, job.buffer), self._read_moments(job)

    def _read_moments(self, job: Job) -> Moments | None:
        if job.moments is None:
            return None
        if self.moments is None:
            raise PayloadFault(Reason.MALFORMED_PAYLOAD, "observation moments in a run that normalises nothing")
        rows, buffer = job.moments
        return Moments.from_buffer(buffer, rows, self.moments.size, FRESH)

    def _outcome(self, job: Job, outcome: str, scale: float, lag_updates: int) -> Outcome:
        version, of_job = self.version, (job.sender, job.lag_s, job.arrived, job.report)
        return Outcome(job.session, job.sequence, str(outcome), version, scale, job.codec, lag_updates, *of_job)

    def snapshot(self, epoch: int) -> tuple[Snapshot, list[Buffer]]:
        """A key record of θ as it is now, or where followers of the stream hold less, of that; immutable copies."""
        record, buffers = records.key(epoch, self.version, self._layout.digest, self.published, self.moments)
        self._remedy.keep(self.version, buffers[0])
        if self._budgeted and self._mirror is None:
            self._mirror = Mirror(record, buffers)
        return record, buffers

    def record(self, epoch: int, allowed_bytes: float = math.inf, *, may_key: bool = True) -> Record:
        """What the weight stream says next: the updates since the last record; where those are not at hand a key.

        allowed_bytes: with a budget, where the updates are more, as much as fits of the difference to what followers
        hold. may_key: or a key, which makes what they hold exact.
        """
        told, mirror = self._told(epoch), self._mirror
        if mirror is None:
            return told if told is not None else self.snapshot(epoch)
        if told is not None and mirror.fits(told, allowed_bytes):
            record = mirror.follow(told)
        elif may_key:
            mirror.exact = True
            return mirror.follow(self.snapshot(epoch))
        else:
            record = mirror.delta(self.version, self.theta, self.moments, allowed_bytes)
        self._remedy.keep(self.version, mirror.theta.data)
        return record

    def _told(self, epoch: int) -> Record | None:
        """The updates since the last record; None where not all are at hand, or followers hold less than θ."""
        if self._log is None:
            return None
        if self._mirror is not None and not self._mirror.exact:
            self._log.begin(self.version)
            return None
        return self._log.record(epoch, self.version, self.theta, self.moments)

    @property
    def published(self) -> Floats:
        """float32 [P]: what who has followed the stream to its end holds; θ then, or less where it has a budget."""
        return self.theta if self._mirror is None or self._mirror.exact else self._mirror.theta

    def digest(self) -> str:
        """BLAKE2b-128 of θ's bytes, in hexadecimal: two runs with equal ones hold equal bits."""
        return hashlib.blake2b(self.theta.data, digest_size=16).hexdigest()

    def checkpoint_arrays(self) -> dict[str, np.ndarray]:
        """Copies of all that continuing depends on: "theta", "optimizer.*", "staleness.*" and "observations.*"."""
        arrays = {"theta": self.theta.copy()}
        arrays |= {f"optimizer.{name}": array for name, array in self._optimizer.state().items()}
        arrays |= {f"staleness.{name}": array for name, array in self._remedy.state().items()}
        return arrays | ({} if self.moments is None else _kept(self.moments))

    def restore(self, version: int, arrays: dict[str, np.ndarray]) -> None:
        """Take back ``checkpoint_arrays``. Raises StateMismatch, having changed nothing."""
        theta = _expect(arrays, "theta", self.theta)
        moments = None if self.moments is None else _restored(arrays, self.moments)
        self._optimizer.restore(_under("optimizer.", arrays))
        self._remedy.restore(_under("staleness.", arrays))
        np.copyto(self.theta, theta)
        self.moments, self.version = moments, version
        if self._log is not None:
            self._log.begin(version)


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
