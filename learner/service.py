"""The learner daemon's shell: turns sockets, the clock and finished work into events, and effects into I/O.

Three threads. The loop's thread does I/O and asks ``state.py``; the math thread alone touches θ and the journal; the
disk thread writes checkpoints from copies that the math thread made. Decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from learner import events
from learner.apply_batch import apply_batch
from learner.durability.checkpoint import Checkpoint
from learner.events import Event
from learner.launch.bootstrap import Begun, Resources
from learner.monitoring.advice import Adviser
from learner.monitoring.history import EARLIER_POINTS, read_earlier_lives
from learner.monitoring.metrics import Metrics, ServiceReadings
from learner.monitoring.progress_interval import ProgressInterval
from learner.monitoring.result import result_of
from learner.monitoring.scene import Place, scene_of
from learner.monitoring.stages import StageTeller
from learner.monitoring.status import Sampler
from learner.monitoring.summary import RunSummary, summarize
from learner.monitoring.web import WebServer, pages_of
from learner.optim.parameters import arrays_of
from learner.security.access import AccessList
from learner.threads import WorkThread
from protocol import frames as framing
from protocol import messages
from protocol.buffers import Buffer
from protocol.errors import TRY_AGAIN, PeerFault
from protocol.messages import Hello
from protocol.process.descriptors import RESERVE
from protocol.process.notify import Supervisor

TICK_S = 0.05
SHOW_S = 0.25  # between refreshes of the terminal
STUCK_S = 30.0  # a math thread that is busy for longer is not alive


class Ending:
    """How the daemon ends, decided once. decided: the exit code, or an exception that ends it with its traceback."""

    def __init__(self) -> None:
        self.decided: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(self, exit_code: int) -> None:
        """In order."""
        if not self.decided.done():
            self.decided.set_result(exit_code)

    def fail(self, error: BaseException) -> None:
        """By a fault of our own, or one that a person has to put right."""
        if not self.decided.done():
            self.decided.set_exception(error)


class Service:
    """One life of the learner that has begun."""

    def __init__(
        self,
        begun: Begun,
        resources: Resources,
        access: AccessList,
        supervisor: Supervisor,
        ending: Ending,
    ) -> None:
        self.state, self._limits, self._digest = begun.state, begun.limits, begun.digest
        self._parameters, self._stream, self._store = begun.parameters, begun.stream, begun.store
        self._options, self._directory = resources.options, resources.directory
        self._sockets, self._console, self._http = resources.sockets, resources.console, resources.http
        self._access, self._supervisor, self._ending = access, supervisor, ending
        self._loop = asyncio.get_running_loop()
        self._math = WorkThread("math", self._loop, self._done, ending.fail)
        self._disk = WorkThread("disk", self._loop, self._done, ending.fail, start=resources.start)
        self._site: WebServer | None = None
        self._sampler: Sampler | None = None  # where there are pages, or a terminal
        self._place = Place()
        self._view: RunSummary | None = None
        self._stages = StageTeller(begun.state.experiment, begun.state.progress.env_steps)
        self._adviser = Adviser(begun.state.experiment, begun=begun.state.address.epoch > 1)
        self._show_at, self._pace = 0.0, ProgressInterval()
        self._shell = ServiceReadings(
            loop_busy_s=time.thread_time,  # pages are rendered on the loop's thread
            math_busy_s=lambda: self._math.busy_s,
            unauthenticated=lambda: resources.sockets.unauthenticated,
            journal=begun.store.journal_stats,
        )

    async def open_pages(self) -> None:
        """Serves them where they are asked for, and says where everything is."""
        state, manifest = self.state, self.state.manifest
        bound = [str(address) for address in self._sockets.bound[1:]]
        self._place = Place(str(self._directory.path), await self._open_site(), bound)
        started: dict[str, object] = {
            "run": manifest.run,
            "run_dir": self._place.run_dir,
            "epoch": state.address.epoch,
            "version": state.progress.version,
            "env_steps": state.progress.env_steps,
            "parameters": manifest.layout.length,
            "bound": bound,
            "http": self._place.page,
        }
        self._announce("started", started)

    async def serve(self) -> int:
        """Until the run ends; returns the exit code."""
        receiving = self._loop.create_task(self._sockets.receive(self._received))
        ticking = self._loop.create_task(self._tick())
        await first_of(receiving, ticking, self._ending.decided)
        ticking.cancel()
        receiving.cancel()
        await asyncio.gather(receiving, ticking, return_exceptions=True)
        for task in (receiving, ticking):
            if not task.cancelled():
                task.result()  # a bug in a handler ends the daemon with its traceback
        return self._conclude(self._ending.decided.result())  # a run that failed raises what it failed of

    async def close(self) -> None:
        """Afterwards no thread and no open port is left."""
        if self._site is not None:
            await self._site.stop()
        if all([self._math.close(), self._disk.close()]):  # a disk that hangs keeps its file: the number of one that
            self._store.close()  # was closed may be another's by the time it wakes

    async def _open_site(self) -> str | None:
        """Serves the pages; their address, or None where they are off."""
        if self._http is None and not self._console.live:
            return None
        state = self.state
        past = await self._loop.run_in_executor(None, self._directory.progress_lines, EARLIER_POINTS)
        self._sampler = Sampler(read_earlier_lives(past, state.progress.env_steps), self._adviser.given)
        if self._http is None:
            return None
        metrics = Metrics(state, time.monotonic, self._shell)
        pages = pages_of(state, metrics.render, time.monotonic, self._stuck, self._sampler)
        host = str(self._options.http).rpartition(":")[0]
        self._site = WebServer(self._http, pages, [*self._options.http_names, host])
        return f"http://{host}:{await self._site.start()}"

    def _stuck(self) -> str | None:
        busy_s = self._math.busy_s
        return f"the math thread has been busy for {busy_s:.0f} s" if busy_s > STUCK_S else None

    def _conclude(self, exit_code: int) -> int:
        """Leaves the run's result; returns the exit code, 1 where it could not be written, unless that is 75."""
        now = time.monotonic()
        self._show(now, last=True)
        result = result_of(self.state, now, self._options.started_at, exit_code, self._adviser.given)
        try:
            self._directory.write_result(result)
        except OSError as error:
            self._announce("result_failed", {"detail": error.strerror or str(error)})
            return exit_code if exit_code == TRY_AGAIN else 1
        finally:
            self._announce("finished", result)
        return exit_code

    # events

    def post(self, event: Event) -> None:
        """Asks the state, and does what it says."""
        for effect in self.state.handle(event, time.monotonic()):
            _PERFORM[type(effect)](self, effect)

    def _received(self, route: bytes, key: str, frames: Sequence[Buffer]) -> None:
        wire_bytes = sum(map(len, frames))
        event: Event
        try:
            framing.check(frames, self._limits)
            message, buffers = messages.decode(frames)
            event = events.MessageArrived(route, message, buffers, wire_bytes, key)
            if isinstance(message, Hello):
                event = replace(event, local=self._sockets.local(), roles=self._access.roles(key))
        except PeerFault as fault:
            event = events.FaultArrived(route, fault, wire_bytes)
        self.post(event)

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._shell.loop_lag.observe(max(0.0, time.monotonic() - due))
            if (revoked := self._access.poll(time.monotonic())) is not None:
                self.post(revoked)
            RESERVE.fill()
            self.post(events.Ticked())
            self._show(time.monotonic())
            if self._stuck() is None:
                self._supervisor.alive(time.monotonic())

    def _done(self, event: Event) -> None:
        if not self._ending.decided.done():  # what finishes after the end is in no result, and its log may be closed
            self.post(event)

    # effects

    def _send(self, effect: events.Send) -> None:
        frames = messages.encode(effect.message, effect.buffers)
        if self._sockets.send(effect.route, frames):
            self.post(events.MessageSent(effect.message, sum(map(len, frames))))

    def _publish(self, effect: events.Publish) -> None:
        frames = messages.encode(effect.message, effect.buffers)
        self._sockets.publish(frames)
        self.post(events.MessageSent(effect.message, sum(map(len, frames))))

    def _apply(self, effect: events.ApplyBatch) -> None:
        journal, epoch = self._store.journal, self.state.address.epoch
        self._math.submit(partial(apply_batch, self._parameters, self._stream, effect, epoch, journal))

    def _write_checkpoint(self, effect: events.WriteCheckpoint) -> None:
        """Copied on the math thread, between two batches; packed and written on the disk thread."""
        parameters, epoch, store = self._parameters, self.state.address.epoch, self._store

        def copy() -> Event | None:
            if (refused := store.refuse(parameters.version)) is not None:
                return refused
            arrays = parameters.checkpoint_arrays()
            kept = Checkpoint(self._digest, parameters.version, epoch, effect.counters, arrays)
            based = store.append_mark(kept, rebase=effect.rebase)
            self._disk.submit(partial(store.save, kept, based=based))
            return events.JournalBegan(kept.version) if based else None

        self._math.submit(copy)

    def _write_best(self, effect: events.WriteBest) -> None:
        """The record is immutable, so the math thread need not be asked."""
        record, buffers = effect.record
        kept = Checkpoint(
            manifest=self._digest,
            version=record.version,
            epoch=record.epoch,
            counters=effect.counters,
            arrays=arrays_of(record, buffers),
            score=effect.score,
            evaluator=effect.public_key,
        )
        self._disk.submit(partial(self._store.save_best, kept, leads=effect.leads))

    def _lead_best(self, effect: events.LeadBest) -> None:
        self._disk.submit(partial(self._store.promote_best, effect.public_key, effect.version))

    def _announce(self, event: str, fields: dict[str, object]) -> None:
        self._console.event(event, fields)
        self._directory.record(event, self.wall_s(), fields)

    def wall_s(self) -> float:
        """Seconds since an actor of this life was first handed weights."""
        since = self.state.training_since
        return 0.0 if since is None else time.monotonic() - since

    def _show(self, now: float, *, last: bool = False) -> None:
        """Progress for people and for progress.jsonl, a few times a second. last: what was reached, at any rate."""
        if now < self._show_at and not last:
            return
        self._show_at = now + SHOW_S
        self._view = summarize(self.state, now, self._view)
        self._console.refresh(self._view, self.state.progress.averages.newest())
        for stage in self._stages.passed(self.state.progress.env_steps):
            self._announce("stage_began", stage)
        for advice in self._adviser.look(self.state.progress, self._parameters.moments):
            self._announce("advice", advice._asdict())
        if self._sampler is not None:
            self._sampler.sample(self.state, now)
            if self._console.live:
                self._console.show(scene_of(self.state, self._view, self._sampler, self._place))
        if self._pace.due(self._view.env_steps, now) or last:
            told = {**self._view.fields(), **self.state.progress.averages.take()}
            self._directory.record("progress", self.wall_s(), told)


async def first_of(*futures: asyncio.Future[Any]) -> None:
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
    events.Finish: lambda service, effect: service._ending.end(effect.exit_code),
}
