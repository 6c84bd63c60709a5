"""The learner daemon's shell: turns sockets, the clock, signals and finished work into events, and effects into I/O.

Three threads. The loop's thread does I/O and asks ``state.py``; the math thread alone touches θ and the journal; the
disk thread writes checkpoints from copies that the math thread made. Decides nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np

from learner import config, events
from learner.apply_batch import apply_batch
from learner.durability.checkpoint import Checkpoint
from learner.durability.recovery import Files, Restored, begin_journal, blank, make_parameters, recall_best, restore
from learner.durability.storage import Store
from learner.events import Event
from learner.launch.initial import Initial, given
from learner.launch.local_actors import ChildFailed, Fleet, check, initial
from learner.launch.options import Options
from learner.launch.run_directory import RunDirectory, summary
from learner.monitoring.console import Console
from learner.monitoring.history import RECALLED, recalled
from learner.monitoring.metrics import Metrics, Shell
from learner.monitoring.progress_interval import Pace
from learner.monitoring.status import Memory
from learner.monitoring.summary import View, view
from learner.monitoring.web import Site, pages_of
from learner.optim.parameters import Parameters, arrays_of
from learner.progress import Progress
from learner.security.access import Doors
from learner.security.keyring import Keyring
from learner.state import Address, LearnerState
from learner.threads import WorkThread
from protocol import frames as framing
from protocol import manifest as manifests
from protocol import messages
from protocol.errors import TRY_AGAIN, PeerFault
from protocol.manifest import Manifest, digest_of
from protocol.messages import Buffer, Hello
from protocol.process.descriptors import RESERVE
from protocol.process.interrupts import Interrupts
from protocol.process.notify import Supervisor
from protocol.transport.learner_sockets import LearnerSockets

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TICK_S = 0.05
SHOW_S = 0.25  # between refreshes of the terminal
STOP_S = 3.0  # local actors may take this long to leave before they are killed
STUCK_S = 30.0  # a math thread that is busy for longer is not alive


def heed_signals(handler: Any) -> None:
    """Python's own handlers, and not the loop's, which puts the system's defaults in their place when it closes."""
    for number in SIGNALS:
        signal.signal(number, handler)


