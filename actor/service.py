"""The actor daemon's shell: turns sockets, the clock and signals into events, and effects into I/O. Decides nothing.

Two threads: the main one works (``worker.py``), the other runs the link's event loop; they meet at the worker's
channel. The link starts first, so that it dials while the simulators' modules are still being imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any, Literal

import uvloop

from actor import events
from actor.environments import signals
from actor.environments.contract import ContractViolation
from actor.environments.isolated import FailureBudgetSpent
from actor.events import ConnectionSettings, Effect, Event, Identity
from actor.handoff import Interrupted, WorkerChannel, WorkerFactory
from actor.link.weights import latest
from actor.monitoring import log
from actor.monitoring.liveness import Liveness
from actor.monitoring.metrics import Counters, render
from actor.monitoring.web import Pages, serve
from actor.state import ActorState
from actor.stats import WorkerStats
from protocol import frames as framing
from protocol import messages
from protocol.buffers import Buffer
from protocol.errors import PeerFault, UserError
from protocol.messages import Role, Welcome
from protocol.process.interrupts import Interrupts
from protocol.process.modules import raised
from protocol.process.notify import Supervisor
from protocol.session import Phase
from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import parse_learner_address
from protocol.transport.keys import actor_pair

TICK_S = 0.05
TRACE_FRAMES, TRACE_CHARACTERS = 20, 4000  # the innermost, which are the environment's; a line of its own on stderr
WORKER_LEAVES_S = 10.0  # after the link has ended; a step of a slow simulator, or the end of child simulators


def run(
    learner: str,
    name: str,
    allow_modules: Iterable[str],
    with_parent: bool,
    metrics: tuple[str, int] | None = None,
    uplink_kbps: float | Literal["auto"] | None = None,
    key: Path | None = None,
    give_up_after_s: float = math.inf,
) -> int:
    """Works for the learner at this address until told to stop; returns the exit code.

    with_parent: leave when the process that started this one is gone. metrics: host and port of a Prometheus page.
    uplink_kbps: in place of the experiment's, for the link of this machine. key: file of this actor's keys.
    give_up_after_s: how long a learner is waited for, each time that there is none.
    Raises UserError for an address or a page that cannot be.
    """
    allowed = frozenset(allow_modules)

    def import_factory() -> WorkerFactory:
        from actor.worker import TrainingWorker  # numpy and gymnasium take a while to import; the link dials meanwhile

        return lambda welcome, _: TrainingWorker(welcome, allowed, uplink_kbps)

    parent = os.getppid() if with_parent else None
    return _run_actor(ConnectionSettings(learner, name, key, give_up_after_s), "train", import_factory, parent, metrics)


def serve_player(connection: ConnectionSettings, factory: WorkerFactory) -> int:
    """The same for an actor that plays with the learner's weights and trains nothing."""
    return _run_actor(connection, "evaluate", lambda: factory)


def _run_actor(
    connection: ConnectionSettings,
    role: Role,
    import_factory: Callable[[], WorkerFactory],
    parent: int | None = None,
    metrics: tuple[str, int] | None = None,
) -> int:
    """The life of one actor, from its address to its exit code. import_factory: imports what the work needs."""
    service = Service(connection, role, parent)
    signals.install(service.signalled)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what an environment prints is passed on as it comes
    service.start()
    if metrics is not None:
        serve(Pages(lambda: render(service.counters), service.liveness_problem, service.readiness_problem), *metrics)
    try:
        _work(service, import_factory)
    finally:
        code = service.join()
        signals.ignore()
        log.close()
    return code


def _work(service: Service, import_factory: Callable[[], WorkerFactory]) -> None:
    """The main thread's life: build what a welcome describes, work until interrupted, again; or until it is done."""
    factory = import_factory()
    service.importing = False
    generation = 0
    with contextlib.suppress(Interrupted):
        while True:
            welcome, generation = service.channel.next_welcome(generation)
            try:
                _run_worker(service, factory, welcome, generation)
            except BaseException as error:  # an environment in this process may also try to end the interpreter
                service.post(_failed(error))


