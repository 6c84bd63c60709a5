"""Simulators in child processes, each supervised alone. Knows processes, sockets and clocks; no torch.

All children step at once: ``send`` hands each its action, ``receive`` waits until each has answered or is late. A child
that raises, hangs, dies or answers nonsense is killed and started anew, alone. The outcome of its last action is
unknown, so that row is not valid in this step; it stays so, with the last good observation, while the new process
starts, which takes a second and which nobody waits for, and it carries no action in the step that brings the new
episode's first observation. A row's life::

    STARTING --READY--> (IDLE) --RESET--> RESETTING --FIRST--> IDLE <==STEP, OUTCOME==> STEPPING
        ^                                                                                  |
        +------------------- killed, counted and started anew, from any stage -------------+

Children end when their pipe closes, so also when this process is killed.
"""

from __future__ import annotations

import math
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actor.config import ActorSettings
from actor.environments.child import Child, Reply, Stage, end, exit_status, kill, start
from actor.environments.child_protocol import (
    ENDED,
    FAILURE_KINDS,
    MASKED,
    MASKED_SHIFT,
    MEASURED,
    SEED,
    TERMINATED,
    TRUNCATED,
    Description,
    Failure,
    FailureKind,
    Kind,
    Malformed,
    Measured,
    OnFailure,
    pack,
    unpack,
)
from actor.environments.conversion import packed
from actor.environments.masks import CONVENTIONS
from actor.environments.metrics import MetricBook
from actor.spaces import Spaces
from protocol.errors import UserError

COMMAND = (sys.executable, "-P", "-m", "actor.environments.child_main")  # -P: never from the working directory
START_S = (
    60.0  # for a process to import, make and first reset its environment on a busy machine; or the step's patience
)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class FailureBudgetSpent(RuntimeError):
    """More failures than the budget allows; to go on would only burn time.

    counts: failures by kind. budget: how many were allowed. row, last: where the last one was, and which.
    """

    def __init__(self, counts: Mapping[FailureKind, int], budget: int, row: int, last: Failure) -> None:
        super().__init__(counts, budget, row, last)
        self.counts, self.budget, self.row, self.last = dict(counts), budget, row, last

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        total = sum(self.counts.values())
        return (
            f"simulators failed too often: {total} times ({kinds}), {self.budget} allowed; "
            f"the last, number {self.row}, {self.last.kind}: {self.last.detail}"
        )


@dataclass(slots=True)
class IsolatedStep:
    """What one step of every simulator gave. The step after the next one overwrites it.

    observations: float32 or uint8 [B, *shape], after the action; where an episode ended, the next one's first
    rewards: float64 [B], raw; 0 where not valid
    terminated, truncated: bool [B]; False where not valid
    valid: bool [B]; False where the action was lost or never taken: the row failed, is absent, or just came back
    cut: bool [B]; True where this step's failure ended an episode, whose return nobody will know
    final_observations: as observations, with the true successor in finished rows; None where no episode ended
    final_masks: bool [B, L], what true successors allow in finished rows, likewise; None without masks
    """

    observations: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    final_observations: NDArray[Any] | None = None
    final_masks: NDArray[np.bool_] | None = None


def make_isolated_engine(
    settings: ActorSettings,
    count: int,
    allowed_modules: frozenset[str],
    on_failure: OnFailure,
    metrics: MetricBook | None = None,
) -> IsolatedEngine:
    """``count`` of the environments of ``settings``. metrics, and raises: as of IsolatedEngine."""
    deadline_s = settings.simulator_deadline_s
    description = Description(
        env_id=settings.env,
        env_options=settings.env_options,
        allowed_modules=tuple(sorted(allowed_modules)),
        deadline_s=deadline_s,
        start_deadline_s=max(START_S, deadline_s),
        action_mask=settings.action_mask,
        wrappers=settings.wrappers,
    )
    return IsolatedEngine(description, count, settings.simulator_failures, on_failure, metrics=metrics)


