"""θ and the stream that says what becomes of it, held together as the math thread holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from learner.events import Job, KeyFrame, Outcome, Record
from learner.optim.parameters import Parameters
from learner.stream.writer import StreamWriter
from protocol.codecs.registry import Floats


class Streamed:
    """parameters: θ. stream: follows whatever is applied to it."""

    def __init__(self, parameters: Parameters, *, budgeted: bool = False) -> None:
        self.parameters, self._budgeted = parameters, budgeted
        self.stream = StreamWriter(parameters, budgeted=budgeted)

    def apply(self, jobs: Sequence[Job], rate: float) -> list[Outcome]:
        outcomes, applied = self.parameters.apply(jobs, rate)
        self.stream.add(applied)
        return outcomes

    def record(self, epoch: int, allowed_bytes: float = math.inf, *, may_key_frame: bool = True) -> Record:
        return self.stream.record(epoch, allowed_bytes, may_key_frame=may_key_frame)

    def key_frame(self, epoch: int) -> KeyFrame:
        return self.stream.key_frame(epoch)

    def restore(self, version: int, arrays: dict[str, np.ndarray]) -> None:
        """As a new life: the stream begins where θ stands."""
        self.parameters.restore(version, arrays)
        self.stream = StreamWriter(self.parameters, budgeted=self._budgeted)

    def checkpoint_arrays(self) -> dict[str, np.ndarray]:
        return self.parameters.checkpoint_arrays()

    @property
    def published(self) -> Floats:
        return self.stream.published

    @property
    def theta(self) -> Floats:
        return self.parameters.theta

    @property
    def version(self) -> int:
        return self.parameters.version