class Service:
    """One life of the learner."""

    def __init__(
        self,
        options: Options,
        directory: RunDirectory,
        sockets: LearnerSockets,
        console: Console,
        http: socket.socket | None,
        ring: Keyring | None = None,
        start: Callable[[threading.Thread], None] = threading.Thread.start,
    ) -> None:
        """start: starts the thread that writes checkpoints."""
        self._http = http
        self._doors = Doors(ring, sockets, self._post, self._announce)
        self._options, self._directory, self._sockets, self._console = options, directory, sockets, console
        self._experiment = options.experiment
        self._loop, self._supervisor = asyncio.get_running_loop(), Supervisor(os.environ)
        self._finished: asyncio.Future[int] = self._loop.create_future()
        self._math = WorkThread("math", self._loop, self._done, self._broke)
        self._disk = WorkThread("disk", self._loop, self._done, self._broke, start=start)
        self._store: Store | None = None
        self._restoring: asyncio.Future[tuple[Parameters, Progress]] | None = None
        self._fleet: Fleet | None = None
        self._site: Site | None = None
        self._interrupts = Interrupts()
        self._state: LearnerState | None = None
        self._parameters: Parameters | None = None
        self._limits = framing.HARD_LIMITS  # until the layout says what is enough
        self._digest = ""  # of the manifest, in checkpoints
        self._view: View | None = None
        self._memory: Memory | None = None  # where there are pages
        self._show_at, self._pace = 0.0, Pace()
        self._shell = Shell(
            loop_busy_s=time.thread_time,  # pages are rendered on the loop's thread
            math_busy_s=lambda: self._math.busy_s,
            strangers=lambda: sockets.strangers,
        )

    async def serve(self, local: str, keys: Path | None = None) -> int:
        """From the first signal handler to the last goodbye; returns the exit code.

        local: where this machine's actors dial. keys: the folder of theirs.
        """
        run = self._experiment.run
        heed_signals(lambda number, _: self._loop.call_soon_threadsafe(self._signalled, number))
        modules, told = self._options.allow_modules, (self._fleet_ended, self._announce)
        self._fleet = Fleet(local, run.actors, modules, *told, keys=keys)
        beginning = self._loop.create_task(self._begin())
        await _first(beginning, self._finished)
        if not beginning.done():  # stopped before it began
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)
            return self._finished.result()
        beginning.result()
        self._supervisor.ready()
        await self._run()
        exit_code = self._finished.result()  # a run that failed has no result, and raises what it failed of
        return self._conclude(exit_code)

    async def close(self) -> None:
        """Ends what was started: afterwards no child, no thread and no open port is left."""
        self._supervisor.stopping()
        if self._fleet is not None:
            await self._fleet.stop(STOP_S)
        if self._site is not None:
            await self._site.stop()
        if self._restoring is not None:  # it writes, and the directory must not be another's before it has ended
            await asyncio.wait([self._restoring])
        ended = all([self._math.close(), self._disk.close()])
        if ended and self._store is not None:  # a disk that hangs keeps its file: the number of one that
            self._store.close()  # was closed may be another's by the time it wakes

    async def _begin(self) -> None:
        """θ₀ or the newest checkpoint, then the state that everything else asks."""
        run = self._experiment.run
        table = config.actor_table(self._experiment)
        first = await self._theta(table)
        manifest = Manifest(
            run=run.name or f"{first.env.rpartition('/')[2].rpartition(':')[2]}-{run.seed}",
            env=first.env,
            seed=run.seed,
            layout=first.layout,
            observation_size=first.observation_size,
            actor_table=table,
            actor_digest=digest_of(table),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        epoch = self._directory.begin(self._experiment, manifest)
        self._digest = digest_of(manifests.encode(self._directory.manifest())).hex()
        self._limits = framing.Limits.for_length(manifest.layout.length)
        self._sockets.expect(self._limits)
        self._restoring = self._loop.run_in_executor(None, self._restore, first, epoch)  # a journal may be long
        parameters, progress = await asyncio.shield(self._restoring)
        self._parameters = parameters
        address = Address(epoch, self._sockets.weights)
        now = time.monotonic()
        key = parameters.snapshot(epoch)
        self._state = LearnerState(self._experiment, manifest, address, key, progress, SystemRandom(), now)
        started: dict[str, object] = {
            "run": manifest.run,
            "run_dir": str(self._directory.path),
            "epoch": epoch,
            "version": progress.updates,
            "parameters": manifest.layout.length,
            "bound": [str(address) for address in self._sockets.bound[1:]],
            "http": await self._open_site(self._state),
        }
        self._announce("started", started)

    async def _theta(self, table: bytes) -> Initial:
        """θ₀: as it was handed over, or made here, while local actors import torch and dial. table: theirs, msgpack.

        None of them starts before the table is known to be sound: a mistake is told in a second, and once.
        """
        run, modules, file = self._experiment.run, self._options.allow_modules, self._options.initial
        made = None if file is None else given(file, self._experiment.actor.get("env"), run.seed, digest_of(table))
        if run.actors and self._fleet is not None:
            await check(table, modules)
            self._fleet.start()
        return made or await initial(table, run.seed, modules)

    def _restore(self, first: Initial, epoch: int) -> tuple[Parameters, Progress]:
        """The numbers to go on from, and the journal that leads on from them."""
        settings, directory = self._experiment.learner, self._directory

        def tell(event: str, fields: dict[str, object]) -> None:
            self._loop.call_soon_threadsafe(self._announce, event, fields)

        where = directory.checkpoints, directory.journal
        files = Files(*where, self._digest, tell, journaled=directory.journaled)
        make = partial(blank, layout=first.layout, observations=first.observation_size)
        theta = np.array(first.theta, np.float32)
        parameters = make_parameters(settings, theta, first.layout, first.observation_size)
        resumes = directory.resuming
        restored = restore(parameters, settings, make, files) if resumes else Restored(Progress())
        # without a checkpoint too: a best may have been written before the first
        recall_best(restored.progress, files, lambda key: "evaluate" in self._doors.roles(key))
        journaled = settings.journal is not None
        journal = begin_journal(parameters, restored, settings, files, epoch) if journaled else None
        self._store = Store(files, settings, journal)
        self._shell.journal = self._store.books
        return parameters, restored.progress

    async def _open_site(self, state: LearnerState) -> str | None:
        """Serves the pages; their address, or None where they are off."""
        if self._http is None:
            return None
        metrics = Metrics(state, time.monotonic, self._shell)
        past = await self._loop.run_in_executor(None, self._directory.progress_lines, RECALLED)
        self._memory = Memory(time.monotonic(), recalled(past, state.progress.env_steps))
        pages = pages_of(state, metrics.render, time.monotonic, self._stuck, self._memory)
        self._site = Site(self._http, pages, [*self._options.http_names, str(self._options.http).rpartition(":")[0]])
        host = str(self._options.http).rpartition(":")[0]
        return f"http://{host}:{await self._site.start()}"

    def _stuck(self) -> str | None:
        busy_s = self._math.busy_s
        return f"the math thread has been busy for {busy_s:.0f} s" if busy_s > STUCK_S else None

    async def _run(self) -> None:
        receiving = self._loop.create_task(self._sockets.receive(self._received))
        ticking = self._loop.create_task(self._tick())
        await _first(receiving, ticking, self._finished)
        ticking.cancel()
        receiving.cancel()
        await asyncio.gather(receiving, ticking, return_exceptions=True)
        for task in (receiving, ticking):
            if not task.cancelled():
                task.result()  # a bug in a handler ends the daemon with its traceback

    def _conclude(self, exit_code: int) -> int:
        """Leaves the run's result; returns the exit code, 1 where it could not be written, unless that is 75."""
        assert self._state is not None
        now = time.monotonic()
        self._show(now, last=True)
        result = summary(self._state, now, self._options.started_at, exit_code)
        try:
            self._directory.finish(result)
        except OSError as error:
            self._announce("result_failed", {"detail": error.strerror or str(error)})
            return exit_code if exit_code == TRY_AGAIN else 1
        finally:
            self._announce("finished", result)
        return exit_code

    # events

    def _received(self, route: bytes, key: str, frames: Sequence[Buffer]) -> None:
        wire_bytes = sum(map(len, frames))
        event: Event
        try:
            framing.check(frames, self._limits)
            message, buffers = messages.decode(frames)
            event = events.MessageArrived(route, message, buffers, wire_bytes, key)
            if isinstance(message, Hello):
                event = replace(event, local=self._sockets.local(), roles=self._doors.roles(key))
        except PeerFault as fault:
            event = events.FaultArrived(route, fault, wire_bytes)
        self._post(event)

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._shell.loop_lag.observe(max(0.0, time.monotonic() - due))
            self._doors.look(time.monotonic())
            RESERVE.fill()
            self._post(events.Ticked())
            self._show(time.monotonic())
            if self._stuck() is None:
                self._supervisor.alive(time.monotonic())

    def _signalled(self, number: int) -> None:
        """Once: drain, where that has not begun. Twice: at once. Before the run began there is nothing to drain."""
        meaning, name = self._interrupts.hear(number, time.monotonic()), signal.Signals(number).name
        if self._state is None:
            self._end(0)
        elif meaning == "first":
            self._post(events.StopRequested(name, 0))
        elif meaning == "insists":
            if not self._finished.done():
                self._announce("stopped_at_once", {"why": f"a second signal, {name}"})
            self._end(1)
            if self._fleet is not None:
                self._fleet.kill()

    def _fleet_ended(self, detail: str, exit_code: int) -> None:
        """A local actor refuses its configuration, or none is left: the end, unless remote ones still train.

        What was learnt is saved first; a run that has learnt nothing yet fails with the actor's own words.
        """
        self._announce("actors_gone", {"detail": detail})
        if exit_code == 2 and (self._state is None or not self._state.progress.updates):
            self._broke(ChildFailed(detail))
        elif self._state is None:
            self._end(exit_code)
        elif all(self._doors.ours(peer) or not peer.trains for peer in self._state.peers.values()):
            self._post(events.StopRequested(detail, exit_code))

    def _done(self, event: Event) -> None:
        if not self._finished.done():  # what finishes after the end is in no result, and its log may be closed
            self._post(event)

    def _broke(self, error: BaseException) -> None:
        """Our own fault in a thread: it ends the daemon with its traceback."""
        if not self._finished.done():
            self._finished.set_exception(error)

    def _end(self, exit_code: int) -> None:
        if not self._finished.done():
            self._finished.set_result(exit_code)

    def _post(self, event: Event) -> None:
        assert self._state is not None
        for effect in self._state.handle(event, time.monotonic()):
            _PERFORM[type(effect)](self, effect)

    # effects

    def _send(self, effect: events.Send) -> None:
        assert self._state is not None
        frames = messages.encode(effect.message, effect.buffers)
        if self._sockets.send(effect.route, frames):
            self._state.progress.went(effect.message, sum(map(len, frames)))

    def _publish(self, effect: events.Publish) -> None:
        assert self._state is not None
        frames = messages.encode(effect.message, effect.buffers)
        self._sockets.publish(frames)
        self._state.progress.went(effect.message, sum(map(len, frames)))

    def _apply(self, effect: events.ApplyBatch) -> None:
        assert self._parameters is not None
        assert self._state is not None
        assert self._store is not None
        journal = self._store.journal
        self._math.submit(partial(apply_batch, self._parameters, effect, self._state.address.epoch, journal))

    def _write_checkpoint(self, effect: events.WriteCheckpoint) -> None:
        """Copied on the math thread, between two batches; packed and written on the disk thread."""
        assert self._parameters is not None
        assert self._state is not None
        assert self._store is not None
        parameters, epoch, store = self._parameters, self._state.address.epoch, self._store

        def copy() -> Event | None:
            if (refused := store.refuse(parameters.version)) is not None:
                return refused
            arrays = parameters.checkpoint_arrays()
            kept = Checkpoint(self._digest, parameters.version, epoch, effect.counters, arrays)
            based = store.mark(kept, rebase=effect.rebase)
            self._disk.submit(partial(store.save, kept, based=based))
            return events.JournalBegan(kept.version) if based else None

        self._math.submit(copy)

    def _write_best(self, effect: events.WriteBest) -> None:
        """The record is immutable, so the math thread need not be asked."""
        assert self._state is not None
        assert self._store is not None
        record, buffers = effect.record
        told = (self._digest, record.version, record.epoch, effect.counters, arrays_of(record, buffers))
        kept = Checkpoint(*told, effect.score, effect.key)
        self._disk.submit(partial(self._store.save_best, kept, leads=effect.leads))

    def _lead_best(self, effect: events.LeadBest) -> None:
        assert self._store is not None
        self._disk.submit(partial(self._store.lead_best, effect.key, effect.version))

    def _announce(self, event: str, fields: dict[str, object]) -> None:
        self._console.event(event, fields)
        self._directory.record(event, self._wall_s(), fields)

    def _wall_s(self) -> float:
        since = self._state.training_since if self._state is not None else None
        return 0.0 if since is None else time.monotonic() - since

    def _show(self, now: float, *, last: bool = False) -> None:
        """Progress for people and for progress.jsonl, a few times a second. last: what was reached, at any rate."""
        assert self._state is not None
        if now < self._show_at and not last:
            return
        self._show_at = now + SHOW_S
        self._view = view(self._state, now, self._view)
        self._console.refresh(self._view)
        if self._memory is not None:
            self._memory.look(self._state, now)
        if self._pace.due(self._view.env_steps, now) or last:
            self._directory.record("progress", self._wall_s(), self._view.fields())


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Until any of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


_PERFORM: dict[type[Any], Callable[[Service, Any], None]] = {
    events.Send: Service._send,
    events.Publish: Service._publish,
    events.ApplyBatch: Service._apply,
    events.WriteCheckpoint: Service._write_checkpoint,
    events.WriteBest: Service._write_best,
    events.LeadBest: Service._lead_best,
    events.Announce: lambda service, effect: service._announce(effect.event, effect.fields),
    events.Finish: lambda service, effect: service._end(effect.exit_code),
}
