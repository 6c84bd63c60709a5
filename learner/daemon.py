"""From options to an exit code: opens what one life of the learner needs, serves, closes it in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import uvloop

from learner.launch.options import Options, host_and_port
from learner.launch.run_directory import RunDirectory
from learner.launch.scratch import scratch_folder
from learner.monitoring.console import Console
from learner.monitoring.web import bind
from learner.security.access import issue_local_keys
from learner.security.keyring import Keyring
from learner.service import Service, heed_signals
from protocol.process.descriptors import RESERVE, Apart, raise_limit
from protocol.process.notify import Supervisor
from protocol.transport.address import parse_address, require_private
from protocol.transport.learner_sockets import CurveAuth, LearnerSockets

LEAST_FILES, FILES_PER_ACTOR = 96, 8  # a learner opens 40, and for each actor 2 connections and up to 4 pipes


def run(options: Options) -> int:
    """Serves one run until it ends; returns the exit code. Raises UserError for what a person can put right."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(options))
        finally:
            heed_signals(signal.SIG_IGN)  # the exit code is decided, and nothing is left that they could end


async def _serve(options: Options) -> int:
    """Opens what the run needs, in the order in which a mistake is cheapest to report, and closes it in reverse."""
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
        console = Console(options.json)
        stack.callback(console.close)
        if options.proceed and (code := directory.over(options.experiment)) is not None:
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
        service = Service(options, directory, sockets, console, site, ring, apart.start)
        stack.push_async_callback(service.close)
        if ring is not None:
            issue_local_keys(ring, options.experiment.run.actors, Path(scratch))
        return await service.serve(str(local), None if ring is None else Path(scratch))
