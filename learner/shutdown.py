"""How a run ends: why, with which exit code, and the order of its last steps. Pure; ``now`` is an argument.

A run that ends takes nothing new. It finishes what was admitted, writes what evaluation called the best, writes a last
checkpoint, says goodbye. Each step waits for the one before, and the whole for ``drain_s`` plus SAVE_S at most.
"""

from __future__ import annotations

from enum import Enum

from learner.config import RunSettings
from learner.durability.checkpoint_schedule import SAVE_S, CheckpointSchedule
from learner.events import Announce, Effect
from learner.progress import Progress


class Stage(Enum):
    """Where the run stands."""

    RUNNING = "running"
    DRAINING = "draining"  # takes nothing new; the batch under way, then a last checkpoint
    FINISHED = "finished"


class Shutdown:
    """stage: where the run stands. exit_code: as in ``events.Finish``. solved: its target was reached. final: the run
    itself is over, so that actors need not come back.
    """

    def __init__(self, run: RunSettings, drain_s: float, saving: CheckpointSchedule) -> None:
        self.stage = Stage.RUNNING
        self.exit_code = 0
        self.solved = self.final = False
        self._run, self._drain_s, self._saving = run, drain_s, saving
        self._drain_by = 0.0

    @property
    def running(self) -> bool:
        """Whether gradients, hellos and checkpoints are still begun."""
        return self.stage is Stage.RUNNING

    @property
    def over(self) -> bool:
        """Whether nothing is said any more."""
        return self.stage is Stage.FINISHED

    def check_target(self, progress: Progress, now: float) -> list[Effect]:
        """Asked when gradients were applied, so that none that is refused ends the run as solved."""
        if not self.running or not progress.reached(self._run.until_return):
            return []
        self.solved = self.final = True
        return self.begin("target reached", 0, now)

    def check_limit(self, progress: Progress, now: float) -> list[Effect]:
        """Asked when steps were reported."""
        run = self._run
        if not self.running or run.until_steps is None or progress.env_steps < run.until_steps:
            return []
        self.final = True
        return self.begin("step limit reached", 3 if run.until_return is not None else 0, now)

    def begin(self, why: str, exit_code: int, now: float) -> list[Effect]:
        """Drains, unless that has begun."""
        if not self.running:
            return []
        self.stage, self.exit_code = Stage.DRAINING, exit_code
        self._drain_by = now + self._drain_s
        return [Announce("draining", {"why": why})]

    def abort(self, exit_code: int) -> None:
        """Ends at once, with what is on disk."""
        self.stage, self.exit_code, self.final = Stage.FINISHED, exit_code, False

    def late(self, now: float) -> bool:
        """Whether no batch is waited for any more."""
        return now >= self._drain_by

    def advance(self, now: float, *, applying: bool, waiting: bool, writing: bool) -> list[Effect]:
        """The next step of a run that drains; its stage says whether it was the last.

        applying: a batch is with the math thread. waiting: others are to go there. writing: a best is being written.
        """
        late = self.late(now)
        if not late and (applying or waiting or writing):
            return []
        unfinished = applying or self._saving.busy
        if not unfinished and (asked := self._saving.order_last(now)):
            return asked
        if (unfinished or writing) and now < self._drain_by + SAVE_S:
            return []
        if unfinished:
            self.exit_code = 1  # the last checkpoint is not on disk
        self.stage = Stage.FINISHED
        return []

    def checkpoint_failed(self) -> None:
        """What the run was for is not on disk, where that was its last one."""
        if self._saving.last:
            self.exit_code = 1
