"""From options to an exit code: opens what one life of the learner needs, serves, closes it in reverse.

Knows signals, and what has to be answered before there is a run: everything after that is the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from learner.events import StopRequested
from learner.launch.bootstrap import Resources, begin
from learner.launch.guests import leave, leave_within, own_stdout
from learner.launch.local_actors import ChildFailed, LocalActors
from learner.launch.options import Options, host_and_port
from learner.launch.run_directory import RunDirectory
from learner.launch.scratch import scratch_folder
from learner.launch.watchers import find_watchers, watched
from learner.monitoring.console import Console
from learner.monitoring.history import EARLIER_POINTS, read_earlier_lives
from learner.monitoring.sinks.feed import END_S, Feeds
from learner.monitoring.web import bind
from learner.progress import MAX_STEPS
from learner.security.access import AccessList, issue_local_keys
from learner.security.keyring import Keyring
from learner.service import Ending, Service, first_of
from protocol.errors import UserError
from protocol.process.descriptors import RESERVE, Apart, raise_limit
from protocol.process.interrupts import Interrupts
from protocol.process.notify import Supervisor
from protocol.transport.address import parse_address, require_private
from protocol.transport.learner_sockets import CurveAuth, LearnerSockets

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_S = 3.0  # local actors may take this long to leave before they are killed
PARENT_S = 0.25  # between looks for the program that started this one, where it must not be survived
LEAST_FILES, FILES_PER_ACTOR = 96, 8  # a learner opens 40, and for each actor 2 connections and up to 4 pipes


@dataclass
class Parting:
    """What the end of the process depends on. watchers: their names. unfinished: of those that are busy still.

    left_s: what they all have left of their time.
    """

    watchers: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    left_s: float = END_S


def run(options: Options) -> int:
    """Serves one run until it ends; returns the exit code. Raises UserError for what a person can put right."""
    parting = Parting(watched(options))
    who = ", ".join(parting.watchers)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                code = runner.run(serve(options, parting))
            finally:
                handle_signals(signal.SIG_IGN)  # the exit code is decided, and nothing is left that they could end
    except BaseException as error:
        if who:
            leave_within(parting.left_s, error.exit_code if isinstance(error, UserError) else 1, who)
        raise
    if parting.unfinished:  # what they have registered to be waited for at the end of a process was waited for
        leave(code)
    if who:
        leave_within(parting.left_s, code, who)
    return code


async def serve(options: Options, parting: Parting) -> int:
    """Opens what the run needs, in the order in which a mistake is cheapest to report, and closes it in reverse."""
    earlier_s = 0.0  # of training in earlier lives
    stdout = own_stdout() if parting.watchers else None
    watchers = find_watchers(options, lambda: earlier_s)
    raise_limit(LEAST_FILES + FILES_PER_ACTOR * options.experiment.run.actors, "a learner with so many local actors")
    apart = Apart()
    RESERVE.fill()
    for text in options.bind:
        require_private(parse_address(text), options.insecure or options.keys is not None)
    ring = None if options.keys is None else Keyring(options.keys)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(apart.close)
        scratch = stack.enter_context(scratch_folder())
        site = stack.enter_context(bind(*host_and_port(options.http))) if options.http is not None else None
        directory = stack.enter_context(RunDirectory.prepare(options.run_dir, options.resume, options.proceed))
        if watchers and directory.resuming:
            earlier_s = read_earlier_lives(directory.progress_lines(EARLIER_POINTS), MAX_STEPS).time_s
        console = Console(options.json, stdout)
        stack.callback(console.close)
        if options.proceed and (code := directory.finished_exit_code(options.experiment)) is not None:
            console.event("over", {"run_dir": str(directory.path), "why": "the run has ended as it was asked to"})
            supervisor = Supervisor(os.environ)
            supervisor.ready()  # systemd takes one that ends before for one that failed, and starts it for ever
            supervisor.stopping()
            return code
        local = parse_address(f"ipc://{scratch}/learner")
        quantity = options.experiment.learner.quantity
        auth = None if ring is None else CurveAuth(ring.pair.secret, ring.name)
        sockets = LearnerSockets([local, *map(parse_address, options.bind)], quantity=quantity, auth=auth)
        stack.callback(sockets.close)
        keys = None if ring is None else Path(scratch)
        daemon = Daemon(
            Resources(options, directory, sockets, console, site, ring, str(local), keys, apart.start, watchers)
        )

        def ends() -> None:
            parting.unfinished, parting.left_s = daemon.feeds.unfinished, daemon.feeds.left_s

        stack.callback(ends)
        stack.push_async_callback(daemon.close)
        if ring is not None:
            issue_local_keys(ring, options.experiment.run.actors, Path(scratch))
        return await daemon.serve()


def handle_signals(handler: Any) -> None:
    """Python's own handlers, and not the loop's, which puts the system's defaults in their place when it closes."""
    for number in SIGNALS:
        signal.signal(number, handler)


