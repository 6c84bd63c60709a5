"""What a journal says, repeated on θ: to go on after a crash, and to see a run again bit for bit. Knows no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from learner.config import LearnerSettings, optimizer_settings, with_optimizer
from learner.durability.checkpoint import state_digest
from learner.durability.journal_format import Batch, Head, Mark, Record, Step
from learner.optim.applied import AppliedUpdate
from learner.optim.parameters import Parameters
from protocol.buffers import Buffer
from protocol.errors import PayloadFault, SettingError, UserError


class ReplayError(UserError):
    """A record that does not lead on. version: of θ before it."""

    def __init__(self, version: int, cause: str) -> None:
        super().__init__(version, cause)
        self.version, self.cause = version, cause

    def __str__(self) -> str:
        return f"the journal cannot be repeated beyond version {self.version}: {self.cause}"


class JournalReplay:
    """θ on its way through a journal. counters: of the run, as the newest batch says them; None before the first.

    settings: that ``parameters`` were made with. make: others of the same layout, at zero. Another life of the run may
    have had another optimizer, or other constants of it, so after a head ``parameters`` may be others.
    """

    def __init__(
        self, parameters: Parameters, settings: LearnerSettings, make: Callable[[LearnerSettings], Parameters]
    ) -> None:
        self.parameters = parameters
        self.counters: dict[str, int | float] | None = None
        self._settings, self._make = settings, make

    def run(
        self, records: Iterable[tuple[Head | Record, Sequence[Buffer]]], until: int | None = None
    ) -> Iterator[Head | Mark]:
        """Repeats each batch, and gives what else there is when it is reached. until: version to stop at.

        Raises ReplayError.
        """
        for record, buffers in records:
            if isinstance(record, Batch):
                if until is not None and self.parameters.version >= until:
                    return  # not before the marks of that version
                self._batch(record, iter(buffers), until)
            else:
                if isinstance(record, Head):
                    self._optimize_as(record)
                yield record

    def _optimize_as(self, head: Head) -> None:
        if head.optimizer == optimizer_settings(self._settings):
            return
        try:
            self._settings, before = with_optimizer(self._settings, head.optimizer), self.parameters
        except SettingError as error:  # a setting that this version does not have
            raise ReplayError(head.version, f"its optimizer is another version's: {error}") from None
        self.parameters = self._make(self._settings)
        self.parameters.restore(before.version, before.checkpoint_arrays())

    def _batch(self, batch: Batch, buffers: Iterator[Buffer], until: int | None) -> None:
        for step in batch.steps:
            if self.parameters.version == until:
                return
            try:
                self.parameters.repeat(self._applied(step, buffers))
            except PayloadFault as fault:
                raise ReplayError(self.parameters.version, str(fault)) from None
        self.counters = batch.counters

    def _applied(self, step: Step, buffers: Iterator[Buffer]) -> AppliedUpdate:
        """Raises PayloadFault."""
        payload = next(buffers)
        moments = self.parameters.read_moments(step.rows, next(buffers)) if step.rows else None
        return AppliedUpdate(step.numbers, step.codec, step.count, payload, step.rate, step.scale, moments)

    @property
    def digest(self) -> str:
        """As in a mark."""
        return state_digest(self.parameters.checkpoint_arrays())