class IsolatedEngine:
    """B environments of one description, each in a process of its own.

    budget: failures in the whole life that are borne; on_failure gets (row, kind, detail) of each. spaces: what the
    children must report, where it is known already. metrics: where what they measure is booked. Everything that waits
    for children raises UserError, in the words of ``registry.py``, where the environment cannot be made at all, and
    FailureBudgetSpent past the budget; nothing but ``close`` may follow the latter.
    """

    restarts_cut_rows = True  # a row that failed

    def __init__(
        self,
        description: Description,
        count: int,
        budget: int,
        on_failure: OnFailure,
        spaces: Spaces | None = None,
        command: Sequence[str] = COMMAND,
        metrics: MetricBook | None = None,
    ) -> None:
        self.count, self.failure_counts = count, dict.fromkeys(FAILURE_KINDS, 0)
        self.first_failures: dict[FailureKind, str] = {}
        self._metrics = metrics or MetricBook()
        self._description, self._command, self._budget, self._on_failure = description, command, budget, on_failure
        self._spaces, self._seed, self._began = spaces, 0, False
        self._rebuilds = [0] * count  # of each row since the last reset
        self._stepping = 0  # rows that owe an outcome
        self._told = 0  # how masks are told, as flags have it
        self._selector = selectors.DefaultSelector()
        self._dying: list[subprocess.Popen[bytes]] = []
        self.children: list[Child] = []
        try:
            for row in range(count):
                self.children.append(self._launch(row, seed=None))
            while all(child.stage is Stage.STARTING for child in self.children):
                self._wait()
            self._before, self._now = _StepBuffers(count, self.spaces), _StepBuffers(count, self.spaces)
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Those of the rows, then those that were killed and have not ended yet."""
        return [*(child.process for child in self.children), *self._dying]

    @property
    def spaces(self) -> Spaces:
        """What every child reported."""
        assert self._spaces is not None
        return self._spaces

    @property
    def failures(self) -> int:
        """Of all rows and kinds, since the beginning."""
        return sum(self.failure_counts.values())

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """Engine.masks."""
        return self._now.masks if self._told else None

    @property
    def masked_by(self) -> str:
        """Engine.masked_by."""
        return CONVENTIONS[self._told]

    def reset(self, seed: int) -> NDArray[Any]:
        """Begins every row anew, row i from ``seed + i``, and waits for all. Returns observations [B, *shape]."""
        assert not self._stepping, "a step is under way"
        self._seed, self._rebuilds = seed, [0] * self.count
        for child in self.children:
            child.seed = seed + child.row
            if child.stage is Stage.IDLE:
                self._send_reset(child)
        while any(child.stage is not Stage.IDLE for child in self.children):
            self._wait()
        self._began = True
        for child in self.children:
            self._now.observations[child.row], self._now.masks[child.row] = child.first, child.first_mask
            child.arrived = False
        return self._now.observations

    def step(self, actions: Any) -> IsolatedStep:
        """actions: as ``ActionConverter`` gives them; ignored in rows that are absent."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Any) -> None:
        """Sets every row that is up to work."""
        assert self._began, "a reset comes first"
        assert not self._stepping, "a step is under way"
        self._before, self._now = self._now, self._before
        self._now.clear()
        spoken = packed(self.spaces.actions, actions).tobytes()
        width = len(spoken) // self.count
        deadline = monotonic() + self._description.deadline_s
        for row, child in enumerate(self.children):
            if child.stage is Stage.IDLE:
                self._stepping += 1
                child.room = self._now.room[row]
                self._send_request(child, Stage.STEPPING, Kind.STEP, spoken[row * width : (row + 1) * width], deadline)

    def receive(self) -> IsolatedStep:
        """Waits for the rows that step, or where none does for one to come back."""
        absent = self._stepping == 0
        while self._stepping or (absent and not any(child.arrived for child in self.children)):
            self._wait()
        batch = self._now.batch
        if not batch.valid.all():
            self._reap()
            self._expire()  # a start may be overdue; above, only silence tells
            self._fill_in(batch)
        self._now.finish(masked=bool(self._told))
        return batch

    def close(self) -> None:
        """Ends all children, within three times CLOSE_S. May be called twice."""
        for child in self.children:
            self._close_socket(child)
            if child.stage is not Stage.IDLE:  # it does not listen
                child.process.terminate()
            self._dying.append(child.process)
        self.children.clear()
        self._selector.close()
        end(self._dying)
        self._dying.clear()

    def _fill_in(self, batch: IsolatedStep) -> None:
        """Rows that gave no observation: the first one of those that came back, else what they showed last."""
        for row in np.flatnonzero(~batch.valid):
            child = self.children[row]
            batch.observations[row] = child.first if child.arrived else self._before.observations[row]
            self._now.masks[row] = child.first_mask if child.arrived else self._before.masks[row]
            child.arrived = False

    def _launch(self, row: int, seed: int | None) -> Child:
        process, connection = start(self._command)
        child = Child(row, process, connection, seed)
        self._selector.register(connection, READ, child)
        deadline = monotonic() + self._description.start_deadline_s
        self._send_request(child, Stage.STARTING, Kind.DESCRIPTION, pack(self._description), deadline)
        return child

    def _send_reset(self, child: Child) -> None:
        assert child.seed is not None
        child.begun_with = child.seed
        child.room = [[child.first.reshape(-1).view(np.uint8).data, child.first_mask.view(np.uint8).data]]
        deadline = monotonic() + self._description.start_deadline_s
        self._send_request(child, Stage.RESETTING, Kind.RESET, SEED.pack(child.seed), deadline)

    def _send_request(self, child: Child, stage: Stage, kind: Kind, payload: bytes, deadline: float) -> None:
        child.stage, child.deadline = stage, deadline
        child.send_request(kind, payload)
        if child.unwatched or child.unsent:
            self._watch(child)

    def _watch(self, child: Child) -> None:
        """Only what is due: a child that owes nothing and hangs up would wake us for ever."""
        if child.unwatched:
            self._selector.register(child.socket, READ | (WRITE if child.unsent else 0), child)
        else:
            self._selector.modify(child.socket, READ | (WRITE if child.unsent else 0), child)
        child.unwatched = False

    def _wait(self) -> None:
        """One wake-up. Late is only who has sent nothing when there is nothing to read, however late we look."""
        patience_s = min(child.deadline for child in self.children) - monotonic()
        events = self._selector.select(max(0.0, patience_s))
        for key, mask in events:
            self._handle_wakeup(key.data, mask)
        if not events:
            self._expire()

    def _handle_wakeup(self, child: Child, mask: int) -> None:
        if child.stage is Stage.IDLE:
            self._selector.unregister(child.socket)
            child.unwatched = True
            return
        if mask & WRITE and not child.flush():
            self._watch(child)
        if mask & READ and (failure := self._read_reply(child)) is not None:
            self._fail(child, failure)

    def _read_reply(self, child: Child) -> Failure | None:
        try:
            answer = child.read()
            return None if answer is None else self._handle_reply(child, answer)
        except (EOFError, OSError):
            return Failure("died", exit_status(child.process))
        except Malformed as error:
            return Failure("wrong_shape", str(error))

    def _handle_reply(self, child: Child, answer: Reply) -> Failure | None:
        if answer.kind == Kind.OUTCOME:
            if answer.flags & MEASURED:
                self._metrics.merge(unpack(answer.text, Measured))
            self._now.record(child.row, answer)
            self._stepping -= 1
            child.set_idle()
        elif answer.kind == Kind.FIRST:
            self._told = (answer.flags & MASKED) >> MASKED_SHIFT or self._told
            self._handle_first(child)
        elif answer.kind == Kind.READY:
            self._handle_spaces(child, unpack(answer.text, Spaces))
        elif answer.kind == Kind.REFUSED:
            return self._handle_refusal(unpack(answer.text, str))
        else:
            return unpack(answer.text, Failure)
        return None

    def _handle_first(self, child: Child) -> None:
        if child.seed != child.begun_with:  # a reset came in between
            self._send_reset(child)
            return
        child.arrived = True
        child.set_idle()

    def _handle_spaces(self, child: Child, spaces: Spaces) -> None:
        if self._spaces is None:
            self._spaces = spaces
        if spaces != self._spaces:
            raise Malformed(f"its spaces are {spaces}, and the others' {self._spaces}")
        child.first_mask = np.ones(spaces.actions.logits, np.bool_)
        child.first = np.zeros(spaces.observation_shape, spaces.observation_type)
        child.set_idle()
        if child.seed is not None:
            self._send_reset(child)

    def _handle_refusal(self, text: str) -> Failure:
        if not self._began:
            raise UserError(text)
        return Failure("raised", text)

    def _expire(self) -> None:
        now = monotonic()
        for child in list(self.children):
            if child.deadline <= now:
                self._fail(child, self._lateness(child))

    def _lateness(self, child: Child) -> Failure:
        if child.process.poll() is not None:  # something that it started holds the pipe open
            return Failure("died", exit_status(child.process))
        if child.stage is Stage.STEPPING:
            return Failure("hung", f"no answer to an action within {self._description.deadline_s:g} s")
        return Failure("hung", f"no first observation within {self._description.start_deadline_s:g} s")

    def _fail(self, child: Child, failure: Failure) -> None:
        """Counts it, and starts the row anew from a seed that only the last reset's seed, row and attempt decide."""
        if child.stage is Stage.STEPPING:
            self._stepping -= 1
            self._now.batch.cut[child.row] = True
        self._discard(child)
        self.failure_counts[failure.kind] += 1
        name, row = self._description.env_id, child.row
        self.first_failures.setdefault(failure.kind, f"{name}: {failure.detail}, row {row}")
        self._on_failure(child.row, failure.kind, failure.detail)
        if self.failures > self._budget:
            raise FailureBudgetSpent(self.failure_counts, self._budget, child.row, failure)
        self._rebuilds[child.row] += 1
        seed = None if child.seed is None else fresh_seed(self._seed, child.row, self._rebuilds[child.row])
        self.children[child.row] = self._launch(child.row, seed)

    def _discard(self, child: Child) -> None:
        self._close_socket(child)
        kill(child.process)
        self._dying.append(child.process)

    def _reap(self) -> None:
        self._dying = [process for process in self._dying if process.poll() is None]

    def _close_socket(self, child: Child) -> None:
        if not child.unwatched and child.socket.fileno() >= 0:
            self._selector.unregister(child.socket)
        child.socket.close()