def resuming(options: Options) -> str:
    """The command that goes on with a run, with what its directory does not hold."""
    words = ["learner", "run", "--resume", "--run-dir", str(options.run_dir)]
    words += [word for address in options.bind for word in ("--bind", address)]
    words += ["--insecure"] * options.insecure
    flags = {"--keys": options.keys, "--initial": options.initial, "--tensorboard": options.tensorboard}
    for flag, given in {**flags, "--wandb": options.wandb, "--mlflow": options.mlflow}.items():
        words += [] if given is None else [flag, str(given)]
    return shlex.join([*words, *(word for module in options.allow_modules for word in ("--allow-module", module))])


class Daemon:
    """One life of the learner, before it has begun and after. service: None until then."""

    def __init__(self, resources: Resources) -> None:
        self.service: Service | None = None
        self.ending = Ending()
        self._resources = resources
        self._access = AccessList(resources.ring, resources.sockets, self.announce)
        self.local_actors = LocalActors(
            resources.local,
            resources.options.experiment.run.actors,
            resources.options.allow_modules,
            self.local_actors_ended,
            self.announce,
            keys=resources.keys,
        )
        self.feeds = Feeds(resources.watchers, self.announce)
        resources.directory.heard_by = self.feeds.submit
        self._loop, self._supervisor = asyncio.get_running_loop(), Supervisor(os.environ)
        self._interrupts, self._asked_to_stop = Interrupts(), False
        self._watching: asyncio.Task[None] | None = None

    async def serve(self) -> int:
        """From the first signal handler to the last goodbye; returns the exit code."""
        handle_signals(lambda number, _: self._loop.call_soon_threadsafe(self.signalled, number))
        if (parent := self._resources.options.parent) is not None:
            self._watching = self._loop.create_task(self._watch(parent))
        beginning = self._loop.create_task(self._begin())
        await first_of(beginning, self.ending.decided)
        if not beginning.done():  # stopped before it began
            self._supervisor.stopping()
            beginning.cancel()
            await self.local_actors.stop(STOP_S)  # a journal that is being restored is waited for, however long it is
            await asyncio.gather(beginning, return_exceptions=True)
            return self.ending.decided.result()
        self.service = beginning.result()
        await self.service.open_pages()
        self._supervisor.ready()
        return await self.service.serve()

    async def close(self) -> None:
        """Ends what was started: afterwards no child, no thread and no open port is left."""
        self._supervisor.stopping()
        if self._watching is not None:
            self._watching.cancel()
        await self.local_actors.stop(STOP_S)
        if self.service is not None:
            if self._asked_to_stop:
                self._resources.console.say(f"to go on: {resuming(self._resources.options)}")
            await self.service.close()
        await self.feeds.close()

    async def _begin(self) -> Service:
        def from_thread(event: str, fields: dict[str, object]) -> None:
            self._loop.call_soon_threadsafe(self.announce, event, fields)

        begun = await begin(self._resources, self.local_actors, self._access.roles, from_thread)
        return Service(begun, self._resources, self._access, self._supervisor, self.ending)

    def announce(self, event: str, fields: dict[str, object]) -> None:
        """Tells people and progress.jsonl."""
        self._resources.console.event(event, fields)
        self._resources.directory.record(event, 0.0 if self.service is None else self.service.wall_s(), fields)

    def signalled(self, number: int) -> None:
        """Once: drain, where that has not begun. Twice: at once. Before the run began there is nothing to drain."""
        meaning, name = self._interrupts.receive(number, time.monotonic()), signal.Signals(number).name
        if meaning == "first":
            self._stop(name)
        elif self.service is None:
            self.ending.end(0)
            if meaning == "insists":
                self.local_actors.kill()
        elif meaning == "insists":
            if not self.ending.decided.done():
                self.announce("stopped_at_once", {"why": f"a second signal, {name}"})
            self.ending.end(1)
            self.local_actors.kill()

    def _stop(self, why: str) -> None:
        """Drains, or ends what has not begun."""
        if self.service is None:
            self.ending.end(0)
            return
        self._asked_to_stop = True
        self.service.post(StopRequested(why, 0))

    async def _watch(self, parent: int) -> None:
        """Stops once the process that started this one is gone."""
        while os.getppid() == parent:  # noqa: ASYNC110 - nothing else tells of it on every system
            await asyncio.sleep(PARENT_S)
        self._stop("the program that started it is gone")

    def local_actors_ended(self, detail: str, exit_code: int) -> None:
        """A local actor refuses its configuration, or none is left: the end, unless remote ones still train.

        What was learnt is saved first; a run that has learnt nothing yet fails with the actor's own words.
        """
        self.announce("actors_gone", {"detail": detail})
        if exit_code == 2 and (self.service is None or not self.service.state.progress.version):
            self.ending.fail(ChildFailed(detail))
        elif self.service is None:
            self.ending.end(exit_code)
        elif all(self._access.is_local(peer) or not peer.trains for peer in self.service.state.peers.values()):
            self.service.post(StopRequested(detail, exit_code))