def _run_worker(service: Service, factory: WorkerFactory, welcome: Welcome, generation: int) -> None:
    with contextlib.closing(factory(welcome, service.post)) as worker, contextlib.suppress(Interrupted):
        service.post(events.WorkerReady())
        worker.run(service.channel, generation)
        service.post(events.StopRequested("the work is done"))


def _failed(error: BaseException) -> events.WorkerFailed:
    """What ended the worker, in words; with a traceback where it may be anybody's fault."""
    if isinstance(error, UserError):
        return events.WorkerFailed(str(error), 2)
    if isinstance(error, FailureBudgetSpent | ContractViolation):
        return events.WorkerFailed(str(error), 1)
    trace = "".join(traceback.format_exception(error, limit=-TRACE_FRAMES))[-TRACE_CHARACTERS:]
    return events.WorkerFailed(raised(error).removeprefix("raised "), 1, trace)


class Service:
    """Owns the link's thread, its loop and its sockets."""

    def __init__(self, connection: ConnectionSettings, role: Role, parent: int | None) -> None:
        """Raises UserError for an address or a key that cannot be."""
        self.channel = WorkerChannel(
            lambda work: self.post(events.WorkDone(work)), lambda work: self.post(events.LastWorkDone(work))
        )
        self._learner, self._parent = parse_learner_address(connection.learner), parent
        self._pair = None if connection.key is None else actor_pair(connection.key)
        identity = Identity(connection.name, secrets.randbits(62) + 1, role)
        self._state = ActorState(identity, str(self._learner), SystemRandom(), connection.give_up_after_s)
        self.counters = Counters()
        self.importing = True
        self._liveness, self._supervisor = Liveness(time.monotonic()), Supervisor(os.environ)
        self._interrupts = Interrupts()
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._finished = asyncio.Event()
        self._sockets: ActorSockets | None = None
        self._exit_code = 1
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        """Begins to dial."""
        self._thread.start()

    def post(self, event: Event) -> None:
        """From any thread: lets the link's loop handle ``event``."""
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to care
            self._loop.call_soon_threadsafe(self._handle, event)

    def signalled(self, number: int, frame: object) -> None:
        """On the main thread: drain; twice: at once, with the exit code that was decided, if one was."""
        meaning = self._interrupts.receive(number, time.monotonic())
        if meaning == "insists":
            os._exit(self._exit_code)
        if meaning == "first":
            self.post(events.StopRequested(signal.Signals(number).name))

    def liveness_problem(self) -> str | None:
        """From any thread: why this process is not alive, or None."""
        return self._liveness.trouble(time.monotonic())

    def readiness_problem(self) -> str | None:
        """From any thread: why it does not work for its learner, or None."""
        if (trouble := self.liveness_problem()) is not None or self._state.phase is Phase.ACTIVE:
            return trouble
        return f"no session with {self._learner}: {self._state.backoff.describe(time.monotonic())}"

    def join(self) -> int:
        """Waits for the link to end and returns the exit code."""
        self._thread.join()
        return self._exit_code

    def close(self) -> None:
        """Wakes the worker for good, and lets go of a loop that no longer runs."""
        self.channel.close()
        self._loop.close()

    # the link's thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self.close()
            if self.importing:  # out of which an exception does not always come as what it was
                log.close()
                os._exit(self._exit_code)
            self._exit_later()

    def _exit_later(self) -> None:
        """A simulator that hangs must not outlive the link: nobody would ever hear of its process again."""
        overdue = threading.Timer(WORKER_LEAVES_S, os._exit, (self._exit_code,))
        overdue.daemon = True
        overdue.start()

    async def _serve(self) -> None:
        self._sockets = ActorSockets(self._learner, pair=self._pair)
        self._handle(events.Started())
        self._supervisor.ready()  # it serves whichever learner comes, so nobody has to wait for one
        receiving = self._loop.create_task(self._sockets.receive(self._link, self._weights))
        ticking = self._loop.create_task(self._tick())
        try:
            await asyncio.wait([receiving, ticking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._supervisor.stopping()
            self._sockets.close()
            ticking.cancel()
            await asyncio.gather(receiving, ticking, return_exceptions=True)
        for task in (receiving, ticking):
            if not task.cancelled():
                task.result()  # a bug in a handler ends the daemon with its traceback

    async def _tick(self) -> None:
        while not self._finished.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), TICK_S)
            worker = self.channel.stats
            self._handle(events.Ticked(worker))
            self.counters.worker, self.counters.link = worker, self._state.stats()
            self._report_liveness(worker, time.monotonic())
            if self._parent is not None and os.getppid() != self._parent:
                return  # the learner that started this actor is gone

    def _report_liveness(self, worker: WorkerStats, now: float) -> None:
        progress = (worker.env_steps, worker.collect_s, worker.learn_s, worker.compress_s, worker.wait_s)
        self._liveness.tick(progress, now)
        if self._liveness.trouble(now) is None:
            self._supervisor.alive(now)

    def _link(self, frames: Sequence[Buffer]) -> None:
        self.counters.bytes_down += sum(map(len, frames))
        self._handle(_read(frames))

    def _weights(self, waiting: Sequence[Sequence[Buffer]]) -> None:
        """From the newest key on, where there is one: whoever slept wakes to it and not to a queue."""
        self.counters.bytes_down += sum(len(frame) for frames in waiting for frame in frames)
        for event in latest([_read(frames) for frames in waiting]):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        for effect in self._state.handle(event, time.monotonic()):
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        """Carries out one decision; on the link's thread."""
        _PERFORM[type(effect)](self, effect)

    def _dial(self, effect: events.Dial) -> None:
        assert self._sockets is not None
        self.counters.dials += 1
        self._sockets.redial()

    def _send(self, effect: events.Send) -> None:
        assert self._sockets is not None
        frames = messages.encode(effect.message, effect.buffers)
        if self._sockets.send(frames):
            self.counters.bytes_up += sum(map(len, frames))

    def _subscribe(self, effect: events.Subscribe) -> None:
        assert self._sockets is not None
        try:
            self._sockets.subscribe(effect.address, effect.quantity)
        except PeerFault as fault:
            self._handle(events.FaultArrived(fault))

    def _announce(self, effect: events.Announce) -> None:
        line = {"event": effect.event, "actor": self._state.identity.name, **effect.fields}
        if effect.event in ("waiting_for_learner", "gave_up") and self._sockets is not None:
            line.setdefault("why", self._sockets.trouble)
        log.write(line)

    def _finish(self, effect: events.Finish) -> None:
        self._exit_code = effect.exit_code
        self.channel.close()
        self._finished.set()


def _read(frames: Sequence[Buffer]) -> events.MessageArrived | events.FaultArrived:
    """The event that these frames are."""
    try:
        framing.check(frames)
        return events.MessageArrived(*messages.decode(frames))
    except PeerFault as fault:
        return events.FaultArrived(fault)


_PERFORM: dict[type[Any], Callable[[Service, Any], None]] = {
    events.Dial: Service._dial,
    events.Send: Service._send,
    events.Subscribe: Service._subscribe,
    events.Configure: lambda service, effect: service.channel.configure(effect.welcome),
    events.Adopt: lambda service, effect: service.channel.adopt(effect.weights),
    events.Settle: lambda service, effect: service.channel.settle(effect.work, effect.restore, effect.feedback),
    events.Permit: lambda service, effect: service.channel.permit(effect.credit),
    events.Share: lambda service, effect: service.channel.set_share(effect.share),
    events.Leave: lambda service, _: service.channel.leave(),
    events.Announce: Service._announce,
    events.Finish: Service._finish,
}