def fresh_seed(seed: int, row: int, attempt: int) -> int:
    """For a row's process number ``attempt`` since the reset, from 1. Fits 31 bits, as some simulators want."""
    return int(np.random.SeedSequence((seed, row, attempt)).generate_state(1)[0]) >> 1


class _StepBuffers:
    """The arrays of one step, filled straight from the sockets. Two take turns, so a row can fall back on the last."""

    def __init__(self, count: int, spaces: Spaces) -> None:
        shape = (count, *spaces.observation_shape)
        self.observations = np.zeros(shape, spaces.observation_type)
        self._finals = np.zeros(shape, spaces.observation_type)
        self.masks, self._final_masks = np.ones((2, count, spaces.actions.logits), np.bool_)
        flags = np.zeros((4, count), np.bool_)
        self.batch = IsolatedStep(self.observations, np.zeros(count), *flags)
        self._flags = flags
        after = zip(_rows(self.observations), _rows(self.masks), strict=True)
        self.room = list(zip(after, zip(_rows(self._finals), _rows(self._final_masks), strict=True), strict=True))

    def clear(self) -> None:
        self._flags[...] = False
        self.batch.rewards[...] = 0.0

    def record(self, row: int, answer: Reply) -> None:
        self.batch.valid[row] = True
        self.batch.rewards[row] = answer.reward
        if answer.flags & ENDED:
            self.batch.terminated[row] = bool(answer.flags & TERMINATED)
            self.batch.truncated[row] = bool(answer.flags & TRUNCATED)

    def finish(self, *, masked: bool) -> None:
        batch = self.batch
        done = batch.terminated | batch.truncated
        if not done.any():
            batch.final_observations = batch.final_masks = None
            return
        batch.final_masks = self._final_masks if masked else None
        self._finals[~done] = self.observations[~done]
        batch.final_observations = self._finals


def _rows(array: NDArray[Any]) -> list[memoryview]:
    return [row.data for row in array.reshape(len(array), math.prod(array.shape[1:])).view(np.uint8)]
